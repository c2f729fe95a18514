"""Spectrograms of 16 kHz speech, with every convention spelled out.

Letters: ``B`` batch, ``N`` samples, ``T`` frames, ``bins`` frequencies (n_fft / 2 + 1), ``M`` mel bands.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
import torchaudio
from torch import Tensor, nn

from bowerbird.audio import HOP, SAMPLE_RATE


class LogMel(nn.Module):
    """Log-mel spectrogram as HiFi-GAN and kNN-VC compute it: 80 Slaney bands of the magnitude (not power) spectrum.

    The wave is padded by reflection with ``(n_fft - hop) / 2`` samples on each side and not centered further, so
    ``N`` samples give exactly ``N // hop`` frames; the logarithm is natural, of values clamped at ``floor``. BigVGAN
    adds ``epsilon`` to the power before its root.
    """

    bank: Tensor  # (bins, M)
    window: Tensor  # (win,)

    def __init__(
        self,
        sample_rate: int = SAMPLE_RATE,
        n_fft: int = 1024,
        win: int = 1024,
        hop: int = HOP,
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
        self.register_buffer("bank", bank, persistent=False)
        self.register_buffer("window", torch.hann_window(win), persistent=False)

    def forward(self, wave: Tensor) -> Tensor:
        """Waves ``(B, N)`` to natural logarithms ``(B, T, M)``."""
        with torch.autocast(wave.device.type, enabled=False):
            pad = (self.n_fft - self.hop) // 2
            padded = F.pad(wave.float().unsqueeze(1), (pad, pad), mode="reflect").squeeze(1)
            magnitude = stft_magnitude(padded, self.n_fft, self.hop, self.win, self.window, center=False)
            if self.epsilon:
                magnitude = (magnitude.square() + self.epsilon).sqrt()
            return self.bands(magnitude.transpose(1, 2)).clamp_min(self.floor).log()

    def bands(self, magnitude: Tensor) -> Tensor:
        """Magnitudes ``(B, T, bins)`` to mel bands ``(B, T, M)``."""
        return magnitude @ self.bank


class LogMagnitude(LogMel):
    """The spectrogram of `LogMel` before the mel bank: 513 bins. Invertible but for the phase (`griffin_lim`)."""

    def bands(self, magnitude: Tensor) -> Tensor:
        """Magnitudes ``(B, T, bins)`` as they are."""
        return magnitude


def griffin_lim(
    log_magnitude: Tensor, iterations: int = 60, momentum: float = 0.99, n_fft: int = 1024, hop: int = HOP
) -> Tensor:
    """A wave ``(hop * T,)`` whose `LogMagnitude` is close to ``log_magnitude (T, bins)``.

    Griffin and Lim 1984, with momentum (Perraudin et al. 2013). Phases start at random from a fixed seed.
    """
    magnitude = log_magnitude.float().exp()
    window = torch.hann_window(n_fft, device=magnitude.device)
    length = n_fft + hop * (len(magnitude) - 1)

    def overlapped(frames: Tensor) -> Tensor:  # (T, n_fft) to (length,)
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
    """Magnitudes ``(B, bins, T)`` of waves ``(B, N)`` with ``window (win,)``; centered frames reflect at the ends."""
    return torch.stft(wave, n_fft, hop, win, window, center=center, pad_mode="reflect", return_complex=True).abs()
