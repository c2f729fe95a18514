"""Encoder, decoder and classifier of multi-target conversion on spectrograms (Chou, Yeh, Lee and Lee 2018).

Convolutions with instance normalization (which takes away each channel's mean and variance over time, and much of the
speaker with them), a bank of kernel sizes at the bottom, a bidirectional GRU at the top; the decoder adds the speaker
before every layer. `nn.InstanceNorm1d` has no weights here, as published.

Letters: ``B`` batch, ``T`` frames, ``M`` bands of the spectrogram, ``C`` channels, ``L`` latent frames
(T / 2^num_downsamplings, rounded up, eight at least), ``Z`` latent dimension, ``S`` speaker dimension, ``O`` outputs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LOG_MEAN, LOG_SCALE = -5.0, 2.0  # of log spectra of speech, roughly: networks read (x - LOG_MEAN) / LOG_SCALE
SLOPE = 0.2  # of leaky ReLUs


def convolution(inward: int, outward: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Reflection padding, convolution and leaky ReLU: ``(B, inward, T)`` to ``(B, outward, T / stride)``."""
    padding = nn.ReflectionPad1d((kernel // 2, (kernel - 1) // 2))
    return nn.Sequential(padding, nn.Conv1d(inward, outward, kernel, stride), nn.LeakyReLU(SLOPE))


def normalization(channels: int, dropout: float) -> nn.Sequential:
    """Instance normalization and dropout, the end of a block: ``(B, C, T)`` to the same shape."""
    return nn.Sequential(nn.InstanceNorm1d(channels), nn.Dropout(dropout))


class SpectrogramEncoder(nn.Module):
    """Log spectrogram to content z, at a frame rate that is halved ``num_downsamplings`` times."""

    def __init__(
        self,
        bands: int,
        channels: int,
        latent: int,
        conv_bank_size: int,
        conv_bank_channels: int,
        num_downsamplings: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.num_downsamplings = num_downsamplings
        kernels = range(1, conv_bank_size + 1)
        self.bank = nn.ModuleList(convolution(bands, conv_bank_channels, kernel) for kernel in kernels)
        self.inward = convolution(bands + conv_bank_size * conv_bank_channels, channels, 1)
        self.norm = normalization(channels, dropout)
        self.first = nn.ModuleList(convolution(channels, channels, 5) for _ in range(num_downsamplings))
        self.second = nn.ModuleList(convolution(channels, channels, 5, stride=2) for _ in range(num_downsamplings))
        self.norms = nn.ModuleList(normalization(channels, dropout) for _ in range(num_downsamplings))
        self.dense = nn.ModuleList(DenseBlock(channels, dropout) for _ in range(2))
        self.recurrent = nn.GRU(channels, channels // 4, batch_first=True, bidirectional=True)
        self.outward = nn.Linear(channels + 2 * (channels // 4), latent)

    def forward(self, spectrogram: Tensor) -> Tensor:
        """Log spectrograms ``(B, T, M)`` to content ``(B, L, Z)``."""
        x = (self._padded(spectrogram.transpose(1, 2)) - LOG_MEAN) / LOG_SCALE  # (B, M, T)
        x = torch.cat([x, *(layer(x) for layer in self.bank)], dim=1)
        x = self.norm(self.inward(x))
        for first, second, norm in zip(self.first, self.second, self.norms, strict=True):
            x = norm(second(first(x))) + F.avg_pool1d(x, 2)  # half as many frames
        for block in self.dense:
            x = block(x)
        x = x.transpose(1, 2)
        return self.outward(torch.cat([x, self.recurrent(x)[0]], dim=2))

    def _padded(self, x: Tensor) -> Tensor:
        """``(B, M, T)`` with its last frame repeated up to a whole number of latent frames.

        There are eight of them at least, since instance normalization needs some frames for its statistics.
        """
        unit = 2**self.num_downsamplings
        missing = max(8 * unit, -(-x.shape[2] // unit) * unit) - x.shape[2]
        return F.pad(x, (0, missing), mode="replicate") if missing else x


class DenseBlock(nn.Module):
    """Two fully connected layers over channels, with a skip; a speaker vector, if given, is added before each."""

    def __init__(self, channels: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.layers = nn.ModuleList(convolution(channels, channels, 1) for _ in range(2))
        self.norm = normalization(channels, dropout)

    def forward(self, x: Tensor, speaker: Tensor | float = 0.0) -> Tensor:
        """Hidden states ``x (B, C, T)`` and ``speaker (B, C, 1)`` to the shape of ``x``."""
        y = x
        for layer in self.layers:
            y = layer(y + speaker)
        return self.norm(y) + x


class SpectrogramDecoder(nn.Module):
    """Content z and a speaker vector to a log spectrogram."""

    def __init__(self, bands: int, channels: int, latent: int, num_downsamplings: int, speaker_dim: int) -> None:
        super().__init__()
        self.inward = nn.Conv1d(latent, channels, 1)
        self.wide = nn.ModuleList(convolution(channels, 2 * channels, 3) for _ in range(num_downsamplings))
        self.narrow = nn.ModuleList(convolution(channels, channels, 3) for _ in range(num_downsamplings))
        self.norms = nn.ModuleList(nn.InstanceNorm1d(channels) for _ in range(num_downsamplings))
        self.dense = nn.ModuleList(DenseBlock(channels) for _ in range(2))
        self.recurrent = nn.GRU(2 * channels, channels // 2, batch_first=True, bidirectional=True)
        self.outward = nn.Linear(2 * channels + 2 * (channels // 2), bands)
        self.speakers = nn.ModuleList(nn.Linear(speaker_dim, channels) for _ in range(num_downsamplings + 3))

    def forward(self, content: Tensor, speaker: Tensor, frames: int) -> Tensor:
        """Content ``(B, L, Z)`` and speaker vectors ``(B, S)`` to log spectrograms ``(B, T, M)``.

        ``frames`` is T; what the encoder added to it is cut off.
        """
        *blocks, last = [layer(speaker)[:, :, None] for layer in self.speakers]  # (B, C, 1) each
        x = self.inward(content.transpose(1, 2))  # (B, C, L)
        upward = zip(self.wide, self.narrow, self.norms, strict=True)
        for (wide, narrow, norm), added in zip(upward, blocks, strict=False):
            y = interleave(wide(x + added))
            x = norm(narrow(y + added)) + x.repeat_interleave(2, dim=2)  # twice as many frames
        for block, added in zip(self.dense, blocks[-2:], strict=True):
            x = block(x, added)
        x = torch.cat([x, last.expand(-1, -1, x.shape[2])], dim=1).transpose(1, 2)
        x = self.outward(torch.cat([x, self.recurrent(x)[0]], dim=2))
        return x[:, :frames] * LOG_SCALE + LOG_MEAN


def interleave(x: Tensor) -> Tensor:
    """Pixel shuffle in time: ``(B, 2 C, T)`` to ``(B, C, 2 T)``."""
    batch, channels, frames = x.shape
    return x.view(batch, channels // 2, 2, frames).transpose(2, 3).reshape(batch, channels // 2, 2 * frames)


class SpectrogramClassifier(nn.Module):
    """Speaker classifier of log spectrograms: scores of speakers, or an embedding.

    Four convolutional blocks, mean and deviation over time, a linear layer. It has no instance normalization, which
    would take away the speaker (the published classifier reads a latent, this one reads spectrograms).
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
        """Log spectrograms ``(B, T, M)`` to scores or embeddings ``(B, O)``."""
        x = self.inward((spectrogram.transpose(1, 2) - LOG_MEAN) / LOG_SCALE)
        for block in self.blocks:
            x = F.avg_pool1d(block(x) + x, 2)
        deviation = (x.var(dim=2, unbiased=False) + 1e-5).sqrt()
        return self.outward(torch.cat([x.mean(dim=2), deviation], dim=1))
