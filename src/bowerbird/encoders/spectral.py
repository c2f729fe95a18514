"""Spectrograms as encoders: the features of systems that work on them, and a baseline.

``log-mel``: 80 bands; ``log-magnitude``: 513 bins. Both have 50 frames per second and the conventions of
`bowerbird.nn.mel.LogMel`; nothing is learned, nothing is downloaded. ``log-mel-24k`` is what NVIDIA's BigVGANs of 24 kHz
read: the wave is resampled, and there are 93.75 frames per second.

Shapes: ``N`` samples, ``T`` frames, ``M`` bands or bins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torchaudio
from torch import Tensor, nn

from bowerbird.audio import HOP, SAMPLE_RATE
from bowerbird.encoders.definition import Definition
from bowerbird.nn.mel import LogMagnitude, LogMel

PUBLISHED_RATE, PUBLISHED_HOP = 24_000, 256  # of log-mel-24k

SPECTRA: Mapping[str, tuple[Callable[[], LogMel], str]] = {
    # by the value of features.NAME.encoder: the spectrogram, and its definition
    "log-mel": (
        LogMel,
        "log-mel 1: 16000 Hz, n_fft 1024, hann 1024, hop 320, 80 slaney bands 0-8000 Hz, magnitude, ln, floor 1e-5",
    ),
    "log-magnitude": (
        LogMagnitude,
        "log-magnitude 1: 16000 Hz, n_fft 1024, hann 1024, hop 320, 513 bins, magnitude, ln, floor 1e-5",
    ),
    "log-mel-24k": (
        partial(LogMel, sample_rate=PUBLISHED_RATE, hop=PUBLISHED_HOP, bands=100, fmax=12_000.0, epsilon=1.0e-9),
        "log-mel-24k 1: 16000 Hz resampled to 24000 Hz (sinc, 64 zeros, rolloff 0.95), n_fft 1024, hann 1024, hop 256, "
        "100 slaney bands 0-12000 Hz, sqrt(power + 1e-9), ln, floor 1e-5",
    ),
}


def spectrum_definition(name: str) -> Definition:
    """The definition of the spectrogram ``name`` (a key of `SPECTRA`)."""
    return Definition(name, SPECTRA[name][1])


class SpectralEncoder(nn.Module):
    """Waves to spectra; frame i stands for samples 320 i to 320 (i + 1) and depends on 352 more on either side."""

    hop = HOP
    is_windowed = True  # long utterances may go through in windows that start at multiples of the hop
    receptive_field = HOP + 80  # no reflection is longer than the wave; (n - 80) // 320 frames at least, as the others

    def __init__(self, name: str = "log-mel") -> None:
        super().__init__()
        self.spectrogram = SPECTRA[name][0]()
        self.dim = int(self.spectrogram.bands(torch.zeros(1, 1, self.spectrogram.n_fft // 2 + 1)).shape[2])

    def num_frames(self, num_samples: int) -> int:
        """Frames of ``num_samples``: one per 320 samples."""
        return num_samples // self.hop

    def forward(self, waves: Sequence[Tensor]) -> list[Tensor]:
        """Waves ``(N,)`` at 16 kHz, 400 samples at least, to spectra ``(T, M)`` float32, one each."""
        return [self.spectrogram(wave[None])[0] for wave in waves]


class ResampledEncoder(SpectralEncoder):
    """Waves at 16 kHz to spectra at 24 kHz; utterances go through whole: a hop is no whole number of samples at 16 kHz."""

    is_windowed = False
    receptive_field = 300  # 450 at 24 kHz: one frame, and no reflection longer than the wave

    def num_frames(self, num_samples: int) -> int:
        """Frames of ``num_samples`` at 16 kHz: 15 where there are 8 of 20 ms."""
        return num_samples * 3 // 2 // PUBLISHED_HOP

    def forward(self, waves: Sequence[Tensor]) -> list[Tensor]:
        """Waves ``(N,)`` at 16 kHz, 300 samples at least, to spectra ``(T, M)`` float32, one each."""
        return [self.spectrogram(self._resample(wave)[None])[0] for wave in waves]

    def _resample(self, wave: Tensor) -> Tensor:
        """``(N,)`` at 16 kHz to ``(3 N // 2,)`` at 24 kHz."""
        resampled = torchaudio.functional.resample(
            wave, SAMPLE_RATE, PUBLISHED_RATE, lowpass_filter_width=64, rolloff=0.95
        )
        return resampled[: len(wave) * 3 // 2]


def frame_rate(params: Mapping[str, Any]) -> float:
    """Frames per second of features, by the parameters that their index records."""
    is_resampled = params.get("weights_sha256") == spectrum_definition("log-mel-24k").weights_sha256
    return PUBLISHED_RATE / PUBLISHED_HOP if is_resampled else SAMPLE_RATE / HOP


def load_spectral(name: str) -> SpectralEncoder:
    """The encoder ``name`` (a key of `SPECTRA`), frozen."""
    kind = ResampledEncoder if name == "log-mel-24k" else SpectralEncoder
    return kind(name).eval().requires_grad_(False).to(torch.float32)
