"""HiFi-GAN generator (Kong et al. 2020) on self-supervised features, as kNN-VC uses it (Baas et al. 2023).

Letters: ``B`` batch, ``T`` frames or steps of the current rate, ``N`` samples, ``C`` channels, ``D`` feature dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

SLOPE = 0.1  # of every leaky ReLU but the last


class DilatedResidualBlock(nn.Module):
    """ "ResBlock1": for each dilation a dilated and a plain convolution, with a skip over the two."""

    def __init__(self, channels: int, kernel: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.dilated = nn.ModuleList(convolution(channels, channels, kernel, dilation) for dilation in dilations)
        self.plain = nn.ModuleList(convolution(channels, channels, kernel) for _ in dilations)

    def forward(self, x: Tensor) -> Tensor:
        """Hidden states ``(B, C, T)`` to the same shape."""
        for dilated, plain in zip(self.dilated, self.plain, strict=True):
            x = x + plain(F.leaky_relu(dilated(F.leaky_relu(x, SLOPE)), SLOPE))
        return x


class MultiReceptiveFieldFusion(nn.ModuleList):
    """Residual blocks of several kernel sizes side by side; their mean goes on."""

    def forward(self, x: Tensor) -> Tensor:
        """Hidden states ``(B, C, T)`` to the same shape."""
        return sum((block(x) for block in self), start=x.new_zeros(())) / len(self)


class HifiGan(nn.Module):
    """Features to waveforms.

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
        self.has_first_layers = linear_dim > 0
        if self.has_first_layers:
            self.lin_pre = nn.Linear(input_dim, linear_dim)
            self.conv_pre = convolution(linear_dim, channels, 7)
        elif input_dim != channels:
            raise ValueError(f"without a first convolution, {channels} channels need as many inputs, not {input_dim}")
        self.ups, self.blocks = nn.ModuleList(), nn.ModuleList()
        for rate, kernel in zip(upsample_rates, upsample_kernels, strict=True):
            up = nn.ConvTranspose1d(channels, channels // 2, kernel, rate, padding=(kernel - rate) // 2)
            self.ups.append(weight_norm(up))
            channels //= 2
            self.blocks.append(
                MultiReceptiveFieldFusion(DilatedResidualBlock(channels, k, dilations) for k in block_kernels)
            )
        self.conv_post = convolution(channels, 1, 7)

    @property
    def context_frames(self) -> int:
        """Frames on each side that a sample can depend on (an upper bound)."""
        return upsampling_context(self.upsample_rates, block_reach(self.block_kernels, self.dilations))

    def forward(self, features: Tensor) -> Tensor:
        """Features ``(B, T, D)`` to waveforms ``(B, N)`` of ``N = T * prod(upsample_rates)`` samples in [-1, 1]."""
        x = features.transpose(1, 2)  # (B, D, T)
        if self.has_first_layers:
            x = self.conv_pre(self.lin_pre(features).transpose(1, 2))  # (B, C, T)
        for up, blocks in zip(self.ups, self.blocks, strict=True):
            x = blocks(up(F.leaky_relu(x, SLOPE)))  # (B, C / 2, T * rate)
        x = self.conv_post(F.leaky_relu(x))  # the last slope is PyTorch's 0.01, as published
        return x.squeeze(1).float().tanh()


def convolution(inputs: int, outputs: int, kernel: int, dilation: int = 1, bias: bool = True) -> nn.Module:
    """A weight-normalized convolution ``(B, inputs, T)`` to ``(B, outputs, T)``."""
    padding = dilation * (kernel - 1) // 2
    return weight_norm(nn.Conv1d(inputs, outputs, kernel, dilation=dilation, padding=padding, bias=bias))


def block_reach(kernels: Sequence[int], dilations: Sequence[int]) -> int:
    """Steps on each side that the widest residual block's convolutions reach."""
    return max((kernel - 1) // 2 * (sum(dilations) + len(dilations)) for kernel in kernels)


def upsampling_context(upsample_rates: Sequence[int], reach: int) -> int:
    """Frames on each side that a sample can depend on (an upper bound).

    ``reach`` is that of the residual blocks of a layer, in steps of the layer's own rate.
    """
    context = 3.0  # the first convolution's, in frames
    for layer in range(len(upsample_rates)):
        context += 1 / prod(upsample_rates[:layer])  # a transposed convolution reaches one input step further
        context += reach / prod(upsample_rates[: layer + 1])
    return int(context) + 2
