"""BigVGAN's generator (Lee et al. 2023): HiFi-GAN with periodic activations that are applied at twice the rate.

Snake-beta gives a bias towards periodic signals; the activation's overtones above half the rate would fold back, so
each one stands between an interpolation by two and a low-pass filter with decimation.

Letters: ``B`` batch, ``T`` frames or steps of the current rate, ``N`` samples, ``C`` channels, ``M`` mel bands.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from bowerbird.nn.hifigan import MultiReceptiveFieldFusion, block_reach, convolution, upsampling_context

TAPS = 12  # of the filters on either side of an activation


class SnakeBeta(nn.Module):
    """``x + sin^2(alpha x) / beta`` with an alpha and a beta for each channel, kept as logarithms."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha, self.beta = nn.Parameter(torch.zeros(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Hidden states ``(B, C, T)`` to the same shape."""
        alpha, beta = self.alpha.exp()[:, None], self.beta.exp()[:, None]
        return x + (alpha * x).sin().square() / (beta + 1.0e-9)


def low_pass(cutoff: float, half_width: float, taps: int = TAPS) -> Tensor:
    """A Kaiser-windowed sinc ``(taps,)`` of even length that sums to 1; frequencies in cycles per sample.

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
    """`SnakeBeta` at twice the rate, between an interpolating and a decimating low-pass filter."""

    filter: Tensor  # (1, 1, TAPS)

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.activation = SnakeBeta(channels)
        self.register_buffer("filter", low_pass(0.25, 0.3)[None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Hidden states ``(B, C, T)`` to the same shape."""
        channels, edge = x.shape[1], TAPS // 2 - 1
        taps = self.filter.to(x.dtype).expand(channels, -1, -1)
        padded = F.pad(x, (edge, edge), mode="replicate")
        fast = 2 * F.conv_transpose1d(padded, taps, stride=2, groups=channels)
        fast = self.activation(fast[..., 3 * edge : -3 * edge])  # (B, C, 2 T)
        fast = F.pad(fast, (edge, edge + 1), mode="replicate")
        return F.conv1d(fast, taps, stride=2, groups=channels)


class PeriodicBlock(nn.Module):
    """ "AMPBlock1": for each dilation a dilated and a plain convolution, an activation before each, with a skip."""

    def __init__(self, channels: int, kernel: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.dilated = nn.ModuleList(convolution(channels, channels, kernel, dilation) for dilation in dilations)
        self.plain = nn.ModuleList(convolution(channels, channels, kernel) for _ in dilations)
        self.activations = nn.ModuleList(AntiAliased(channels) for _ in range(2 * len(dilations)))

    def forward(self, x: Tensor) -> Tensor:
        """Hidden states ``(B, C, T)`` to the same shape."""
        for number, (dilated, plain) in enumerate(zip(self.dilated, self.plain, strict=True)):
            first, second = self.activations[2 * number], self.activations[2 * number + 1]
            x = x + plain(second(dilated(first(x))))
        return x


class BigVgan(nn.Module):
    """Log-mel spectrograms to waveforms.

    The defaults are the base model's (14 M parameters) with rates for 16 kHz and a hop of 320 samples; the published
    one is for 24 kHz and 256 (rates 8, 8, 2, 2, kernels 16, 16, 4, 4, 100 bands). Weights start at PyTorch's defaults.
    Its second version ends without bias and clips instead of applying tanh (``last_bias``, ``last_tanh``).
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
        self.conv_pre = convolution(bands, channels, 7)
        self.ups, self.blocks = nn.ModuleList(), nn.ModuleList()
        for rate, kernel in zip(upsample_rates, upsample_kernels, strict=True):
            up = nn.ConvTranspose1d(channels, channels // 2, kernel, rate, padding=(kernel - rate) // 2)
            self.ups.append(weight_norm(up))
            channels //= 2
            self.blocks.append(MultiReceptiveFieldFusion(PeriodicBlock(channels, k, dilations) for k in block_kernels))
        self.activation_post, self.conv_post = AntiAliased(channels), convolution(channels, 1, 7, bias=last_bias)

    @property
    def context_frames(self) -> int:
        """Frames on each side that a sample can depend on (an upper bound)."""
        filters = 2 * len(self.dilations) * TAPS  # those around each activation
        return upsampling_context(self.upsample_rates, block_reach(self.block_kernels, self.dilations) + filters)

    def forward(self, mels: Tensor) -> Tensor:
        """Log-mels ``(B, T, M)`` to waveforms ``(B, N)`` of ``N = T * prod(upsample_rates)`` samples in [-1, 1]."""
        x = self.conv_pre(mels.transpose(1, 2))  # (B, C, T)
        for up, blocks in zip(self.ups, self.blocks, strict=True):
            x = blocks(up(x))  # (B, C / 2, T * rate)
        x = self.conv_post(self.activation_post(x))
        x = x.squeeze(1).float()
        return x.tanh() if self.last_tanh else x.clamp(-1, 1)
