"""Log-mel spectrograms behind the face of an encoder: the features of systems that work on mels, and a baseline.

80 bands, 50 frames a second, the conventions of `bowerbird.nn.mel.LogMel`; nothing is learned, nothing is downloaded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bowerbird.audio import HOP
from bowerbird.nn.mel import LogMel

LOG_MEL = "log-mel"  # as a value of features.NAME.encoder
DEFINITION = "log-mel 1: 16000 Hz, n_fft 1024, hann 1024, hop 320, 80 slaney bands 0-8000 Hz, magnitude, ln, floor 1e-5"


@dataclass(frozen=True)
class Definition:
    """What stands where a model's files would: the definition's hash says which spectrogram it is."""

    name: str = LOG_MEL
    revision: str = ""

    @property
    def weights_sha256(self) -> str:
        return hashlib.sha256(DEFINITION.encode()).hexdigest()

    @property
    def config_sha256(self) -> str:
        return self.weights_sha256


class LogMelEncoder(nn.Module):
    """Waves to log-mel frames; frame i stands for samples 320 i to 320 (i + 1) and sees 352 more on either side."""

    hop = HOP
    receptive_field = HOP + 80  # no reflection is longer than the wave; (n - 80) // 320 frames at least, as the others

    def __init__(self) -> None:
        super().__init__()
        self.mel = LogMel()
        self.dim = self.mel.bank.shape[1]

    def num_frames(self, num_samples: int) -> int:
        """Frames of ``num_samples``: one each 320 samples."""
        return num_samples // self.hop

    def forward(self, waves: Sequence[Tensor]) -> list[Tensor]:
        """Waves ``(samples,)`` at 16 kHz, 400 samples at least, to ``(frames, 80)`` float32, one each."""
        return [self.mel(wave[None])[0] for wave in waves]


def load_log_mel() -> LogMelEncoder:
    """The encoder, frozen."""
    return LogMelEncoder().eval().requires_grad_(False).to(torch.float32)
