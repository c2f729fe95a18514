"""A source-filter generator: a network has little left to learn where signal processing does the rest.

The idea is DDSP's (Engel et al. 2020) with a vocoder's classic parts: a network predicts pitch, voicing and two smooth
spectral envelopes from each frame of features; a pulse train of that pitch and white noise go through minimum-phase
filters of those envelopes. Harmonics and their phases come from the source, so they need not be learned.

Letters: ``B`` batch, ``T`` frames, ``N`` samples (320 T), ``D`` feature dimension, ``bins`` frequencies of a filter
(513).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
import torchaudio
from torch import Tensor, nn

from bowerbird.audio import HOP, SAMPLE_RATE
from bowerbird.nn.vocos import KERNEL, ConvNextBlock, initialize, overlap_add

LOWEST_HZ, HIGHEST_HZ, PITCHES = 55.0, 450.0, 96  # pitch classes, equally spaced in log frequency
OCTAVES = float(torch.tensor(HIGHEST_HZ / LOWEST_HZ).log2())
BANDS = 80  # mel-spaced values of an envelope
FILTER_HOP, FILTER_FFT = 160, 1024  # samples: filters change every 10 ms; windows of four hops


@dataclass(frozen=True)
class Controls:
    """The controls of source and filters that `SourceFilter` predicts for each frame."""

    pitch_logits: Tensor  # (B, T, PITCHES)
    voicing_logit: Tensor  # (B, T)
    harmonic: Tensor  # (B, T, BANDS) log magnitude of the filter of the pulse train
    noise: Tensor  # (B, T, BANDS) log magnitude of the filter of the noise

    @classmethod
    def of(cls, encoded: Tensor) -> Controls:
        """The result ``(B, T, PITCHES + 1 + 2 BANDS)`` of `SourceFilter.encode`, by name.

        Envelopes of zeros are at the level of speech.
        """
        pitch, voicing, harmonic, noise = encoded.split([PITCHES, 1, BANDS, BANDS], dim=-1)
        return cls(pitch, voicing.squeeze(-1), 4 * harmonic - 3, 4 * noise - 4)

    @property
    def pitch(self) -> Tensor:
        """Pitch in Hz ``(B, T)``: the mean of the classes around the most likely one."""
        best = self.pitch_logits.argmax(-1, keepdim=True)
        near = (torch.arange(PITCHES, device=best.device) - best).abs() <= 3
        weights = self.pitch_logits.masked_fill(~near, -torch.inf).softmax(-1)
        place = (weights * torch.arange(PITCHES, device=best.device)).sum(-1)
        return LOWEST_HZ * 2 ** (place * OCTAVES / (PITCHES - 1))

    @property
    def voiced(self) -> Tensor:
        """Voicing ``(B, T)``: 1.0 where voiced, else 0.0."""
        return (self.voicing_logit > 0).float()


class SourceFilter(nn.Module):
    """Features to waveforms: a network that predicts `Controls`, and a synthesizer without weights."""

    spread: Tensor  # (BANDS, bins): interpolates an envelope over all frequencies
    window: Tensor  # (4 FILTER_HOP,)
    fold: Tensor  # (FILTER_FFT,): weights of a cepstrum

    def __init__(self, input_dim: int, dim: int = 256, hidden: int = 768, blocks: int = 6) -> None:
        super().__init__()
        self.conv_pre = nn.Conv1d(input_dim, dim, KERNEL, padding=KERNEL // 2)
        self.norm_pre = nn.LayerNorm(dim, eps=1.0e-6)
        self.blocks = nn.Sequential(*(ConvNextBlock(dim, hidden, 1 / blocks) for _ in range(blocks)))
        self.norm_post = nn.LayerNorm(dim, eps=1.0e-6)
        self.head = nn.Linear(dim, PITCHES + 1 + 2 * BANDS)
        self.apply(initialize)
        bank = torchaudio.functional.melscale_fbanks(FILTER_FFT // 2 + 1, 0.0, SAMPLE_RATE / 2, BANDS, SAMPLE_RATE)
        self.register_buffer("spread", _interpolation(bank), persistent=False)
        self.register_buffer("window", torch.hann_window(4 * FILTER_HOP), persistent=False)
        self.register_buffer("fold", cepstral_fold(), persistent=False)

    @property
    def context_frames(self) -> int:
        """Frames on each side that a frame's controls depend on."""
        return (1 + len(self.blocks)) * (KERNEL // 2) + 1

    def encode(self, features: Tensor) -> Tensor:
        """Features ``(B, T, D)`` to all that `Controls.of` names, ``(B, T, PITCHES + 1 + 2 BANDS)``."""
        x = self.conv_pre(features.transpose(1, 2)).transpose(1, 2)
        return self.head(self.norm_post(self.blocks(self.norm_pre(x)))).float()

    def render(self, controls: Controls, pitch: Tensor | None = None, voiced: Tensor | None = None) -> Tensor:
        """The waveforms ``(B, N)`` of ``controls``.

        ``pitch (B, T)`` in Hz and ``voiced (B, T)`` replace those of the controls. The noise is the same at every call
        in evaluation, and random in training.
        """
        with torch.autocast(controls.harmonic.device.type, enabled=False):
            pulses = pulse_train(
                controls.pitch if pitch is None else pitch, controls.voiced if voiced is None else voiced
            )
            generator = None if self.training else torch.Generator(pulses.device).manual_seed(0)
            # one row of noise for all: the noise of a crop must not depend on its place in the batch
            noise = torch.randn(pulses.shape[-1], generator=generator, device=pulses.device).expand_as(pulses)
            return self.filter_source(pulses, controls.harmonic) + self.filter_source(noise, controls.noise)

    def synthesize(self, encoded: Tensor) -> Tensor:
        """What `encode` gives, ``(B, T, PITCHES + 1 + 2 BANDS)``, to waveforms ``(B, N)``."""
        return self.render(Controls.of(encoded))

    def forward(self, features: Tensor) -> Tensor:
        """Features ``(B, T, D)`` to waveforms ``(B, N)`` of ``N = 320 T`` samples."""
        return self.synthesize(self.encode(features))

    def filter_source(self, source: Tensor, envelope: Tensor) -> Tensor:
        """A source ``(B, N)`` through minimum-phase filters, overlap-added: ``(B, N)``.

        ``envelope (B, T, BANDS)`` holds the filters' log magnitudes.
        """
        envelope = F.interpolate(envelope.transpose(1, 2), scale_factor=HOP / FILTER_HOP, mode="linear").transpose(1, 2)
        return filter_in_windows(source, minimum_phase(envelope @ self.spread, self.fold), self.window)


def filter_in_windows(source: Tensor, response: Tensor, window: Tensor) -> Tensor:
    """A source ``(B, N)`` through complex responses ``(B, 2 T, bins)``, one every 10 ms, overlap-added: ``(B, N)``.

    ``window`` is a Hann window ``(640,)``.
    """
    edge = FILTER_HOP * 3 // 2
    windows = F.pad(source, (edge, edge)).unfold(-1, 4 * FILTER_HOP, FILTER_HOP) * window
    filtered = torch.fft.irfft(torch.fft.rfft(windows, FILTER_FFT) * response, FILTER_FFT)
    padded = F.pad(filtered, (0, -FILTER_FFT % FILTER_HOP))
    count, samples = windows.shape[1], slice(edge, edge + source.shape[-1])
    # a sample lies in four windows that add up to 2, and in fewer at both ends
    weight = overlap_add(window.expand(1, count, -1), FILTER_HOP)[:, samples]
    return overlap_add(padded, FILTER_HOP)[:, samples] / weight


def minimum_phase(log_magnitude: Tensor, fold: Tensor) -> Tensor:
    """The complex response ``(..., bins)`` of ``log_magnitude (..., bins)``, by folding its cepstrum with weights ``fold (1024,)``."""
    cepstrum = torch.fft.irfft(log_magnitude, FILTER_FFT)
    folded = torch.fft.rfft(cepstrum * fold)
    return torch.polar(folded.real.clamp_max(8.0).exp(), folded.imag)


def cepstral_fold() -> Tensor:
    """Weights ``(1024,)`` that make a cepstrum that of minimum phase."""
    fold = torch.zeros(FILTER_FFT)
    fold[0], fold[1 : FILTER_FFT // 2], fold[FILTER_FFT // 2] = 1, 2, 1
    return fold


def pulse_train(pitch: Tensor, voiced: Tensor, hop: int = HOP) -> Tensor:
    """A band-limited pulse train ``(B, N)`` of ``pitch (B, T)`` in Hz, of unit power where ``voiced (B, T)`` is 1.

    A value of pitch stands for ``hop`` samples.

    Pulses are sums of all harmonics up to the Nyquist frequency, in closed form (Dirichlet kernel).
    """
    with torch.no_grad():
        hz = F.interpolate(pitch.double().unsqueeze(1), scale_factor=hop, mode="linear").squeeze(1)
        on = F.interpolate(voiced.float().unsqueeze(1), scale_factor=hop, mode="linear").squeeze(1)
        phase = (hz / SAMPLE_RATE).cumsum(-1).frac()
        count = (SAMPLE_RATE / 2 / hz).floor()
        below = (torch.pi * phase).sin()
        above = ((2 * count + 1) * torch.pi * phase).sin()
        safe = below.abs() > 1.0e-6
        kernel = torch.where(safe, above / torch.where(safe, below, 1.0), 2 * count + 1)
        return ((kernel - 1) / 2 * (2 / count).sqrt()).float() * on


@torch.no_grad()
def track_pitch(wave: Tensor) -> tuple[Tensor, Tensor]:
    """Pitch in Hz ``(B, T)`` and voicing 0 or 1 ``(B, T)`` of each 20 ms frame of waves ``(B, N)``; ``T = N // 320``.

    Normalized cross-correlation of the low-passed wave with a small cost of long periods, then a median over 5 frames.
    """
    size, longest, shortest = 1024, int(SAMPLE_RATE / LOWEST_HZ), int(SAMPLE_RATE / HIGHEST_HZ)
    edge = (size - HOP) // 2
    spectrum = torch.fft.rfft(wave)
    hz = torch.fft.rfftfreq(wave.shape[-1], 1 / SAMPLE_RATE, device=wave.device)
    low = torch.fft.irfft(spectrum * (hz < 1000), wave.shape[-1])
    frames = F.pad(low, (edge, edge)).unfold(-1, size, HOP)  # (B, T, size)
    frames = frames - frames.mean(-1, keepdim=True)
    stay = size - longest  # samples compared at every lag
    still = torch.fft.rfft(frames[..., :stay], 2 * size)
    products = torch.fft.irfft(torch.fft.rfft(frames, 2 * size) * still.conj(), 2 * size)[..., : longest + 1]
    energy = F.pad(frames.square().cumsum(-1), (1, 0))
    energies = (energy[..., stay:] - energy[..., : size - stay + 1])[..., : longest + 1]
    correlation = products / (energies * energies[..., :1]).clamp_min(1.0e-10).sqrt()
    lags = torch.arange(longest + 1, device=wave.device)
    scores = (correlation - 0.04 * lags.clamp_min(1).log2())[..., shortest:-1]
    left, right = correlation[..., shortest - 1 : -2], correlation[..., shortest + 1 :]
    is_peak = (correlation[..., shortest:-1] > left) & (correlation[..., shortest:-1] >= right)
    lag = scores.masked_fill(~is_peak, -2.0).argmax(-1) + shortest
    best = correlation.gather(-1, lag.unsqueeze(-1)).squeeze(-1)
    level = frames.square().mean(-1).sqrt()
    voiced = (best > 0.6) & (level > 0.03 * level.amax(-1, keepdim=True)) & (level > 1.0e-3)
    pitch = SAMPLE_RATE / _peak(correlation, lag)
    return _median(pitch), _median(voiced.float())


def _peak(correlation: Tensor, lag: Tensor) -> Tensor:
    """The lag ``(B, T)`` of the parabola through a peak of ``correlation (B, T, lags)`` and its two neighbors."""
    inner = lag.clamp(1, correlation.shape[-1] - 2)
    left, middle, right = (correlation.gather(-1, (inner + d).unsqueeze(-1)).squeeze(-1) for d in (-1, 0, 1))
    curvature = left - 2 * middle + right
    shift = torch.where(curvature < 0, 0.5 * (left - right) / curvature.clamp_max(-1.0e-6), torch.zeros_like(left))
    return inner + shift.clamp(-0.5, 0.5)


def _median(values: Tensor) -> Tensor:
    """The median of ``(B, T)`` over 5 frames around each."""
    return F.pad(values.unsqueeze(1), (2, 2), mode="replicate").squeeze(1).unfold(-1, 5, 1).median(-1).values


def pitch_loss(controls: Controls, pitch: Tensor, voiced: Tensor) -> Tensor:
    """Cross-entropy of the pitch class in voiced frames plus that of voicing (scalar).

    ``pitch (B, T)`` in Hz and ``voiced (B, T)`` 0 or 1 are the targets; a target pitch is spread over neighboring
    classes with a standard deviation of one class.
    """
    classes = torch.arange(PITCHES, device=pitch.device)
    place = (PITCHES - 1) * (pitch / LOWEST_HZ).log2() / OCTAVES
    labels = (-0.5 * (classes - place.unsqueeze(-1)).square()).softmax(-1)
    entropy = -(labels * controls.pitch_logits.log_softmax(-1)).sum(-1)
    return (entropy * voiced).mean() + F.binary_cross_entropy_with_logits(controls.voicing_logit, voiced)


def _interpolation(bank: Tensor) -> Tensor:
    """Weights ``(BANDS, bins)`` that spread values at the centers of mel bands ``bank (bins, BANDS)`` over all bins.

    They sum to 1 in each bin.
    """
    total = bank.sum(1, keepdim=True)
    weights = torch.where(total > 1.0e-3, bank / total.clamp_min(1.0e-3), torch.zeros_like(bank))
    empty = (weights.sum(1) == 0).nonzero()[:, 0]
    full = weights.sum(1).nonzero()[:, 0]
    for place in empty.tolist():  # below the first band and above the last: the nearest bin that has one
        weights[place] = weights[full[(full - place).abs().argmin()]]
    return weights.T.contiguous()
