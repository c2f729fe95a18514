"""A one-dimensional U-Net over frames whose residual blocks are modulated by a vector (FiLM, Perez et al. 2018).

Letters: ``B`` batch, ``T`` frames (of the current rate), ``M`` mel bands, ``C`` channels, ``V`` vector dimension,
``D`` condition dimension, ``E`` memory dimension.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FiLM(nn.Module):
    """Scale and shift of every channel, computed from a vector: ``(1 + gamma) x + beta``."""

    def __init__(self, vector_dim: int, channels: int) -> None:
        super().__init__()
        self.project = nn.Linear(vector_dim, 2 * channels)

    def forward(self, x: Tensor, vector: Tensor) -> Tensor:
        """Hidden states ``x (B, C, T)`` and ``vector (B, V)`` to the shape of ``x``."""
        gamma, beta = self.project(vector).unsqueeze(-1).chunk(2, dim=1)
        return (1 + gamma) * x + beta


class ChannelNorm(nn.Module):
    """Root mean square normalization over the channels of each frame: no frame depends on others, nor on padding."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Hidden states ``(B, C, T)`` to the same shape."""
        return x * self.gain * torch.rsqrt(x.float().square().mean(1, keepdim=True) + 1.0e-6).to(x.dtype)


class ModulatedResidualBlock(nn.Module):
    """Two convolutions with a skip; the second one's input is modulated."""

    def __init__(self, inputs: int, channels: int, vector_dim: int, dropout: float) -> None:
        super().__init__()
        self.norm_first, self.first = ChannelNorm(inputs), nn.Conv1d(inputs, channels, 3, padding=1)
        self.norm_second, self.second = ChannelNorm(channels), nn.Conv1d(channels, channels, 3, padding=1)
        self.film, self.dropout = FiLM(vector_dim, channels), nn.Dropout(dropout)
        self.skip = nn.Conv1d(inputs, channels, 1) if inputs != channels else nn.Identity()

    def forward(self, x: Tensor, vector: Tensor) -> Tensor:
        """Hidden states ``x (B, inputs, T)`` and ``vector (B, V)`` to ``(B, C, T)``."""
        hidden = self.first(F.silu(self.norm_first(x)))
        hidden = self.second(self.dropout(F.silu(self.film(self.norm_second(hidden), vector))))
        return self.skip(x) + hidden


class UNetLayer(nn.ModuleList):
    """Residual blocks of ``channels`` channels one after the other; the first one reads ``inputs`` channels."""

    def __init__(self, inputs: int, channels: int, vector_dim: int, blocks: int, dropout: float) -> None:
        sizes = [inputs, *[channels] * (blocks - 1)]
        super().__init__(ModulatedResidualBlock(size, channels, vector_dim, dropout) for size in sizes)

    def forward(self, x: Tensor, vector: Tensor) -> Tensor:
        """Hidden states ``x (B, inputs, T)`` and ``vector (B, V)`` to ``(B, C, T)``."""
        for block in self:
            x = block(x, vector)
        return x


class TimeEmbedding(nn.Module):
    """A vector of the place t on the path: sinusoids, then two linear layers."""

    def __init__(self, width: int, vector_dim: int) -> None:
        super().__init__()
        self.width = width
        self.layers = nn.Sequential(nn.Linear(width, vector_dim), nn.SiLU(), nn.Linear(vector_dim, vector_dim))

    def forward(self, t: Tensor) -> Tensor:
        """``t (B,)`` in [0, 1] to vectors ``(B, V)``."""
        half = self.width // 2
        frequency = 10000.0 ** (-torch.arange(half, device=t.device) / half)
        angle = 1000 * t[:, None] * frequency
        return self.layers(torch.cat([angle.sin(), angle.cos()], dim=-1))


class UNet(nn.Module):
    """v(x, t): ``layers`` / 2 layers on the way down, each at half the rate of the one before, and as many back up.

    Each layer has ``blocks`` residual blocks of ``width`` channels; on the way up a layer also reads the output of the
    layer of its rate on the way down. The condition is concatenated to x at the input; the vector of t, and of the
    memory if there is one, modulates every block.
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
        sizes = (width, vector_dim, blocks, dropout)
        self.down = nn.ModuleList(UNetLayer(width, *sizes) for _ in range(depth))
        self.coarser = nn.ModuleList(nn.Conv1d(width, width, 3, 2, padding=1) for _ in range(depth - 1))
        self.up = nn.ModuleList(UNetLayer(2 * width, *sizes) for _ in range(depth))
        self.finer = nn.ModuleList(nn.Conv1d(width, width, 3, padding=1) for _ in range(depth - 1))
        self.norm, self.outward = ChannelNorm(width), nn.Conv1d(width, bands, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor, condition: Tensor, memory: Tensor | None = None) -> Tensor:
        """v(x, t) of the shape of ``x (B, T, M)``, given ``t (B,)``, ``condition (B, T, D)`` and ``memory (B, E)``."""
        frames = x.shape[1]
        hidden = torch.cat([x, condition], dim=-1).transpose(1, 2)  # (B, M + D, T)
        hidden = F.pad(hidden, (0, -frames % 2 ** len(self.coarser)), mode="replicate")
        vector = self.time(t)
        if self.memory is not None:
            vector = vector + self.memory(memory)
        vector = F.silu(vector)
        hidden, skips = self.inward(hidden), []
        for depth, layer in enumerate(self.down):
            if depth:
                hidden = self.coarser[depth - 1](hidden)
            hidden = layer(hidden, vector)
            skips.append(hidden)
        for depth, layer in enumerate(self.up):
            if depth:
                hidden = self.finer[depth - 1](F.interpolate(hidden, scale_factor=2.0))
            hidden = layer(torch.cat([hidden, skips[-1 - depth]], dim=1), vector)
        return self.outward(F.silu(self.norm(hidden)))[..., :frames].transpose(1, 2)
