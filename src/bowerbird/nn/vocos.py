"""A Vocos-like generator (Siuzdak 2023): ConvNeXt blocks at the frame rate, and an inverse STFT instead of upsampling.

Differences from the paper: the input is self-supervised features at 50 frames per second; half-way through, the frame
rate is doubled, so that the inverse STFT has a hop of 160 samples (10 ms) and no frame has to describe 20 ms of phase.

Letters: ``B`` batch, ``T`` frames, ``N`` samples, ``D`` feature dimension, ``C`` channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bowerbird.audio import HOP

KERNEL = 7  # of the input and the depthwise convolutions
LARGEST_LOG_MAGNITUDE = 4.6  # magnitudes are clipped at 100, as published


class ConvNextBlock(nn.Module):
    """Depthwise convolution, then a two-layer perceptron at each frame, with a scaled skip (Liu et al. 2022)."""

    def __init__(self, dim: int, hidden: int, scale: float) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(dim, dim, KERNEL, padding=KERNEL // 2, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=1.0e-6)
        self.expand, self.contract = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.scale = nn.Parameter(torch.full((dim,), scale))

    def forward(self, x: Tensor) -> Tensor:
        """Hidden states ``(B, T, C)`` to the same shape."""
        y = self.depthwise(x.transpose(1, 2)).transpose(1, 2)
        return x + self.scale * self.contract(F.gelu(self.expand(self.norm(y))))


class Vocos(nn.Module):
    """Features to waveforms.

    ``slow`` blocks run at 50 frames per second, ``fast`` ones at ``50 * upsample``; the inverse STFT then has a hop of
    ``320 / upsample`` samples and windows of four hops.
    """

    def __init__(
        self,
        input_dim: int,
        dim: int = 256,
        hidden: int = 768,
        slow: int = 4,
        fast: int = 4,
        upsample: int = 2,
    ) -> None:
        super().__init__()
        self.upsample = upsample
        self.conv_pre = nn.Conv1d(input_dim, dim, KERNEL, padding=KERNEL // 2)
        self.norm_pre = nn.LayerNorm(dim, eps=1.0e-6)
        scale = 1 / (slow + fast)
        self.slow = nn.Sequential(*(ConvNextBlock(dim, hidden, scale) for _ in range(slow)))
        self.up = nn.Linear(dim, upsample * dim)
        self.fast = nn.Sequential(*(ConvNextBlock(dim, hidden, scale) for _ in range(fast)))
        self.norm_post = nn.LayerNorm(dim, eps=1.0e-6)
        self.head = InverseStftHead(dim, hop=HOP // upsample)
        self.apply(initialize)

    @property
    def context_frames(self) -> int:
        """Frames on each side that a sample can depend on (an upper bound)."""
        reach = (1 + len(self.slow)) * (KERNEL // 2) + (len(self.fast) * (KERNEL // 2) + 2) / self.upsample
        return int(reach) + 2

    def forward(self, features: Tensor) -> Tensor:
        """Features ``(B, T, D)`` to waveforms ``(B, N)`` of ``N = 320 T`` samples."""
        x = self.conv_pre(features.transpose(1, 2)).transpose(1, 2)  # (B, T, C)
        x = self.slow(self.norm_pre(x))
        batch, frames, dim = x.shape
        x = self.up(x).view(batch, frames * self.upsample, dim)
        return self.head(self.norm_post(self.fast(x)))


class InverseStftHead(nn.Module):
    """Each frame gives log magnitudes and phases; their inverse STFT is the waveform ("same" padding, as published)."""

    window: Tensor  # (n_fft,)

    def __init__(self, dim: int, hop: int) -> None:
        super().__init__()
        self.hop, self.n_fft = hop, 4 * hop
        self.project = nn.Linear(dim, self.n_fft + 2)
        self.register_buffer("window", torch.hann_window(self.n_fft), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Hidden states ``(B, T, C)`` to waveforms ``(B, hop * T)``."""
        with torch.autocast(x.device.type, enabled=False):
            log_magnitude, phase = self.project(x.float()).chunk(2, dim=-1)  # (B, T, n_fft / 2 + 1)
            spectrum = torch.polar(log_magnitude.clamp_max(LARGEST_LOG_MAGNITUDE).exp(), phase)
            frames = torch.fft.irfft(spectrum, self.n_fft) * self.window
            envelope = self._waveform(self.window.square().expand(1, x.shape[1], -1))
            return self._waveform(frames) / envelope

    def _waveform(self, frames: Tensor) -> Tensor:
        """Windows ``(B, T, 4 hop)`` overlap-added, and 1.5 hops cut off at each end: ``(B, hop * T)``."""
        edge = self.hop * 3 // 2
        return overlap_add(frames, self.hop)[:, edge:-edge]


def overlap_add(windows: Tensor, hop: int) -> Tensor:
    """Windows ``(B, T, parts * hop)`` that start every ``hop`` samples to their sum ``(B, (T + parts - 1) * hop)``."""
    pieces = windows.unflatten(-1, (-1, hop))
    parts = pieces.shape[2]
    shifted = (F.pad(pieces[:, :, i], (0, 0, i, parts - 1 - i)) for i in range(parts))
    return sum(shifted, start=windows.new_zeros(())).flatten(1)


def initialize(module: nn.Module) -> None:
    """Draws the weights of a convolution or a linear layer as published: truncated normal, biases zero."""
    if isinstance(module, nn.Conv1d | nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
