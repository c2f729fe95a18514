"""A one-dimensional U-Net over frames whose residual blocks are modulated by a vector (FiLM, Perez et al. 2018)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FiLM(nn.Module):
    """Scale and shift every channel as a vector says: ``(1 + gamma) x + beta``."""

    def __init__(self, vector_dim: int, channels: int) -> None:
        super().__init__()
        self.project = nn.Linear(vector_dim, 2 * channels)

    def forward(self, x: Tensor, vector: Tensor) -> Tensor:
        """``x`` (batch, channels, frames), ``vector`` (batch, vector_dim)."""
        gamma, beta = self.project(vector).unsqueeze(-1).chunk(2, dim=1)
        return (1 + gamma) * x + beta


class ChannelNorm(nn.Module):
    """Root mean square normalization over the channels of each frame: frames do not see each other, nor padding."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gain * torch.rsqrt(x.float().square().mean(1, keepdim=True) + 1.0e-6).to(x.dtype)


class ResidualBlock(nn.Module):
    """Two convolutions with a skip; the second one's input is modulated."""

    def __init__(self, inputs: int, channels: int, vector_dim: int, dropout: float) -> None:
        super().__init__()
        self.norm_first, self.first = ChannelNorm(inputs), nn.Conv1d(inputs, channels, 3, padding=1)
        self.norm_second, self.second = ChannelNorm(channels), nn.Conv1d(channels, channels, 3, padding=1)
        self.film, self.dropout = FiLM(vector_dim, channels), nn.Dropout(dropout)
        self.skip = nn.Conv1d(inputs, channels, 1) if inputs != channels else nn.Identity()

    def forward(self, x: Tensor, vector: Tensor) -> Tensor:
        hidden = self.first(F.silu(self.norm_first(x)))
        hidden = self.second(self.dropout(F.silu(self.film(self.norm_second(hidden), vector))))
        return self.skip(x) + hidden


class TimeEmbedding(nn.Module):
    """Where on the path: sinusoids of t, then two layers."""

    def __init__(self, width: int, vector_dim: int) -> None:
        super().__init__()
        self.width = width
        self.layers = nn.Sequential(nn.Linear(width, vector_dim), nn.SiLU(), nn.Linear(vector_dim, vector_dim))

    def forward(self, t: Tensor) -> Tensor:
        """``(batch,)`` in [0, 1] to ``(batch, vector_dim)``."""
        half = self.width // 2
        frequency = 10000.0 ** (-torch.arange(half, device=t.device) / half)
        angle = 1000 * t[:, None] * frequency
        return self.layers(torch.cat([angle.sin(), angle.cos()], dim=-1))


class UNet(nn.Module):
    """v(x, t): ``layers`` / 2 layers on the way down, each at half the rate of the one before, and as many back up.

    Each layer has ``blocks`` residual blocks of ``width`` channels; on the way up a layer also reads what the one of its
    rate gave on the way down. The condition stands beside x at the input; the vector of t, and the memory where there
    is one, modulates every block.
    """

    def __init__(
        self,
        bands: int,
        condition_dim: int,
        memory_dim: int,
        width: int,
        layers: int,
        blocks: int,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if layers % 2:
            raise ValueError(
                f"layers: {layers}: a U-Net has as many on the way up as on the way down; take an even number"
            )
        depth, vector_dim = layers // 2, width
        self.inward = nn.Conv1d(bands + condition_dim, width, 3, padding=1)
        self.time = TimeEmbedding(256, vector_dim)
        self.memory = nn.Linear(memory_dim, vector_dim) if memory_dim else None

        def layer(inputs: int) -> nn.ModuleList:
            sizes = [inputs, *[width] * (blocks - 1)]
            return nn.ModuleList(ResidualBlock(size, width, vector_dim, dropout) for size in sizes)

        self.down = nn.ModuleList(layer(width) for _ in range(depth))
        self.coarser = nn.ModuleList(nn.Conv1d(width, width, 3, 2, padding=1) for _ in range(depth - 1))
        self.up = nn.ModuleList(layer(2 * width) for _ in range(depth))
        self.finer = nn.ModuleList(nn.Conv1d(width, width, 3, padding=1) for _ in range(depth - 1))
        self.norm, self.outward = ChannelNorm(width), nn.Conv1d(width, bands, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor, condition: Tensor, memory: Tensor | None = None) -> Tensor:
        """``x`` (batch, frames, bands), ``condition`` (batch, frames, dim), ``memory`` (batch, dim) to x's shape."""
        frames = x.shape[1]
        hidden = torch.cat([x, condition], dim=-1).transpose(1, 2)  # (batch, bands + dim, frames)
        hidden = F.pad(hidden, (0, -frames % 2 ** len(self.coarser)), mode="replicate")
        vector = self.time(t)
        if self.memory is not None:
            vector = vector + self.memory(memory)
        vector = F.silu(vector)
        hidden, heard = self.inward(hidden), []
        for depth, layer in enumerate(self.down):
            if depth:
                hidden = self.coarser[depth - 1](hidden)
            for block in layer:
                hidden = block(hidden, vector)
            heard.append(hidden)
        for depth, layer in enumerate(self.up):
            if depth:
                hidden = self.finer[depth - 1](F.interpolate(hidden, scale_factor=2.0))
            hidden = torch.cat([hidden, heard[-1 - depth]], dim=1)
            for block in layer:
                hidden = block(hidden, vector)
        return self.outward(F.silu(self.norm(hidden)))[..., :frames].transpose(1, 2)
