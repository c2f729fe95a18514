"""Batches for the training of the nano encoder: random crops of labeled speech, changed so that no two are alike.

Letters: ``B`` batch, ``N`` samples, ``T`` frames of 20 ms.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from phones import PHONES
from torch import Tensor

from bowerbird.audio import HOP, SAMPLE_RATE, int16_to_float
from bowerbird.nn.sourcefilter import track_pitch

CENTER = 200  # samples from the start of a frame to its center

Times = list[tuple[int, float, float]]  # of phones: index in PHONES or -1 (ignored), start and end in seconds


@dataclass(frozen=True)
class Utterance:
    """Labeled speech, in memory."""

    wave: np.ndarray  # (N,) int16
    phones: Times
    pitch: np.ndarray  # (N // 320,) Hz, 0 where unvoiced


def load_speech(folder: Path, known: dict[str, Utterance]) -> None:
    """Add the labeled utterances of ``folder`` that are not in ``known`` yet (the folder may still be growing)."""
    index = {phone: number for number, phone in enumerate(PHONES)}
    for label in sorted(folder.glob("*.json")):
        if label.stem in known or not label.with_suffix(".flac").exists():
            continue
        phones = [(index.get(p, -1), a, b) for p, a, b in json.loads(label.read_text())["phones"]]
        if any(end < start for _, start, end in phones):
            raise ValueError(f"{label}: a phone ends before it starts; times are [phone, start_s, end_s]")
        if len(phones) > 5:
            wave = soundfile.read(label.with_suffix(".flac"), dtype="int16")[0]
            hertz, voiced = track_pitch(torch.from_numpy(int16_to_float(wave[None])))
            known[label.stem] = Utterance(wave, phones, (hertz * voiced)[0].numpy())


def frame_centers(frames: int, offset_s: float, speed: float) -> np.ndarray:
    """Where the center of each frame of a crop lies in its utterance, ``(T,)`` in seconds.

    The crop starts at ``offset_s`` and is played ``speed`` times as fast. Frame i reads samples [320 i, 320 i + 400) of it.
    """
    return ((np.arange(frames) * HOP + CENTER) / SAMPLE_RATE) * speed + offset_s


def frame_labels(phones: Times, centers: np.ndarray) -> np.ndarray:
    """Phone and third of the phone of each frame, ``(T, 2)`` int64, of centers ``(T,)`` in seconds; -1 where unlabeled."""
    labels = np.full((len(centers), 2), -1, np.int64)
    for phone, start, end in phones:
        inside = (centers >= start) & (centers < end)
        labels[inside, 0] = phone
        labels[inside, 1] = np.minimum(2, ((centers[inside] - start) / max(end - start, 1e-3) * 3).astype(int))
    return labels


def frame_pitch(pitch: np.ndarray, centers: np.ndarray, speed: float) -> np.ndarray:
    """Pitch in Hz of each frame, ``(T,)`` float32, of centers ``(T,)`` in seconds; 0 where unvoiced or past the end.

    ``pitch`` is that of the whole utterance, which is played ``speed`` times as fast.
    """
    places = (centers * SAMPLE_RATE / HOP).astype(int)
    return np.where(places < len(pitch), pitch[np.minimum(places, len(pitch) - 1)] * speed, 0).astype(np.float32)


def color(wave: np.ndarray, rng: np.random.Generator, most_db: float = 6.0) -> np.ndarray:
    """Another microphone: a smooth random gain over frequency, ``(N,)`` to ``(N,)``; half of all crops stay as they are."""
    if rng.uniform() < 0.5:
        return wave
    spectrum = np.fft.rfft(wave)
    points = rng.uniform(-most_db, most_db, 7)
    gain_db = np.interp(np.sqrt(np.linspace(0, 1, len(spectrum))), np.linspace(0, 1, len(points)), points)
    return np.fft.irfft(spectrum * 10 ** (gain_db / 20), len(wave)).astype(np.float32)


def draw_crop(
    utterance: Utterance, duration_s: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A random crop, played faster or slower (pitch, formants and tempo together), colored, at a random level.

    Returns samples ``(N,)`` float32, labels ``(T, 2)`` and pitch ``(T,)`` of its frames.
    """
    speed = float(rng.uniform(0.8, 1.25))
    length = int(duration_s * SAMPLE_RATE)
    needed = int(length * speed) + 64
    start = int(rng.integers(0, max(1, len(utterance.wave) - needed)))
    wave = int16_to_float(utterance.wave[start : start + needed])
    wave = soxr.resample(wave, SAMPLE_RATE * speed, SAMPLE_RATE, quality="QQ")
    wave = color(wave, rng)
    peak = np.abs(wave).max() + 1e-4
    wave = wave * (0.7 / peak) * 10 ** (rng.uniform(-18, 0) / 20)
    wave = np.pad(wave, (0, max(0, length - len(wave))))[:length]
    centers = frame_centers((length - 80) // HOP, start / SAMPLE_RATE, speed)
    return wave, frame_labels(utterance.phones, centers), frame_pitch(utterance.pitch, centers, speed)


def draw_batch(
    pools: list[list[Utterance]], size: int, duration_s: float, rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Crops in equal shares of every folder of speech, under noise and, half of them, another crop.

    Returns noisy and clean waves ``(B, N)``, labels ``(B, T, 2)`` and pitch ``(B, T)``; the mel target is that of the clean wave.
    """
    chosen = (pools[number % len(pools)] for number in range(size))
    items = [draw_crop(pool[rng.integers(len(pool))], duration_s, rng) for pool in chosen]
    clean = torch.from_numpy(np.stack([wave for wave, _, _ in items]))
    level = clean.square().mean(1, keepdim=True).sqrt()
    snr = torch.from_numpy(rng.uniform(12, 45, (size, 1))).float()
    noisy = clean + torch.from_numpy(rng.standard_normal(clean.shape, np.float32)) * level * 10 ** (-snr / 20)
    other_db = np.where(rng.uniform(size=(size, 1)) < 0.5, rng.uniform(-25, -8, (size, 1)), -np.inf)
    others = clean.roll(1, 0) * level / level.roll(1, 0).clamp_min(1e-5)
    noisy = noisy + others * torch.from_numpy(10 ** (other_db / 20)).float()
    labels, pitch = (torch.from_numpy(np.stack([item[place] for item in items])) for place in (1, 2))
    return noisy, clean, labels, pitch
