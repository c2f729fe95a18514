"""Encoder, decoder and classifier of multi-target conversion on spectrograms (Chou, Yeh, Lee and Lee 2018).

Convolutions with instance normalization (which takes each channel's mean and variance over time, and much of the voice
with them), a bank of kernel sizes at the bottom, a bidirectional GRU at the top; the decoder adds the speaker before
every layer. `nn.InstanceNorm1d` has no weights here, as published.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CENTRE, SPREAD = -5.0, 2.0  # of log spectra of speech, roughly: networks see (x - CENTRE) / SPREAD


SLOPE = 0.2  # of leaky ReLUs


def convolution(inward: int, outward: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Reflection padding that keeps the length (its half with ``stride`` 2), convolution, leaky ReLU."""
    padding = nn.ReflectionPad1d((kernel // 2, (kernel - 1) // 2))
    return nn.Sequential(padding, nn.Conv1d(inward, outward, kernel, stride), nn.LeakyReLU(SLOPE))


def normalization(channels: int, dropout: float) -> nn.Sequential:
    """Instance normalization and dropout, the end of a block."""
    return nn.Sequential(nn.InstanceNorm1d(channels), nn.Dropout(dropout))


class Encoder(nn.Module):
    """Spectrogram ``(batch, frames, bands)`` to content z ``(batch, frames / 2^halvings, latent)``."""

    def __init__(
        self, bands: int, channels: int, latent: int, bank: int, bank_channels: int, halvings: int, dropout: float
    ) -> None:
        super().__init__()
        self.halvings = halvings
        self.bank = nn.ModuleList(convolution(bands, bank_channels, kernel) for kernel in range(1, bank + 1))
        self.inward = convolution(bands + bank * bank_channels, channels, 1)
        self.norm = normalization(channels, dropout)
        self.first = nn.ModuleList(convolution(channels, channels, 5) for _ in range(halvings))
        self.second = nn.ModuleList(convolution(channels, channels, 5, stride=2) for _ in range(halvings))
        self.norms = nn.ModuleList(normalization(channels, dropout) for _ in range(halvings))
        self.dense = nn.ModuleList(DenseBlock(channels, dropout) for _ in range(2))
        self.recurrent = nn.GRU(channels, channels // 4, batch_first=True, bidirectional=True)
        self.outward = nn.Linear(channels + 2 * (channels // 4), latent)

    def forward(self, spectrogram: Tensor) -> Tensor:
        x = (self._whole(spectrogram.transpose(1, 2)) - CENTRE) / SPREAD  # (batch, bands, frames)
        x = torch.cat([x, *(layer(x) for layer in self.bank)], dim=1)
        x = self.norm(self.inward(x))
        for first, second, norm in zip(self.first, self.second, self.norms, strict=True):
            x = norm(second(first(x))) + F.avg_pool1d(x, 2)  # half as many frames
        for block in self.dense:
            x = block(x)
        x = x.transpose(1, 2)
        return self.outward(torch.cat([x, self.recurrent(x)[0]], dim=2))

    def _whole(self, x: Tensor) -> Tensor:
        """The last frame again, up to a whole number of latent frames, eight at least: norms need some to look at."""
        unit = 2**self.halvings
        missing = max(8 * unit, -(-x.shape[2] // unit) * unit) - x.shape[2]
        return F.pad(x, (0, missing), mode="replicate") if missing else x


class DenseBlock(nn.Module):
    """Two fully connected layers over channels, with a skip; the speaker, where there is one, is added before each."""

    def __init__(self, channels: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.layers = nn.ModuleList(convolution(channels, channels, 1) for _ in range(2))
        self.norm = normalization(channels, dropout)

    def forward(self, x: Tensor, speaker: Tensor | float = 0.0) -> Tensor:
        """``x`` (batch, channels, frames), ``speaker`` (batch, channels, 1)."""
        y = x
        for layer in self.layers:
            y = layer(y + speaker)
        return self.norm(y) + x


class Decoder(nn.Module):
    """z and a speaker ``(batch, speaker_dim)`` to a spectrogram ``(batch, frames, bands)``."""

    def __init__(self, bands: int, channels: int, latent: int, halvings: int, speaker_dim: int) -> None:
        super().__init__()
        self.inward = nn.Conv1d(latent, channels, 1)
        self.wide = nn.ModuleList(convolution(channels, 2 * channels, 3) for _ in range(halvings))
        self.narrow = nn.ModuleList(convolution(channels, channels, 3) for _ in range(halvings))
        self.norms = nn.ModuleList(nn.InstanceNorm1d(channels) for _ in range(halvings))
        self.dense = nn.ModuleList(DenseBlock(channels) for _ in range(2))
        self.recurrent = nn.GRU(2 * channels, channels // 2, batch_first=True, bidirectional=True)
        self.outward = nn.Linear(2 * channels + 2 * (channels // 2), bands)
        self.speakers = nn.ModuleList(nn.Linear(speaker_dim, channels) for _ in range(halvings + 3))

    def forward(self, content: Tensor, speaker: Tensor, frames: int) -> Tensor:
        """``frames``: how many the spectrogram shall have; what the encoder added is cut off."""
        *blocks, last = [layer(speaker)[:, :, None] for layer in self.speakers]  # (batch, channels, 1) each
        x = self.inward(content.transpose(1, 2))  # (batch, channels, frames / 2^halvings)
        upward = zip(self.wide, self.narrow, self.norms, strict=True)
        for (wide, narrow, norm), voice in zip(upward, blocks, strict=False):
            y = interleave(wide(x + voice))
            x = norm(narrow(y + voice)) + x.repeat_interleave(2, dim=2)  # twice as many frames
        for block, voice in zip(self.dense, blocks[-2:], strict=True):
            x = block(x, voice)
        x = torch.cat([x, last.expand(-1, -1, x.shape[2])], dim=1).transpose(1, 2)
        x = self.outward(torch.cat([x, self.recurrent(x)[0]], dim=2))
        return x[:, :frames] * SPREAD + CENTRE


def interleave(x: Tensor) -> Tensor:
    """Pixel shuffle in time: ``(batch, 2 c, frames)`` to ``(batch, c, 2 frames)``."""
    batch, channels, frames = x.shape
    return x.view(batch, channels // 2, 2, frames).transpose(2, 3).reshape(batch, channels // 2, 2 * frames)


class Classifier(nn.Module):
    """Who is heard in ``(batch, frames, bands)``: ``(batch, outputs)``, of scores or of an embedding.

    Four convolutional blocks, a mean over time, a linear layer. No instance normalization at the input's level: it would
    take away what this network has to hear (the published one judges a latent, this one judges spectrograms).
    """

    def __init__(self, bands: int, channels: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.inward = convolution(bands, channels, 5)
        self.blocks = nn.ModuleList(
            nn.Sequential(convolution(channels, channels, 5), convolution(channels, channels, 5), nn.Dropout(dropout))
            for _ in range(3)
        )
        self.outward = nn.Linear(2 * channels, outputs)

    def forward(self, spectrogram: Tensor) -> Tensor:
        x = self.inward((spectrogram.transpose(1, 2) - CENTRE) / SPREAD)
        for block in self.blocks:
            x = F.avg_pool1d(block(x) + x, 2)
        spread = (x.var(dim=2, unbiased=False) + 1e-5).sqrt()
        return self.outward(torch.cat([x.mean(dim=2), spread], dim=1))
