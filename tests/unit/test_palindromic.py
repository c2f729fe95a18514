"""Palindromic VC beside its paper: sizes, what the converter may look at, the speaker loss."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tensors import noise
from torch import nn

from bowerbird.config.loading import parse_config
from bowerbird.config.systems.palindromic import ConverterStage
from bowerbird.encoders.speaker import load_speaker_network
from bowerbird.systems.palindromic.network import Converter, build_converter
from bowerbird.systems.palindromic.training import ConverterTraining, SpeakerLoss

NANO = {"layers": 2, "heads": 2, "width": 32, "feedforward": 48, "dropout": 0.0}


def awake(converter: Converter) -> Converter:
    """Its last layer starts at zero; here it says something."""
    nn.init.normal_(converter.outward.weight, generator=torch.Generator().manual_seed(1))
    return converter.eval()


def full(**options: Any) -> Converter:
    """With the sizes that the stage has by default."""
    return build_converter({**ConverterStage(**options).model_dump(), "feature_dim": 1024})


def nano(conditioning: str = "concat") -> Converter:
    torch.manual_seed(0)
    return awake(Converter(8, conditioning=conditioning, **NANO))


def test_the_full_converter_has_77_million_parameters() -> None:
    with torch.device("meta"):
        converter = full()
    assert sum(p.numel() for p in converter.parameters()) == pytest.approx(77e6, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("conditioning", ["concat", "cross_attention"])
def test_full_width_forward_and_backward_reach_every_parameter(conditioning: str) -> None:
    """Width, heads and feed-forward of the paper; two of the six layers, so that the test takes seconds."""
    converter = awake(full(layers=2, conditioning=conditioning))
    features, prompt = noise(2, 12, 1024), noise(2, 9, 1024, seed=1)
    output = converter(features, prompt, torch.tensor([9, 5]))
    assert output.shape == features.shape
    output.square().mean().backward()
    for name, parameter in converter.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_training_starts_from_no_conversion() -> None:
    features = noise(1, 6, 8)
    output = Converter(8, **NANO)(features, noise(1, 5, 8), torch.tensor([5]))
    assert torch.equal(output, features)


@pytest.mark.parametrize("conditioning", ["concat", "cross_attention"])
def test_padding_of_the_prompt_is_not_read_and_speech_is(conditioning: str) -> None:
    converter = nano(conditioning)
    features, prompt = noise(1, 6, 8), noise(1, 10, 8, seed=2)
    changed = prompt.clone()
    changed[:, 7:] = 100.0
    frames = torch.tensor([7])
    plain = converter(features, prompt, frames)
    assert torch.allclose(converter(features, changed, frames), plain, atol=1e-5)
    changed[:, 6] += 1.0
    assert not torch.allclose(converter(features, changed, frames), plain, atol=1e-3)


def test_speaker_loss_is_zero_for_the_same_wave_and_its_gradient_reaches_the_wave() -> None:
    loss = SpeakerLoss(load_speaker_network("ge2e"), hidden_weight=1.0)
    wave = 0.1 * noise(2, 32000)
    same = loss(wave, list(wave))
    assert float(same["speaker"]) == pytest.approx(0.0, abs=1e-5)
    other = (0.1 * noise(2, 32000, seed=5)).cumsum(-1).diff(prepend=torch.zeros(2, 1)).requires_grad_(True)
    found = loss(other, [0.05 * noise(16000, seed=7).cumsum(0) for _ in range(2)])
    assert float(found["speaker"].detach()) > 0.01
    found["speaker"].backward()
    assert other.grad.abs().sum() > 0
    assert all(p.grad is None for p in loss.parameters())


def test_the_speaker_losses_weight_rises_over_the_warm_up() -> None:
    training = ConverterTraining.__new__(ConverterTraining)
    training.options = ConverterStage(speaker_weight=0.5, speaker_from=10, speaker_warmup=4)
    assert [training.speaker_weight(step) for step in (1, 10, 11, 12, 14, 99)] == [0, 0, 0.125, 0.25, 0.5, 0.5]


def test_mistakes_are_told_in_the_configs_words() -> None:
    study = {"features": {"nano": {}}, "pairs": {"knn4": {}}}
    converter = {"prompt_min_s": 5, "prompt_max_s": 3}
    with pytest.raises(Exception, match=r"converter.prompt_max_s: 3: shorter than prompt_min_s = 5"):
        parse_config(
            study
            | {
                "experiments": {
                    "p": {"system": "palindromic", "vocoder": "bundled:nano-vocoder", "converter": converter}
                }
            }
        )
