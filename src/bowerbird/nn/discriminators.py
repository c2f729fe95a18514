"""Discriminators of HiFi-GAN (Kong et al. 2020), and of spectrograms in several resolutions (Jang et al. 2021, UnivNet).

Each takes waveforms ``(batch, samples)`` and gives the scores and the inner activations of its sub-discriminators.
``width`` scales every number of channels: 1 is the published size, the nano generators are trained with less.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from bowerbird.nn.mel import stft_magnitude

Norm = Callable[[nn.Module], nn.Module]


Judgement = tuple[list[Tensor], list[list[Tensor]]]  # scores, and activations by layer, of each sub-discriminator


class Discriminators(nn.Module):
    """Several discriminators as one: their scores and activations end to end."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, wave: Tensor) -> Judgement:
        judged = [member(wave) for member in self.members]
        return [score for score, _ in judged], [layers for _, layers in judged]


def hifigan_discriminators() -> Discriminators:
    """HiFi-GAN's: periods 2, 3, 5, 7, 11, and three scales."""
    periods = [PeriodDiscriminator(period) for period in (2, 3, 5, 7, 11)]
    scales = [ScaleDiscriminator(pooling, norm=spectral_norm if pooling == 0 else weight_norm) for pooling in range(3)]
    return Discriminators([*periods, *scales])


def vits_discriminators() -> Discriminators:
    """VITS's (Kim et al. 2021): the five periods and one narrow scale discriminator; 46.75 M parameters."""
    periods = [PeriodDiscriminator(period) for period in (2, 3, 5, 7, 11)]
    plan = ((16, 15, 1, 1), (64, 41, 4, 4), (256, 41, 4, 16), (1024, 41, 4, 64), (1024, 41, 4, 256), (1024, 5, 1, 1))
    return Discriminators([ScaleDiscriminator(0, plan=plan), *periods])


def bigvgan_discriminators() -> Discriminators:
    """BigVGAN's: the five periods, and spectrograms of three resolutions."""
    periods = [PeriodDiscriminator(period) for period in (2, 3, 5, 7, 11)]
    resolutions = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))
    return Discriminators([*periods, *(ResolutionDiscriminator(*resolution) for resolution in resolutions)])


def nano_discriminators() -> Discriminators:
    """A size for two cores: three narrow period discriminators and one of spectrograms (a step takes three times the
    generator's time; scale discriminators at the wave's full rate would double that).
    """
    periods = [PeriodDiscriminator(period, width=1 / 8) for period in (2, 5, 11)]
    return Discriminators([*periods, SpectrogramDiscriminator(1024, 256, 1024)])


class PeriodDiscriminator(nn.Module):
    """Every ``period``-th sample side by side, as an image ``(samples / period, period)``."""

    def __init__(self, period: int, width: float = 1.0) -> None:
        super().__init__()
        self.period = period
        channels = [1, *(int(width * c) for c in (32, 128, 512, 1024, 1024))]
        strides = (3, 3, 3, 3, 1)
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(channels[i], channels[i + 1], (5, 1), (strides[i], 1), padding=(2, 0)))
            for i in range(5)
        )
        self.last = weight_norm(nn.Conv2d(channels[-1], 1, (3, 1), padding=(1, 0)))

    def forward(self, wave: Tensor) -> tuple[Tensor, list[Tensor]]:
        wave = F.pad(wave.unsqueeze(1), (0, -wave.shape[-1] % self.period), mode="reflect")
        return _judge(wave.unflatten(-1, (-1, self.period)), self.layers, self.last)


class ScaleDiscriminator(nn.Module):
    """Strided grouped convolutions over the wave, after ``pooling`` halvings of its rate.

    ``plan`` is (channels, kernel, stride, groups) of each layer; the default is HiFi-GAN's.
    """

    PLAN = (
        (128, 15, 1, 1),
        (128, 41, 2, 4),
        (256, 41, 2, 16),
        (512, 41, 4, 16),
        (1024, 41, 4, 16),
        (1024, 41, 1, 16),
        (1024, 5, 1, 1),
    )

    def __init__(
        self,
        pooling: int,
        width: float = 1.0,
        norm: Norm = weight_norm,
        plan: Sequence[tuple[int, int, int, int]] = PLAN,
    ) -> None:
        super().__init__()
        self.pool = nn.Sequential(*(nn.AvgPool1d(4, 2, padding=2) for _ in range(pooling)))
        layers, inputs = [], 1
        for channels, kernel, stride, groups in plan:
            outputs = int(width * channels)
            convolution = nn.Conv1d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups)
            layers.append(norm(convolution))
            inputs = outputs
        self.layers = nn.ModuleList(layers)
        self.last = norm(nn.Conv1d(inputs, 1, 3, padding=1))

    def forward(self, wave: Tensor) -> tuple[Tensor, list[Tensor]]:
        return _judge(self.pool(wave.unsqueeze(1)), self.layers, self.last)


class SpectrogramDiscriminator(nn.Module):
    """Convolutions over the magnitude spectrogram ``(1, frames, bins)`` of one resolution."""

    def __init__(self, n_fft: int, hop: int, win: int, channels: int = 8) -> None:
        super().__init__()
        self.resolution = (n_fft, hop, win)
        self.register_buffer("window", torch.hann_window(win), persistent=False)
        inputs = [1, *[channels] * 4]
        strides = ((1, 2), (1, 2), (1, 2), (1, 1))
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(inputs[i], channels, (3, 9), strides[i], padding=(1, 4))) for i in range(4)
        )
        self.last = weight_norm(nn.Conv2d(channels, 1, (3, 3), padding=(1, 1)))

    def forward(self, wave: Tensor) -> tuple[Tensor, list[Tensor]]:
        with torch.autocast(wave.device.type, enabled=False):
            magnitude = stft_magnitude(wave.float(), *self.resolution, self.window)
        return _judge(magnitude.transpose(1, 2).unsqueeze(1), self.layers, self.last)


class ResolutionDiscriminator(SpectrogramDiscriminator):
    """The published size: five layers of 32 channels."""

    def __init__(self, n_fft: int, hop: int, win: int, channels: int = 32) -> None:
        super().__init__(n_fft, hop, win, channels)
        plan = ((1, 9, 1), (channels, 9, 2), (channels, 9, 2), (channels, 9, 2), (channels, 3, 1))
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(inputs, channels, (3, width), (1, stride), padding=(1, width // 2)))
            for inputs, width, stride in plan
        )


def _judge(x: Tensor, layers: nn.ModuleList, last: nn.Module) -> tuple[Tensor, list[Tensor]]:
    """Score ``(batch, values)`` and the activation of every layer (the score's included, as published)."""
    activations = []
    for layer in layers:
        x = F.leaky_relu(layer(x), 0.1)
        activations.append(x)
    x = last(x)
    activations.append(x)
    return x.flatten(1), activations
