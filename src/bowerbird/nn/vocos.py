"""A Vocos-like generator (Siuzdak 2023): ConvNeXt blocks at the frame rate, and an inverse STFT instead of upsampling.

Differences from the paper: the input is self-supervised features at 50 frames a second; half-way through, the frame
rate is doubled, so that the inverse STFT has a hop of 160 samples (10 ms) and no frame has to describe 20 ms of phase.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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
        """``(batch, frames, dim)`` to the same."""
        y = self.depthwise(x.transpose(1, 2)).transpose(1, 2)
        return x + self.scale * self.contract(F.gelu(self.expand(self.norm(y))))


class Vocos(nn.Module):
    """Features ``(batch, frames, input_dim)`` to waveform ``(batch, frames * 320)``.

    ``slow`` blocks run at 50 frames a second, ``fast`` ones at ``50 * upsample``; the inverse STFT then has a hop of
    ``320 / upsample`` and windows of four hops.
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
        self.slow_count, self.fast_count, self.upsample = slow, fast, upsample
        self.conv_pre = nn.Conv1d(input_dim, dim, KERNEL, padding=KERNEL // 2)
        self.norm_pre = nn.LayerNorm(dim, eps=1.0e-6)
        scale = 1 / (slow + fast)
        self.slow = nn.Sequential(*(ConvNextBlock(dim, hidden, scale) for _ in range(slow)))
        self.up = nn.Linear(dim, upsample * dim)
        self.fast = nn.Sequential(*(ConvNextBlock(dim, hidden, scale) for _ in range(fast)))
        self.norm_post = nn.LayerNorm(dim, eps=1.0e-6)
        self.head = InverseStftHead(dim, hop=320 // upsample)
        self.apply(initialise)

    @property
    def context_frames(self) -> int:
        """Frames on each side that a sample can depend on (an upper bound)."""
        reach = (1 + self.slow_count) * (KERNEL // 2) + (self.fast_count * (KERNEL // 2) + 2) / self.upsample
        return int(reach) + 2

    def forward(self, features: Tensor) -> Tensor:
        x = self.conv_pre(features.transpose(1, 2)).transpose(1, 2)  # (batch, frames, dim)
        x = self.slow(self.norm_pre(x))
        batch, frames, dim = x.shape
        x = self.up(x).view(batch, frames * self.upsample, dim)
        return self.head(self.norm_post(self.fast(x)))


class InverseStftHead(nn.Module):
    """Each frame gives log magnitudes and phases; their inverse STFT is the waveform ("same" padding, as published)."""

    def __init__(self, dim: int, hop: int) -> None:
        super().__init__()
        self.hop, self.n_fft = hop, 4 * hop
        self.project = nn.Linear(dim, self.n_fft + 2)
        self.register_buffer("window", torch.hann_window(self.n_fft), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, frames, dim)`` to ``(batch, frames * hop)``."""
        with torch.autocast(x.device.type, enabled=False):
            log_magnitude, phase = self.project(x.float()).chunk(2, dim=-1)  # (batch, frames, n_fft / 2 + 1)
            spectrum = torch.polar(log_magnitude.clamp_max(LARGEST_LOG_MAGNITUDE).exp(), phase)
            frames = torch.fft.irfft(spectrum, self.n_fft) * self.window
            envelope = self._overlap_add(self.window.square().expand(1, x.shape[1], -1))
            return self._overlap_add(frames) / envelope

    def _overlap_add(self, frames: Tensor) -> Tensor:
        """``(batch, count, 4 hop)`` to ``(batch, count * hop)``: add shifted quarters, cut 1.5 hops at each end."""
        quarters = frames.unflatten(-1, (4, self.hop))
        total = sum(F.pad(quarters[:, :, i], (0, 0, i, 3 - i)) for i in range(4)).flatten(1)  # count + 3 hops
        return total[:, self.hop * 3 // 2 : -(self.hop * 3 // 2)]


def initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv1d | nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
