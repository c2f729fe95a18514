"""Audio in and out: anything libsndfile reads, as float32 mono at 16 kHz; FLAC and WAV with tags."""

from __future__ import annotations

import os

import numpy as np
import soundfile
import soxr

from bowerbird.errors import BowerbirdError

SAMPLE_RATE = 16000  # Hz, of everything inside bowerbird


HOP = 320  # samples a feature frame: 20 ms


SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".aiff", ".aif", ".au", ".sph")


_TAGS = ("title", "software", "comment", "artist", "date")


def read_native(path: str | os.PathLike[str]) -> tuple[np.ndarray, int]:
    """Samples of a file as float32 mono ``(samples,)`` (channels averaged) and its own rate in Hz."""
    try:
        wave, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError, OSError) as error:
        raise BowerbirdError(f"{path}: not readable as audio ({error})") from error
    return np.ascontiguousarray(wave.mean(axis=1) if wave.shape[1] > 1 else wave[:, 0]), int(rate)


def resample(wave: np.ndarray, rate: int, target: int = SAMPLE_RATE) -> np.ndarray:
    """``(samples,)`` at ``rate`` Hz to float32 at ``target`` Hz (soxr, high quality)."""
    if rate == target or not len(wave):
        return wave.astype(np.float32, copy=False)
    return soxr.resample(wave.astype(np.float32, copy=False), rate, target, quality="HQ")


def read_audio(path: str | os.PathLike[str]) -> np.ndarray:
    """Any readable file as float32 mono ``(samples,)`` at 16 kHz, full scale 1."""
    return resample(*read_native(path))


def int16_to_float(samples: np.ndarray) -> np.ndarray:
    """int16 to float32 in [-1, 1)."""
    return samples.astype(np.float32) / 32768.0


def float_to_int16(wave: np.ndarray) -> np.ndarray:
    """Float in [-1, 1] to int16, rounded, clipped at full scale."""
    return np.clip(np.rint(np.asarray(wave, np.float64) * 32768.0), -32768, 32767).astype(np.int16)


def rms(wave: np.ndarray) -> float:
    """Root mean square of ``(samples,)``; 0 for no samples."""
    return float(np.sqrt(np.mean(np.square(wave, dtype=np.float64)))) if len(wave) else 0.0


def read_tags(path: str | os.PathLike[str]) -> dict[str, str]:
    """The text tags of a file (title, software, comment ...)."""
    try:
        with soundfile.SoundFile(path) as handle:
            return {name: value for name in _TAGS if (value := getattr(handle, name, ""))}
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise BowerbirdError(f"{path}: not readable as audio ({error})") from error
