"""How a reference is heard without its order: attention with no positions, and a mean over time.

The spectrogram's frames are a set here: put them in any order, and the results are the same up to rounding.
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
        """``x`` (batch, n, width) looks at ``frames`` (batch, m, width) where ``mask`` (batch, m) is true."""
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (batch, heads, n or m, width / heads)
            for part in (self.query(x), *self.key_value(frames).chunk(2, dim=-1))
        )
        heard = F.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None, :])
        return self.out(heard.transpose(1, 2).flatten(2))


class SetBlock(nn.Module):
    """Attention to the reference, or of the reference to itself, and a feed-forward network; layer norms before both."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(width), SetAttention(width, heads)
        self.norm_hidden = nn.LayerNorm(width)
        self.hidden = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, frames: Tensor | None, mask: Tensor) -> Tensor:
        """``frames`` None: attention of ``x`` to itself."""
        normed = self.norm(x)
        x = x + self.dropout(self.attention(normed, normed if frames is None else frames, mask))
        return x + self.dropout(self.hidden(self.norm_hidden(x)))


class ContextTimbre(nn.Module):
    """Context-aware timbre: each frame of content asks the reference how this voice would say it.

    Queries are the content, keys and values the reference's mel frames, each with the voice print beside it where there
    is one. ``(batch, frames, content_dim)`` to ``(batch, frames, width)``.
    """

    def __init__(
        self, content_dim: int, bands: int, voice_dim: int, width: int, layers: int, heads: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.voice_dim = voice_dim
        self.content = nn.Linear(content_dim, width)
        self.reference = nn.Linear(bands + voice_dim, width)
        self.norm_reference = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(SetBlock(width, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, content: Tensor, mels: Tensor, mask: Tensor, voice: Tensor | None = None) -> Tensor:
        """``mels`` (batch, m, bands) of which ``mask`` (batch, m) is speech, ``voice`` (batch, voice_dim)."""
        if self.voice_dim:
            mels = torch.cat([mels, voice[:, None].expand(-1, mels.shape[1], -1).to(mels.dtype)], dim=-1)
        reference = self.norm_reference(self.reference(mels))
        x = self.content(content)
        for block in self.blocks:
            x = block(x, reference, mask)
        return self.norm(x)


class TimbreMemory(nn.Module):
    """Memory-augmented timbre: a convolution, self-attention blocks, the mean over time; ``(batch, width)``.

    The convolution is one frame wide: over frames out of order a wider one would only mix what does not belong together.
    """

    def __init__(self, bands: int, width: int, layers: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.inward = nn.Conv1d(bands, width, 1)
        self.blocks = nn.ModuleList(SetBlock(width, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, mels: Tensor, mask: Tensor) -> Tensor:
        """``mels`` (batch, m, bands) of which ``mask`` (batch, m) is speech."""
        x = self.inward(mels.transpose(1, 2)).transpose(1, 2)
        for block in self.blocks:
            x = block(x, None, mask)
        weight = mask.unsqueeze(-1).to(x.dtype)
        return (self.norm(x) * weight).sum(1) / weight.sum(1).clamp_min(1)
