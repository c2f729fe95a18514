"""HiFi-GAN generator (Kong et al. 2020) on self-supervised features, as kNN-VC uses it (Baas et al. 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

SLOPE = 0.1  # of every leaky ReLU but the last


class ResidualBlock(nn.Module):
    """ "ResBlock1": for each dilation a dilated and a plain convolution, with a skip over the two."""

    def __init__(self, channels: int, kernel: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.dilated = nn.ModuleList(_conv(channels, channels, kernel, dilation) for dilation in dilations)
        self.plain = nn.ModuleList(_conv(channels, channels, kernel) for _ in dilations)

    def forward(self, x: Tensor) -> Tensor:
        for dilated, plain in zip(self.dilated, self.plain, strict=True):
            x = x + plain(F.leaky_relu(dilated(F.leaky_relu(x, SLOPE)), SLOPE))
        return x


class HifiGan(nn.Module):
    """Features ``(batch, frames, input_dim)`` to waveform ``(batch, frames * prod(upsample_rates))``.

    The defaults are kNN-VC's: features go through a linear layer to 512 channels, then up by 10·8·2·2 = 320.
    Weights start at PyTorch's defaults, as they do in the published code (its ``init_weights`` changes ``weight``,
    which weight normalization computes anew from ``g`` and ``v``). ``linear_dim`` 0 leaves out the linear layer and the
    first convolution: then ``input_dim`` must be ``channels`` (QR-VC).
    """

    def __init__(
        self,
        input_dim: int = 1024,
        linear_dim: int = 512,
        channels: int = 512,
        upsample_rates: Sequence[int] = (10, 8, 2, 2),
        upsample_kernels: Sequence[int] = (20, 16, 4, 4),
        block_kernels: Sequence[int] = (3, 7, 11),
        dilations: Sequence[int] = (1, 3, 5),
    ) -> None:
        super().__init__()
        self.upsample_rates, self.block_kernels, self.dilations = upsample_rates, block_kernels, dilations
        if linear_dim:
            self.lin_pre = nn.Linear(input_dim, linear_dim)
            self.conv_pre = _conv(linear_dim, channels, 7)
        elif input_dim != channels:
            raise ValueError(f"without a first convolution, {channels} channels need as many inputs, not {input_dim}")
        self.ups, self.blocks = nn.ModuleList(), nn.ModuleList()
        for rate, kernel in zip(upsample_rates, upsample_kernels, strict=True):
            up = nn.ConvTranspose1d(channels, channels // 2, kernel, rate, padding=(kernel - rate) // 2)
            self.ups.append(weight_norm(up))
            channels //= 2
            self.blocks.append(nn.ModuleList(ResidualBlock(channels, k, dilations) for k in block_kernels))
        self.conv_post = _conv(channels, 1, 7)

    @property
    def context_frames(self) -> int:
        """Frames on each side that a sample can depend on (an upper bound)."""
        reach = 3.0  # conv_pre, in frames
        block = max((k - 1) // 2 * (sum(self.dilations) + len(self.dilations)) for k in self.block_kernels)
        for layer in range(len(self.upsample_rates)):
            reach += 1 / prod(self.upsample_rates[:layer])  # a transposed convolution reaches one input step further
            reach += block / prod(self.upsample_rates[: layer + 1])
        return int(reach) + 2

    def forward(self, features: Tensor) -> Tensor:
        x = features.transpose(1, 2)  # (batch, input_dim, frames)
        if hasattr(self, "conv_pre"):
            x = self.conv_pre(self.lin_pre(features).transpose(1, 2))  # (batch, channels, frames)
        for up, blocks in zip(self.ups, self.blocks, strict=True):
            x = up(F.leaky_relu(x, SLOPE))  # (batch, channels / 2, frames * rate)
            x = sum(block(x) for block in blocks) / len(blocks)
        x = self.conv_post(F.leaky_relu(x))  # the last slope is PyTorch's 0.01, as published
        return x.squeeze(1).float().tanh()


def _conv(inputs: int, outputs: int, kernel: int, dilation: int = 1) -> nn.Module:
    padding = dilation * (kernel - 1) // 2
    return weight_norm(nn.Conv1d(inputs, outputs, kernel, dilation=dilation, padding=padding))
