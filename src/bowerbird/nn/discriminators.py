"""Discriminators of HiFi-GAN (Kong et al. 2020), and of spectrograms at several resolutions (Jang et al. 2021).

Each takes waveforms and gives scores and inner activations. ``width`` scales every number of channels: 1 is the
published size, the nano generators are trained with less.

Letters: ``B`` batch, ``N`` samples, ``V`` values of a score, ``C`` channels, ``T`` frames, ``P`` period.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from bowerbird.nn.losses import RESOLUTIONS
from bowerbird.nn.mel import stft_magnitude

Norm = Callable[[nn.Module], nn.Module]
DiscriminatorOutput = tuple[list[Tensor], list[list[Tensor]]]  # scores (B, V), and activations by layer, of each member

PERIODS = (2, 3, 5, 7, 11)  # HiFi-GAN's


class Discriminators(nn.Module):
    """Several discriminators as one: the lists of their scores and activations."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, wave: Tensor) -> DiscriminatorOutput:
        """Waves ``(B, N)`` to one score ``(B, V)`` and one list of activations ``(B, C, ...)`` per member."""
        outputs = [member(wave) for member in self.members]
        return [score for score, _ in outputs], [layers for _, layers in outputs]


def hifigan_discriminators() -> Discriminators:
    """HiFi-GAN's: periods 2, 3, 5, 7, 11, and three scales."""
    periods = [PeriodDiscriminator(period) for period in PERIODS]
    scales = [ScaleDiscriminator(pooling, norm=spectral_norm if pooling == 0 else weight_norm) for pooling in range(3)]
    return Discriminators([*periods, *scales])


def vits_discriminators() -> Discriminators:
    """VITS's (Kim et al. 2021): the five periods and one narrow scale discriminator; 46.75 M parameters."""
    periods = [PeriodDiscriminator(period) for period in PERIODS]
    plan = ((16, 15, 1, 1), (64, 41, 4, 4), (256, 41, 4, 16), (1024, 41, 4, 64), (1024, 41, 4, 256), (1024, 5, 1, 1))
    return Discriminators([ScaleDiscriminator(0, plan=plan), *periods])


def bigvgan_discriminators() -> Discriminators:
    """BigVGAN's: the five periods, and spectrograms of three resolutions."""
    periods = [PeriodDiscriminator(period) for period in PERIODS]
    return Discriminators([*periods, *(ResolutionDiscriminator(*resolution) for resolution in RESOLUTIONS)])


def nano_discriminators() -> Discriminators:
    """A size for two cores: three narrow period discriminators and one of spectrograms.

    A step takes three times the generator's time; scale discriminators at the wave's full rate would double that.
    """
    periods = [PeriodDiscriminator(period, width=1 / 8) for period in (2, 5, 11)]
    return Discriminators([*periods, SpectrogramDiscriminator(1024, 256, 1024)])


class PeriodDiscriminator(nn.Module):
    """Two-dimensional convolutions over the wave as an image ``(N / P, P)``: every P-th sample side by side."""

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
        """Waves ``(B, N)`` to a score ``(B, V)`` and activations ``(B, C, rows, P)`` of each layer."""
        wave = F.pad(wave.unsqueeze(1), (0, -wave.shape[-1] % self.period), mode="reflect")
        return _score(wave.unflatten(-1, (-1, self.period)), self.layers, self.last)


class ScaleDiscriminator(nn.Module):
    """Strided grouped convolutions over the wave, whose rate is halved ``pooling`` times before.

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
        """Waves ``(B, N)`` to a score ``(B, V)`` and activations ``(B, C, steps)`` of each layer."""
        return _score(self.pool(wave.unsqueeze(1)), self.layers, self.last)


class SpectrogramDiscriminator(nn.Module):
    """Convolutions over the magnitude spectrogram ``(1, T, bins)`` of one resolution."""

    window: Tensor  # (win,)

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
        """Waves ``(B, N)`` to a score ``(B, V)`` and activations ``(B, C, T, bins)`` of each layer."""
        with torch.autocast(wave.device.type, enabled=False):
            magnitude = stft_magnitude(wave.float(), *self.resolution, self.window)
        return _score(magnitude.transpose(1, 2).unsqueeze(1), self.layers, self.last)


class ResolutionDiscriminator(SpectrogramDiscriminator):
    """The published size of `SpectrogramDiscriminator`: five layers of 32 channels."""

    def __init__(self, n_fft: int, hop: int, win: int, channels: int = 32) -> None:
        super().__init__(n_fft, hop, win, channels)
        plan = ((1, 9, 1), (channels, 9, 2), (channels, 9, 2), (channels, 9, 2), (channels, 3, 1))
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(inputs, channels, (3, width), (1, stride), padding=(1, width // 2)))
            for inputs, width, stride in plan
        )


def _score(x: Tensor, layers: nn.ModuleList, last: nn.Module) -> tuple[Tensor, list[Tensor]]:
    """A score ``(B, V)`` and the activation of every layer (the score's included, as published)."""
    activations = []
    for layer in layers:
        x = F.leaky_relu(layer(x), 0.1)
        activations.append(x)
    x = last(x)
    activations.append(x)
    return x.flatten(1), activations
