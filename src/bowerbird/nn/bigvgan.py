"""BigVGAN's generator (Lee et al. 2023): HiFi-GAN with periodic activations that are applied at twice the rate.

Snake-beta gives a bias towards periodic signals; the activation's overtones above half the rate would fold back, so
each one stands between an interpolation by two and a low-pass filter with decimation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

TAPS = 12  # of the filters on either side of an activation


class SnakeBeta(nn.Module):
    """``x + sin^2(alpha x) / beta`` with an alpha and a beta for each channel, kept as logarithms."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha, self.beta = nn.Parameter(torch.zeros(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, channels, samples)``."""
        alpha, beta = self.alpha.exp()[:, None], self.beta.exp()[:, None]
        return x + (alpha * x).sin().square() / (beta + 1.0e-9)


def low_pass(cutoff: float, half_width: float, taps: int = TAPS) -> Tensor:
    """A Kaiser-windowed sinc ``(taps,)`` of even length that sums to 1; frequencies in cycles a sample.

    The window's beta is Kaiser's own for the attenuation that ``taps`` give at a transition of ``half_width``.
    """
    attenuation = 2.285 * (taps // 2 - 1) * math.pi * 4 * half_width + 7.95
    if attenuation > 50:
        beta = 0.1102 * (attenuation - 8.7)
    elif attenuation >= 21:
        beta = 0.5842 * (attenuation - 21) ** 0.4 + 0.07886 * (attenuation - 21)
    else:
        beta = 0.0
    window = torch.kaiser_window(taps, periodic=False, beta=beta)
    time = torch.arange(taps) - (taps - 1) / 2
    response = window * torch.sinc(2 * cutoff * time)
    return response / response.sum()


class AntiAliased(nn.Module):
    """An activation at twice the rate."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.activation = SnakeBeta(channels)
        self.register_buffer("filter", low_pass(0.25, 0.3)[None, None], persistent=False)  # (1, 1, taps)

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, channels, samples)`` to the same shape."""
        channels, edge = x.shape[1], TAPS // 2 - 1
        taps = self.filter.to(x.dtype).expand(channels, -1, -1)
        padded = F.pad(x, (edge, edge), mode="replicate")
        fast = 2 * F.conv_transpose1d(padded, taps, stride=2, groups=channels)
        fast = self.activation(fast[..., 3 * edge : -3 * edge])  # (batch, channels, 2 samples)
        fast = F.pad(fast, (edge, edge + 1), mode="replicate")
        return F.conv1d(fast, taps, stride=2, groups=channels)


class PeriodicBlock(nn.Module):
    """ "AMPBlock1": for each dilation a dilated and a plain convolution, an activation before each, with a skip."""

    def __init__(self, channels: int, kernel: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.dilated = nn.ModuleList(_conv(channels, channels, kernel, dilation) for dilation in dilations)
        self.plain = nn.ModuleList(_conv(channels, channels, kernel) for _ in dilations)
        self.activations = nn.ModuleList(AntiAliased(channels) for _ in range(2 * len(dilations)))

    def forward(self, x: Tensor) -> Tensor:
        for number, (dilated, plain) in enumerate(zip(self.dilated, self.plain, strict=True)):
            first, second = self.activations[2 * number], self.activations[2 * number + 1]
            x = x + plain(second(dilated(first(x))))
        return x


class BigVgan(nn.Module):
    """Mels ``(batch, frames, bands)`` to waveform ``(batch, frames * prod(upsample_rates))``.

    The defaults are the base model's (14 M parameters) with rates for 16 kHz and a hop of 320 samples; the published one
    is for 24 kHz and 256 (rates 8, 8, 2, 2, kernels 16, 16, 4, 4, 100 bands). Weights start at PyTorch's defaults.
    Its second version ends without bias and, in the place of tanh, clips (`last_bias`, `last_tanh`).
    """

    def __init__(
        self,
        bands: int = 80,
        channels: int = 512,
        upsample_rates: Sequence[int] = (8, 5, 4, 2),
        upsample_kernels: Sequence[int] = (16, 11, 8, 4),
        block_kernels: Sequence[int] = (3, 7, 11),
        dilations: Sequence[int] = (1, 3, 5),
        last_bias: bool = True,
        last_tanh: bool = True,
    ) -> None:
        super().__init__()
        self.last_tanh = last_tanh
        self.upsample_rates, self.block_kernels, self.dilations = upsample_rates, block_kernels, dilations
        self.conv_pre = _conv(bands, channels, 7)
        self.ups, self.blocks = nn.ModuleList(), nn.ModuleList()
        for rate, kernel in zip(upsample_rates, upsample_kernels, strict=True):
            up = nn.ConvTranspose1d(channels, channels // 2, kernel, rate, padding=(kernel - rate) // 2)
            self.ups.append(weight_norm(up))
            channels //= 2
            self.blocks.append(nn.ModuleList(PeriodicBlock(channels, k, dilations) for k in block_kernels))
        self.activation_post, self.conv_post = AntiAliased(channels), _conv(channels, 1, 7, bias=last_bias)

    @property
    def context_frames(self) -> int:
        """Frames on each side that a sample can depend on (an upper bound)."""
        reach = 3.0  # conv_pre, in frames
        block = max((k - 1) // 2 * (sum(self.dilations) + len(self.dilations)) for k in self.block_kernels)
        block += 2 * len(self.dilations) * TAPS  # the filters around each activation
        for layer in range(len(self.upsample_rates)):
            reach += 1 / prod(self.upsample_rates[:layer])
            reach += block / prod(self.upsample_rates[: layer + 1])
        return int(reach) + 2

    def forward(self, mels: Tensor) -> Tensor:
        x = self.conv_pre(mels.transpose(1, 2))  # (batch, channels, frames)
        for up, blocks in zip(self.ups, self.blocks, strict=True):
            x = up(x)  # (batch, channels / 2, frames * rate)
            x = sum(block(x) for block in blocks) / len(blocks)
        x = self.conv_post(self.activation_post(x))
        x = x.squeeze(1).float()
        return x.tanh() if self.last_tanh else x.clamp(-1, 1)


def _conv(inputs: int, outputs: int, kernel: int, dilation: int = 1, bias: bool = True) -> nn.Module:
    padding = dilation * (kernel - 1) // 2
    return weight_norm(nn.Conv1d(inputs, outputs, kernel, dilation=dilation, padding=padding, bias=bias))
