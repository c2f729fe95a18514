"""Transformer encoder over frames (Vaswani et al. 2017), pre-norm, with rotary positions (Su et al. 2021).

Letters: ``B`` batch, ``T`` frames, ``S`` frames of the memory, ``W`` width, ``H`` heads.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class AttentionMemory(NamedTuple):
    """A sequence to attend to."""

    frames: Tensor  # (B, S, W)
    positions: Tensor  # (S,), or (B, S) where they differ by item
    mask: Tensor  # (B, S), true for frames to attend to


class RotaryAttention(nn.Module):
    """Multi-head attention with rotary positions; of a sequence to itself, or to another one."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % (2 * heads):
            raise ValueError(f"width {width}: not a multiple of twice the number of heads ({heads})")
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, positions: Tensor, memory: AttentionMemory) -> Tensor:
        """Queries ``x (B, T, W)`` at ``positions (T,)`` or ``(B, T)`` to what they attend to in ``memory``, ``(B, T, W)``."""
        query = rotate(self._split(self.query(x)), positions)
        key, value = (self._split(part) for part in self.key_value(memory.frames).chunk(2, dim=-1))
        key = rotate(key, memory.positions)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=memory.mask[:, None, None, :])
        return self.out(attended.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        """``(B, T, W)`` to ``(B, H, T, W / H)``."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def rotate(x: Tensor, positions: Tensor, base: float = 10000.0) -> Tensor:
    """Rotary position embedding of ``x (B, H, T, W / H)`` at ``positions (T,)`` or ``(B, T)``, of the shape of ``x``."""
    half = x.shape[-1] // 2
    frequency = base ** (-torch.arange(half, device=x.device, dtype=torch.float32) / half)
    angle = positions.to(torch.float32)[..., None] * frequency
    if angle.ndim == 3:  # (B, T, W / 2H): the same for all heads
        angle = angle.unsqueeze(1)
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


class TransformerLayer(nn.Module):
    """Self-attention, attention to a memory if ``cross``, and a feed-forward network; each after a layer norm."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float, cross: bool = False) -> None:
        super().__init__()
        self.norm_self, self.attention = nn.LayerNorm(width), RotaryAttention(width, heads)
        if cross:
            self.norm_cross, self.cross_attention = nn.LayerNorm(width), RotaryAttention(width, heads)
        self.cross = cross
        self.norm_hidden = nn.LayerNorm(width)
        self.hidden = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, width), nn.Dropout(dropout)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, positions: Tensor, mask: Tensor, memory: AttentionMemory | None = None) -> Tensor:
        """Hidden states ``x (B, T, W)`` at ``positions (T,)`` or ``(B, T)`` to the same shape.

        ``mask (B, T)`` is true for speech. ``memory``, of ``(B, S, W)``, is needed with ``cross``.
        """
        normed = self.norm_self(x)
        x = x + self.dropout(self.attention(normed, positions, AttentionMemory(normed, positions, mask)))
        if self.cross:
            x = x + self.dropout(self.cross_attention(self.norm_cross(x), positions, memory))
        return x + self.hidden(self.norm_hidden(x))


class Transformer(nn.Module):
    """``layers`` layers and a last norm. With ``cross``, each layer also attends to a memory."""

    def __init__(self, layers: int, width: int, heads: int, hidden: int, dropout: float, cross: bool = False) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TransformerLayer(width, heads, hidden, dropout, cross) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, positions: Tensor, mask: Tensor, memory: AttentionMemory | None = None) -> Tensor:
        """Hidden states ``x (B, T, W)`` at ``positions (T,)`` or ``(B, T)`` to the same shape.

        ``mask (B, T)`` is true for speech. ``memory``, of ``(B, S, W)``, is needed with ``cross``.
        """
        for layer in self.layers:
            x = layer(x, positions, mask, memory)
        return self.norm(x)
