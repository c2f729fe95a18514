"""BigVGAN: its published size, its reach, anti-aliased activations, its discriminators."""

from __future__ import annotations

import pytest
import torch
from tensors import millions, noise
from torch import Tensor

from bowerbird.nn.bigvgan import AntiAliased, BigVgan
from bowerbird.nn.discriminators import bigvgan_discriminators


def test_bigvgan_base_has_14_million_parameters_and_makes_320_samples_a_frame() -> None:
    published = BigVgan(100, upsample_rates=(8, 8, 2, 2), upsample_kernels=(16, 16, 4, 4))
    generator = BigVgan()
    assert millions(published) == pytest.approx(14.0, abs=0.05)
    assert millions(generator) == pytest.approx(13.82, abs=0.01)
    wave = generator(noise(2, 5, 80))
    assert wave.shape == (2, 1600)
    wave.square().mean().backward()
    for name, parameter in generator.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_its_reach_is_the_context_that_it_states() -> None:
    torch.manual_seed(0)
    generator = BigVgan(8, channels=16).eval()
    mels = noise(1, 81, 8)
    changed = mels.clone()
    changed[:, 40] += 1.0
    with torch.no_grad():
        differs = (generator(mels) != generator(changed))[0].nonzero()[:, 0]
    reach = max(40 * 320 - int(differs.min()), int(differs.max()) - 41 * 320 + 1) / 320
    assert 0 < reach <= generator.context_frames


def test_activations_are_anti_aliased() -> None:
    """Most of what folds back is gone, and slow waves pass. The published filters are short: they are no wall."""
    time = torch.arange(2048, dtype=torch.float32)
    tone = torch.sin(2 * torch.pi * 0.33 * time)[None, None]
    layer = AntiAliased(1)
    with torch.no_grad():
        plain, clean = layer.activation(tone), layer(tone)
    fold = int(0.34 * 2048)  # twice 0.33 is 0.66, which is heard as 0.34

    def level(wave: Tensor) -> float:
        spectrum = torch.fft.rfft(wave[0, 0] * torch.hann_window(2048)).abs()
        return float(spectrum[fold - 4 : fold + 5].max())

    assert level(clean) < 0.3 * level(plain)
    slow = torch.sin(2 * torch.pi * 0.02 * time)[None, None]
    with torch.no_grad():
        assert torch.allclose(layer(slow)[..., 64:-64], layer.activation(slow)[..., 64:-64], atol=0.01)


def test_bigvgans_discriminators_are_five_periods_and_three_resolutions() -> None:
    scores, layers = bigvgan_discriminators()(noise(2, 4000))
    assert len(scores) == 8 and all(score.shape[0] == 2 for score in scores)
    assert [len(activations) for activations in layers] == [6] * 8
