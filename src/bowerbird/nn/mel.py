"""Spectrograms of 16 kHz speech, with every convention spelled out."""

from __future__ import annotations

import torch
import torch.nn.functional as F
import torchaudio
from torch import Tensor, nn


class LogMel(nn.Module):
    """Log-mel spectrogram as HiFi-GAN and kNN-VC compute it: 80 Slaney bands of the magnitude (not power) spectrum.

    The wave is padded by reflection with ``(n_fft - hop) / 2`` samples each side and not centred further, so
    ``samples`` give exactly ``samples // hop`` frames; the logarithm is natural, of values clamped at ``floor``. BigVGAN adds
    ``epsilon`` to the power before its root.
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
        epsilon: float = 0.0,
    ) -> None:
        super().__init__()
        self.epsilon = epsilon
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
            if self.epsilon:
                magnitude = (magnitude.square() + self.epsilon).sqrt()
            return self.bands(magnitude.transpose(1, 2)).clamp_min(self.floor).log()

    def bands(self, magnitude: Tensor) -> Tensor:
        """Magnitudes ``(batch, frames, n_fft / 2 + 1)`` to ``(batch, frames, bands)``."""
        return magnitude @ self.bank


class LogMagnitude(LogMel):
    """The same spectrogram, before the mel bank: 513 bins. Invertible but for the phase (`griffin_lim`)."""

    def bands(self, magnitude: Tensor) -> Tensor:
        return magnitude


def griffin_lim(
    log_magnitude: Tensor, iterations: int = 60, momentum: float = 0.99, n_fft: int = 1024, hop: int = 320
) -> Tensor:
    """`LogMagnitude` ``(frames, n_fft / 2 + 1)`` back to a wave ``(320 * frames,)``.

    Griffin and Lim 1984, with momentum (Perraudin et al. 2013). Phases start at random from a fixed seed.
    """
    magnitude = log_magnitude.float().exp()
    window = torch.hann_window(n_fft, device=magnitude.device)
    length = n_fft + hop * (len(magnitude) - 1)

    def overlapped(frames: Tensor) -> Tensor:  # (frames, n_fft) to (length,)
        return F.fold(frames.T[None], (1, length), (1, n_fft), stride=(1, hop)).flatten()

    weight = overlapped(window.square().expand(len(magnitude), -1)).clamp_min(1.0e-3)
    generator = torch.Generator().manual_seed(0)
    phase = torch.rand(magnitude.shape, generator=generator).to(magnitude.device) * 2 * torch.pi
    spectrum, before = torch.polar(magnitude, phase), torch.zeros_like(magnitude, dtype=torch.complex64)
    wave = torch.zeros(length, device=magnitude.device)
    for _ in range(iterations + 1):
        wave = overlapped(torch.fft.irfft(spectrum, n_fft) * window) / weight
        consistent = torch.fft.rfft(wave.unfold(0, n_fft, hop) * window)
        moved = consistent + momentum * (consistent - before)
        spectrum, before = torch.polar(magnitude, moved.angle()), consistent
    edge = (n_fft - hop) // 2  # what LogMel reflects at either end
    return wave[edge : len(wave) - edge]


def stft_magnitude(wave: Tensor, n_fft: int, hop: int, win: int, window: Tensor, center: bool = True) -> Tensor:
    """Magnitudes ``(batch, n_fft / 2 + 1, frames)`` of ``(batch, samples)``; centred frames reflect at the ends."""
    return torch.stft(wave, n_fft, hop, win, window, center=center, pad_mode="reflect", return_complex=True).abs()
