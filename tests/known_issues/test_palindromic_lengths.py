"""Palindromic VC at lengths that it was not trained on: one long piece lost most of what it had learned, and padding moved its output."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from shards_fixture import TinyCorpus, tiny_corpus
from tensors import noise
from torch import Tensor, nn

from bowerbird.stages.training.data import StageData
from bowerbird.systems.base import BatchSpec
from bowerbird.systems.palindromic.network import Converter, convert_in_windows

NANO = {"layers": 2, "heads": 2, "width": 32, "feedforward": 48, "dropout": 0.0}


@pytest.fixture(params=["concat", "cross_attention"])
def converter(request: pytest.FixtureRequest) -> Converter:
    torch.manual_seed(0)
    made = Converter(8, conditioning=request.param, **NANO)
    nn.init.normal_(made.outward.weight, generator=torch.Generator().manual_seed(1))
    return made.eval()


@torch.no_grad()
def test_padding_of_a_prompt_moves_nothing(converter: Converter) -> None:
    features, prompt = noise(2, 6, 8), noise(2, 10, 8, seed=2)
    frames = torch.tensor([7, 4])
    padded = converter(features, prompt, frames)
    for row, count in enumerate(frames.tolist()):
        alone = converter(features[row : row + 1], prompt[row : row + 1, :count], torch.tensor([count]))
        torch.testing.assert_close(padded[row], alone[0], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_padding_of_the_input_moves_nothing(converter: Converter) -> None:
    features, prompt, frames = noise(1, 9, 8), noise(1, 5, 8, seed=2), torch.tensor([5])
    padded = converter(features, prompt, frames, torch.tensor([6]))[:, :6]
    torch.testing.assert_close(padded, converter(features[:, :6], prompt, frames), atol=1e-5, rtol=1e-5)


class Recorder(nn.Module):
    """Adds to each frame its place in the window, and remembers how long windows were."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def forward(self, features: Tensor, prompt: Tensor, prompt_frames: Tensor) -> Tensor:
        self.seen.append(features.shape[1])
        return features + torch.arange(features.shape[1])[None, :, None]


@pytest.mark.parametrize("length", [1, 39, 40, 41, 70, 71, 400])
def test_long_speech_goes_through_in_windows_of_the_trained_length(length: int) -> None:
    recorder, features = Recorder(), noise(length, 3)
    found = convert_in_windows(recorder, features, noise(5, 3), 40)  # type: ignore[arg-type]
    assert found.shape == features.shape and torch.isfinite(found).all()
    assert set(recorder.seen) == {min(length, 40)}
    added = (found - features)[:, 0]
    assert float(added.min()) > -1e-3 and float(added.max()) < 40 + 1e-3
    assert length <= 40 or float(added.diff().min()) > -4  # one window fades into the next, without a step


@torch.no_grad()
def test_windows_are_what_they_are_alone(converter: Converter) -> None:
    features, prompt = noise(70, 8), noise(6, 8, seed=3)
    found = convert_in_windows(converter, features, prompt, 40)
    first = converter(features[None, :40], prompt[None], torch.tensor([6]))[0]
    torch.testing.assert_close(found[:30], first[:30], atol=1e-5, rtol=1e-5)  # before the second window begins


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> TinyCorpus:
    return tiny_corpus(tmp_path_factory.mktemp("corpus"), speakers=3, utterances=4, seconds=1.0, splits=("train",))


def test_prompts_are_put_together_from_several_utterances(corpus: TinyCorpus, tmp_path: Path) -> None:
    roles = frozenset({"features", "prompt", "prompt_frames"})
    data = StageData(BatchSpec(roles, 10, prompt_frames=(20, 130)), corpus.manifest, {"features": corpus.features})
    item = next(i for i in data.items("train") if i.utt_id == "spk1-00")
    others = [torch.from_numpy(corpus.frames[f"spk1-0{take}"]).float() for take in (1, 2, 3)]
    long = data.prompt(item, 0, 10, 130, (0.4, 0.5))  # from the second of the others on
    expected = torch.cat([others[1], others[2], others[0]])[:130]
    assert torch.equal(long["prompt"], expected) and int(long["prompt_frames"]) == 130
    short = data.prompt(item, 0, 10, 20, (0.0, 0.5))["prompt"]
    start = int(0.5 * (len(others[0]) - 20 + 1))
    assert torch.equal(short, others[0][start : start + 20])
    everything = data.prompt(item, 0, 10, 500, (0.0, 0.0))
    assert int(everything["prompt_frames"]) == sum(map(len, others)) and everything["prompt"].shape == (500, 16)
