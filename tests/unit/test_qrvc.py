"""QR-VC beside its paper: sizes, look-up, linearity, what is trained and what is not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tensors import millions, noise

from bowerbird.config.systems.qrvc import ResynthesisStage
from bowerbird.nn.discriminators import vits_discriminators
from bowerbird.nn.nearest import SearchPool
from bowerbird.nn.quantizer import Quantizer
from bowerbird.systems.base import StageInputs, Utterance
from bowerbird.systems.qrvc.network import Disentangler
from bowerbird.systems.qrvc.system import QrVC
from bowerbird.systems.qrvc.training import ResynthesisTraining
from bowerbird.systems.vocoder.network import build_generator


def test_sizes_are_the_published_ones() -> None:
    """58.74 M with the generator, 46.75 M in the discriminators."""
    with torch.device("meta"):
        disentangler, generator = Disentangler(torch.zeros(4, 1024)), build_generator("hifigan-1024", 1024)
        discriminators = vits_discriminators()
    assert millions(disentangler, generator) == pytest.approx(58.74, abs=0.005)
    assert millions(discriminators) == pytest.approx(46.75, abs=0.005)


@pytest.mark.parametrize("assignment", ["cosine", "euclidean"])
def test_look_up_agrees_with_brute_force_and_with_the_codebook_stage(assignment: str) -> None:
    centroids, frames = noise(37, 12), noise(5, 40, 12, seed=1)
    quantized, codes = Quantizer(centroids, assignment)(frames)
    points, table = frames.reshape(-1, 12).double().numpy(), centroids.double().numpy()
    if assignment == "cosine":
        unit = points / np.linalg.norm(points, axis=1, keepdims=True)
        expected = (unit @ (table / np.linalg.norm(table, axis=1, keepdims=True)).T).argmax(1)
    else:
        expected = ((points[:, None] - table[None]) ** 2).sum(-1).argmin(1)
    assert codes.reshape(-1).tolist() == expected.tolist()
    units = SearchPool(centroids.numpy(), assignment).best(points.astype(np.float32))  # as the stage `codebook` does
    assert codes.reshape(-1).tolist() == units.tolist()
    assert torch.equal(quantized, centroids[codes])  # not normalized


@pytest.mark.parametrize("variation_dim", [0, 1, 8])
def test_between_features_and_vocoder_all_is_linear(variation_dim: int) -> None:
    """Superposition of (Q, R, s), once the biases are taken off."""
    torch.manual_seed(0)
    disentangler = Disentangler(noise(4, 16), variation_dim).double()
    one, two = (
        [noise(1, 9, 16, seed=s).double(), noise(1, 9, 16, seed=s + 1).double(), noise(1, 16, seed=s + 2).double()]
        for s in (10, 20)
    )
    zero = disentangler.combine(*(torch.zeros_like(x) for x in one))

    def linear(arguments: list[torch.Tensor]) -> torch.Tensor:
        return disentangler.combine(*arguments) - zero

    mixed = [2.5 * a - 1.5 * b for a, b in zip(one, two, strict=True)]
    assert torch.allclose(linear(mixed), 2.5 * linear(one) - 1.5 * linear(two), atol=1e-12)
    assert linear(one).abs().max() > 0.1


def test_gradient_reaches_every_weight_and_not_the_codebook() -> None:
    torch.manual_seed(0)
    disentangler, generator = Disentangler(noise(4, 8), 2), build_generator("vocos-nano", 8)
    generator(disentangler(noise(2, 12, 8, seed=3))).square().mean().backward()
    for name, parameter in (*disentangler.named_parameters(), *generator.named_parameters()):
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    assert "quantizer.centroids" in dict(disentangler.named_buffers())
    assert not disentangler.quantizer.centroids.requires_grad


def test_conversion_takes_content_from_the_source_and_the_mean_residual_from_the_target() -> None:
    torch.manual_seed(0)
    disentangler = Disentangler(noise(4, 8), 2)

    class Echo:
        def vocode(self, features: torch.Tensor) -> torch.Tensor:
            return features.flatten()

    def utterance(name: str, features: torch.Tensor) -> Utterance:
        return Utterance(name, torch.zeros(320 * len(features)), features)

    source, one, two = noise(7, 8, seed=1), noise(9, 8, seed=2), noise(5, 8, seed=3)
    with torch.no_grad():
        converted = QrVC(disentangler, Echo()).convert(
            utterance("s", source), [utterance("a", one), utterance("b", two)]
        )
        quantized, residual = disentangler.split(source[None])
        _, target = disentangler.split(torch.cat([one, two])[None])
        expected = disentangler.combine(quantized, residual, target.mean(1))[0]
        itself = QrVC(disentangler, Echo()).convert(utterance("s", source), [utterance("s", source)])
        assert torch.allclose(itself.features, disentangler(source[None])[0], atol=1e-6)  # what training resynthesises
    assert torch.allclose(converted.features, expected, atol=1e-6)


def test_it_goes_on_from_another_qrvc_with_this_studys_codebook(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """`start_from` a QR-VC: generator and disentangler are its own, the centroids this study's."""

    def stage(seed: int, start: str = "", variation_dim: int = 8) -> ResynthesisTraining:
        torch.manual_seed(seed)
        codebook = tmp_path / f"centroids-{seed}.safetensors"
        save_file({"centroids": noise(4, 16, seed=seed)}, codebook)
        options = ResynthesisStage(generator="vocos-nano", start_from=start, variation_dim=variation_dim)
        return ResynthesisTraining(options, StageInputs(16, codebook=codebook))

    before = stage(1)
    save_file(before.exported.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(before.architecture()))
    after = stage(2, start=str(tmp_path))
    for name, tensor in after.exported.state_dict().items():
        if name != "disentangler.quantizer.centroids":
            assert torch.equal(tensor, before.exported.state_dict()[name]), name
    assert torch.equal(after.disentangler.quantizer.centroids, noise(4, 16, seed=2))
    plain = stage(3, start=str(tmp_path), variation_dim=0)  # has other parts: the generator alone is taken
    assert "its variation_dim differs: only its generator is taken" in caplog.text
    assert torch.equal(plain.generator.conv_pre.weight, before.generator.conv_pre.weight)
    assert plain.disentangler.speaker.weight[0, 0, 0] > 0.9  # near identity
