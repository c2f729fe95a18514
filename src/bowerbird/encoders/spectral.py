"""Spectrograms behind the face of an encoder: the features of systems that work on them, and a baseline.

``log-mel``: 80 bands; ``log-magnitude``: 513 bins. 50 frames a second, the conventions of `bowerbird.nn.mel.LogMel`;
nothing is learned, nothing is downloaded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bowerbird.audio import HOP
from bowerbird.nn.mel import LogMagnitude, LogMel

SPECTRA = {  # by the value of features.NAME.encoder: the spectrogram, and its definition
    "log-mel": (
        LogMel,
        "log-mel 1: 16000 Hz, n_fft 1024, hann 1024, hop 320, 80 slaney bands 0-8000 Hz, magnitude, ln, floor 1e-5",
    ),
    "log-magnitude": (
        LogMagnitude,
        "log-magnitude 1: 16000 Hz, n_fft 1024, hann 1024, hop 320, 513 bins, magnitude, ln, floor 1e-5",
    ),
}


@dataclass(frozen=True)
class Definition:
    """What stands where a model's files would: the definition's hash says which spectrogram it is."""

    name: str = "log-mel"
    revision: str = ""

    @property
    def weights_sha256(self) -> str:
        return hashlib.sha256(SPECTRA[self.name][1].encode()).hexdigest()

    @property
    def config_sha256(self) -> str:
        return self.weights_sha256


class SpectralEncoder(nn.Module):
    """Waves to spectra; frame i stands for samples 320 i to 320 (i + 1) and sees 352 more on either side."""

    hop = HOP
    receptive_field = HOP + 80  # no reflection is longer than the wave; (n - 80) // 320 frames at least, as the others

    def __init__(self, name: str = "log-mel") -> None:
        super().__init__()
        self.spectrogram = SPECTRA[name][0]()
        self.dim = int(self.spectrogram.bands(torch.zeros(1, 1, self.spectrogram.n_fft // 2 + 1)).shape[2])

    def num_frames(self, num_samples: int) -> int:
        """Frames of ``num_samples``: one each 320 samples."""
        return num_samples // self.hop

    def forward(self, waves: Sequence[Tensor]) -> list[Tensor]:
        """Waves ``(samples,)`` at 16 kHz, 400 samples at least, to ``(frames, dim)`` float32, one each."""
        return [self.spectrogram(wave[None])[0] for wave in waves]


def load_spectral(name: str) -> SpectralEncoder:
    """The encoder ``name``, frozen."""
    return SpectralEncoder(name).eval().requires_grad_(False).to(torch.float32)
