"""Takin-VC's timbre of a reference (Yang et al., arXiv 2410.01350): attention without positions, and a mean over time.

The spectrogram's frames are a set here: their order changes the results by no more than rounding.

Letters: ``B`` batch, ``T`` frames of content, ``R`` frames of the reference, ``M`` mel bands, ``D`` content dimension,
``W`` width, ``H`` heads, ``E`` dimension of the speaker embedding.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SetAttention(nn.Module):
    """Multi-head attention without positions."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width}: not a multiple of the number of heads ({heads})")
        self.heads = heads
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, frames: Tensor, mask: Tensor) -> Tensor:
        """Queries ``x (B, T, W)`` to attended values of the same shape, from ``frames (B, R, W)``.

        ``mask (B, R)`` is true for frames to attend to.
        """
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, H, T or R, W / H)
            for part in (self.query(x), *self.key_value(frames).chunk(2, dim=-1))
        )
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None, :])
        return self.out(attended.transpose(1, 2).flatten(2))


class SetBlock(nn.Module):
    """Attention to the reference, or of the reference to itself, then a feed-forward network; both after a norm."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(width), SetAttention(width, heads)
        self.norm_hidden = nn.LayerNorm(width)
        self.hidden = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, frames: Tensor | None, mask: Tensor) -> Tensor:
        """Hidden states ``x (B, T, W)`` to the same shape, by attention to ``frames (B, R, W)``.

        ``mask (B, R)`` is true for frames to attend to. With ``frames`` None, ``x`` attends to itself, and R is T.
        """
        normed = self.norm(x)
        x = x + self.dropout(self.attention(normed, normed if frames is None else frames, mask))
        return x + self.dropout(self.hidden(self.norm_hidden(x)))


class ContextTimbre(nn.Module):
    """Context-aware timbre (section 3.3.2): the timbre of the reference that belongs to each frame of content.

    Queries are the content, keys and values the reference's mel frames, to each of which the speaker embedding is
    concatenated (``speaker_dim`` 0: no embedding).
    """

    def __init__(
        self, content_dim: int, bands: int, speaker_dim: int, width: int, layers: int, heads: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.speaker_dim = speaker_dim
        self.content = nn.Linear(content_dim, width)
        self.reference = nn.Linear(bands + speaker_dim, width)
        self.norm_reference = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(SetBlock(width, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, content: Tensor, mels: Tensor, mask: Tensor, speaker: Tensor | None = None) -> Tensor:
        """Content ``(B, T, D)`` to timbre ``(B, T, W)``.

        Of the reference's ``mels (B, R, M)``, ``mask (B, R)`` is true for speech; ``speaker (B, E)`` is its embedding.
        """
        if self.speaker_dim:
            if speaker is None:
                raise ValueError(f"speaker: None: an embedding of {self.speaker_dim} dimensions is needed")
            mels = torch.cat([mels, speaker[:, None].expand(-1, mels.shape[1], -1).to(mels.dtype)], dim=-1)
        reference = self.norm_reference(self.reference(mels))
        x = self.content(content)
        for block in self.blocks:
            x = block(x, reference, mask)
        return self.norm(x)


class TimbreMemory(nn.Module):
    """Memory-augmented timbre (section 3.3.1): a convolution, self-attention blocks, the mean over time.

    The convolution is one frame wide: without an order of frames, a wider one would mix frames that do not belong
    together.
    """

    def __init__(self, bands: int, width: int, layers: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.inward = nn.Conv1d(bands, width, 1)
        self.blocks = nn.ModuleList(SetBlock(width, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, mels: Tensor, mask: Tensor) -> Tensor:
        """The reference's ``mels (B, R, M)``, of which ``mask (B, R)`` is true for speech, to a vector ``(B, W)``."""
        x = self.inward(mels.transpose(1, 2)).transpose(1, 2)
        for block in self.blocks:
            x = block(x, None, mask)
        weight = mask.unsqueeze(-1).to(x.dtype)
        return (self.norm(x) * weight).sum(1) / weight.sum(1).clamp_min(1)
