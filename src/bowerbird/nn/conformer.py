"""Conformer with a CTC head (Gulati et al. 2020, arXiv 2005.08100; Graves et al. 2006): log-mels to symbols.

    block    x <- x + FFN(x) / 2;  x <- x + MHSA(x);  x <- x + Conv(x);  x <- LayerNorm(x + FFN(x) / 2)    (section 2.4)
    FFN      LayerNorm, linear to 4 times the width, swish, linear                                         (2.3)
    MHSA     LayerNorm, self-attention with relative sinusoids and two biases (Dai et al. 2019)            (2.1)
    Conv     LayerNorm, pointwise, GLU, depthwise of 31 frames, norm, swish, pointwise                     (2.2)

What we chose: two convolutions in front that halve the rate of mels at 10 ms (the paper's quarter it), so that frames
are those of the features, 50 per second; LayerNorm where the convolution module has BatchNorm, or an item's result
would depend on the others of its batch; fixed constants bring log-mels near zero mean and unit variance. Frames beyond
an item's end never count: they are zero before every convolution, and attention leaves them out.

Letters: ``B`` batch, ``N`` samples, ``L`` frames of 10 ms, ``T`` frames of 20 ms, ``M`` mel bands, ``W`` width,
``H`` heads, ``S`` symbols, ``U`` symbols of the longest transcript.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bowerbird.nn.mel import LogMel

MEL_HOP = 160  # samples: mels come every 10 ms, hidden states every 20 ms
MEL_MEAN, MEL_SCALE = -6.0, 2.0
BLANK = 0  # CTC's; symbols count from 1


class RelativeAttention(nn.Module):
    """Multi-head self-attention by the distance between frames, not by position (section 2.1; Dai et al. 2019)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % (2 * heads):
            raise ValueError(f"width {width}: not a multiple of twice the number of heads ({heads})")
        self.heads = heads
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.distance, self.out = nn.Linear(width, width, bias=False), nn.Linear(width, width)
        self.content_bias = nn.Parameter(torch.zeros(heads, 1, width // heads))
        self.distance_bias = nn.Parameter(torch.zeros(heads, 1, width // heads))

    def forward(self, x: Tensor, distances: Tensor, mask: Tensor) -> Tensor:
        """Hidden states ``x (B, T, W)`` to the same shape.

        ``distances (2 T - 1, W)`` are the sinusoids of -(T - 1) to T - 1; ``mask (B, T)`` is true for frames to attend
        to.
        """
        query, key, value = (self._split(part) for part in (self.query(x), *self.key_value(x).chunk(2, dim=-1)))
        places = self._split(self.distance(distances)[None])  # (1, H, 2 T - 1, W / H)
        scores = (query + self.content_bias) @ key.transpose(2, 3)
        scores = scores + by_distance((query + self.distance_bias) @ places.transpose(2, 3))
        scores = scores * query.shape[-1] ** -0.5
        weights = scores.masked_fill(~mask[:, None, None, :], float("-inf")).softmax(dim=-1)
        return self.out((weights @ value).transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        """``(B, T, W)`` to ``(B, H, T, W / H)``."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def by_distance(scores: Tensor) -> Tensor:
    """Scores by query and distance ``(..., T, 2 T - 1)`` to scores by query and key ``(..., T, T)``.

    Column T - 1 + d of the input belongs to distance d; row i, column j of the result to distance j - i.
    """
    frames = scores.shape[-2]
    flat = F.pad(scores, (0, 1)).flatten(-2)  # rows of 2 T: (i, j) lies at (2 T - 1) i + j, T - 1 further on
    flat = flat[..., frames - 1 : frames - 1 + frames * (2 * frames - 1)]
    return flat.unflatten(-1, (frames, 2 * frames - 1))[..., :frames]


def distance_sinusoids(frames: int, width: int, device: torch.device) -> Tensor:
    """Sinusoids ``(2 T - 1, W)`` of the distances -(T - 1) to T - 1."""
    half = width // 2
    distance = torch.arange(1 - frames, frames, device=device, dtype=torch.float32)
    angle = distance[:, None] * 10000.0 ** (-torch.arange(half, device=device) / half)
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


class FeedForward(nn.Sequential):
    """Layer norm and two linear layers with a swish between (section 2.3): ``(B, T, W)`` to the same shape."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__(
            nn.LayerNorm(width),
            nn.Linear(width, hidden),
            nn.SiLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, width),
            nn.Dropout(dropout),
        )


class ConvolutionModule(nn.Module):
    """Gated linear unit and a depthwise convolution over ``kernel`` frames (section 2.2)."""

    def __init__(self, width: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.norm, self.inward = nn.LayerNorm(width), nn.Linear(width, 2 * width)
        self.depthwise = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm_inner, self.outward, self.dropout = nn.LayerNorm(width), nn.Linear(width, width), nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Hidden states ``x (B, T, W)``, of which ``mask (B, T)`` is true for speech, to the same shape."""
        gated = F.glu(self.inward(self.norm(x)), dim=-1) * mask.unsqueeze(-1)
        around = self.depthwise(gated.transpose(1, 2)).transpose(1, 2)
        return self.dropout(self.outward(F.silu(self.norm_inner(around))))


class ConformerBlock(nn.Module):
    """Half a feed-forward network, attention, convolution, the other half, a layer norm (section 2.4)."""

    def __init__(self, width: int, heads: int, feedforward: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.first, self.second = (FeedForward(width, feedforward, dropout) for _ in range(2))
        self.norm, self.attention = nn.LayerNorm(width), RelativeAttention(width, heads)
        self.convolution, self.dropout = ConvolutionModule(width, kernel, dropout), nn.Dropout(dropout)
        self.norm_last = nn.LayerNorm(width)

    def forward(self, x: Tensor, distances: Tensor, mask: Tensor) -> Tensor:
        """Hidden states ``x (B, T, W)`` to the same shape.

        ``distances (2 T - 1, W)`` are the sinusoids of -(T - 1) to T - 1; ``mask (B, T)`` is true for speech.
        """
        x = x + 0.5 * self.first(x)
        x = x + self.dropout(self.attention(self.norm(x), distances, mask))
        x = x + self.convolution(x, mask)
        return self.norm_last(x + 0.5 * self.second(x))


class ConvolutionSubsampling(nn.Module):
    """Two convolutions over time and bands that halve the frame rate: mels every 10 ms to states every 20 ms."""

    def __init__(self, bands: int, channels: int, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, channels, 3, stride=2, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, stride=(1, 2), padding=1)
        self.outward = nn.Linear(channels * -(-bands // 4), width)

    def forward(self, mels: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Mels ``(B, L, M)`` to hidden states ``(B, T, W)`` and the number of their frames ``(B,)``.

        The mels must be zero after the first ``frames (B,)``.
        """
        frames = (frames + 1) // 2
        x = F.relu(self.first(mels[:, None]))  # (B, channels, T, M / 2)
        x = x * frame_mask(frames, x.shape[2])[:, None, :, None]
        x = F.relu(self.second(x))  # (B, channels, T, M / 4)
        return self.outward(x.transpose(1, 2).flatten(2)), frames


class ConformerCtc(nn.Module):
    """Log-mels to the probabilities of ``symbols`` symbols and of CTC's blank, which is number 0."""

    def __init__(
        self,
        symbols: int,
        width: int = 512,
        layers: int = 12,
        heads: int = 8,
        feedforward: int = 2048,
        kernel: int = 31,
        channels: int = 128,
        dropout: float = 0.1,
        bands: int = 80,
    ) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"kernel: {kernel}: must be odd, so that it looks as far ahead as back")
        self.width = width
        self.mel = LogMel(n_fft=512, win=400, hop=MEL_HOP, bands=bands)
        self.inward, self.dropout = ConvolutionSubsampling(bands, channels, width), nn.Dropout(dropout)
        self.blocks = nn.ModuleList(ConformerBlock(width, heads, feedforward, kernel, dropout) for _ in range(layers))
        self.head = nn.Linear(width, symbols + 1)

    def mels(self, waves: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Waves ``(N,)`` at 16 kHz, ``N >= 400``, to normalized log-mels ``(B, L, M)`` and their frames ``(B,)``."""
        mels = [(self.mel(wave[None])[0] - MEL_MEAN) / MEL_SCALE for wave in waves]
        frames = torch.tensor([len(mel) for mel in mels], device=waves[0].device)
        return nn.utils.rnn.pad_sequence(mels, batch_first=True), frames

    def encode(self, mels: Tensor, frames: Tensor, layers: int | None = None) -> tuple[Tensor, Tensor]:
        """Hidden states ``(B, T, W)`` after ``layers`` blocks (None: all) and their frames ``(B,)``.

        ``mels (B, L, M)`` are normalized; what follows the first ``frames (B,)`` is ignored.
        """
        mels = mels * frame_mask(frames, mels.shape[1]).unsqueeze(-1)
        x, frames = self.inward(mels, frames)
        x, mask = self.dropout(x), frame_mask(frames, x.shape[1])
        distances = distance_sinusoids(x.shape[1], self.width, x.device).to(x.dtype)
        for block in self.blocks[:layers]:
            x = block(x, distances, mask)
        return x, frames

    def forward(self, mels: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Mels ``(B, L, M)`` to log-probabilities ``(B, T, S + 1)`` and the number of their frames ``(B,)``.

        The mels are normalized; what follows the first ``frames (B,)`` is ignored.
        """
        hidden, frames = self.encode(mels, frames)
        return self.head(hidden).float().log_softmax(dim=-1), frames


def frame_mask(frames: Tensor, longest: int) -> Tensor:
    """A mask ``(B, longest)`` that is true for the first ``frames (B,)`` of each item."""
    return torch.arange(longest, device=frames.device) < frames[:, None]


def ctc_loss(log_probabilities: Tensor, frames: Tensor, symbols: Tensor, counts: Tensor) -> Tensor:
    """The CTC loss in nats per symbol, a mean over items (scalar).

    ``log_probabilities (B, T, S + 1)`` of ``frames (B,)`` each; ``symbols (B, U)`` from 1 on, of which the first
    ``counts (B,)`` are the transcript.
    """
    losses = F.ctc_loss(log_probabilities.transpose(0, 1), symbols, frames, counts, BLANK, reduction="none")
    return (losses / counts).mean()


def greedy(log_probabilities: Tensor) -> list[int]:
    """The symbols of the likeliest path through ``(T, S + 1)``: repeated symbols count once, blanks are left out."""
    path = log_probabilities.argmax(dim=-1).unique_consecutive().tolist()
    return [symbol for symbol in path if symbol != BLANK]
