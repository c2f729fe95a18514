"""Spectrograms of 16 kHz speech, with every convention spelled out."""

from __future__ import annotations

import torch
import torch.nn.functional as F
import torchaudio
from torch import Tensor, nn


class LogMel(nn.Module):
    """Log-mel spectrogram as HiFi-GAN and kNN-VC compute it: 80 Slaney bands of the magnitude (not power) spectrum.

    The wave is padded by reflection with ``(n_fft - hop) / 2`` samples each side and not centred further, so
    ``samples`` give exactly ``samples // hop`` frames; the logarithm is natural, of values clamped at ``floor``.
    """

    def __init__(
        self,
        sample_rate: int = 16_000,
        n_fft: int = 1024,
        win: int = 1024,
        hop: int = 320,
        bands: int = 80,
        fmin: float = 0.0,
        fmax: float = 8000.0,
        floor: float = 1.0e-5,
    ) -> None:
        super().__init__()
        self.n_fft, self.win, self.hop, self.floor = n_fft, win, hop, floor
        bank = torchaudio.functional.melscale_fbanks(
            n_fft // 2 + 1, fmin, fmax, bands, sample_rate, norm="slaney", mel_scale="slaney"
        )
        self.register_buffer("bank", bank, persistent=False)  # (n_fft / 2 + 1, bands)
        self.register_buffer("window", torch.hann_window(win), persistent=False)

    def forward(self, wave: Tensor) -> Tensor:
        """``(batch, samples)`` to ``(batch, frames, bands)``."""
        with torch.autocast(wave.device.type, enabled=False):
            pad = (self.n_fft - self.hop) // 2
            padded = F.pad(wave.float().unsqueeze(1), (pad, pad), mode="reflect").squeeze(1)
            magnitude = stft_magnitude(padded, self.n_fft, self.hop, self.win, self.window, center=False)
            return (magnitude.transpose(1, 2) @ self.bank).clamp_min(self.floor).log()


def stft_magnitude(wave: Tensor, n_fft: int, hop: int, win: int, window: Tensor, center: bool = True) -> Tensor:
    """Magnitudes ``(batch, n_fft / 2 + 1, frames)`` of ``(batch, samples)``; centred frames reflect at the ends."""
    return torch.stft(wave, n_fft, hop, win, window, center=center, pad_mode="reflect", return_complex=True).abs()
