"""Audio in and out: anything libsndfile reads, as float32 mono at 16 kHz; FLAC and WAV with tags.

Letters: ``N`` samples.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping

import numpy as np
import soundfile
import soxr

from bowerbird.errors import BowerbirdError

SAMPLE_RATE = 16000  # Hz, of everything inside bowerbird
HOP = 320  # samples per feature frame: 20 ms
FRAMES_PER_SECOND = 50  # of features
SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".aiff", ".aif", ".au", ".sph")  # that libsndfile reads
WRITTEN = {".flac": "FLAC", ".wav": "WAV"}  # suffix -> libsndfile's name of the format
TAGS = ("title", "software", "comment", "artist", "date")  # that libsndfile stores


def read_native(path: str | os.PathLike[str]) -> tuple[np.ndarray, int]:
    """Samples of a file as float32 mono ``(N,)`` (channels averaged) and its own rate in Hz."""
    try:
        wave, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError, OSError) as error:
        raise BowerbirdError(f"{path}: not readable as audio ({error})") from error
    return np.ascontiguousarray(wave.mean(axis=1) if wave.shape[1] > 1 else wave[:, 0]), int(rate)


def resample(wave: np.ndarray, rate: int, target: int = SAMPLE_RATE) -> np.ndarray:
    """``(N,)`` at ``rate`` Hz to float32 at ``target`` Hz (soxr, high quality)."""
    if rate == target or not len(wave):
        return wave.astype(np.float32, copy=False)
    return soxr.resample(wave.astype(np.float32, copy=False), rate, target, quality="HQ")


def read_audio(path: str | os.PathLike[str]) -> np.ndarray:
    """Any readable file as float32 mono ``(N,)`` at 16 kHz, full scale 1."""
    return resample(*read_native(path))


def int16_to_float(samples: np.ndarray) -> np.ndarray:
    """int16 ``(N,)`` to float32 in [-1, 1)."""
    return samples.astype(np.float32) / 32768.0


def float_to_int16(wave: np.ndarray) -> np.ndarray:
    """Float ``(N,)`` in [-1, 1] to int16, rounded, clipped at full scale."""
    return np.clip(np.rint(np.asarray(wave, np.float64) * 32768.0), -32768, 32767).astype(np.int16)


def rms(wave: np.ndarray) -> float:
    """Root mean square of ``(N,)``; 0 for no samples."""
    return float(np.sqrt(np.mean(np.square(wave, dtype=np.float64)))) if len(wave) else 0.0


def encode_audio(samples: np.ndarray, suffix: str, tags: Mapping[str, str] | None = None) -> bytes:
    """The bytes of a 16 kHz file with int16 ``(N,)`` and text ``tags``; ``suffix`` (".flac", ".wav") says the format."""
    if samples.dtype != np.int16:
        samples = float_to_int16(samples)
    memory = io.BytesIO()  # a disk that is full is then Python's error, which names itself; libsndfile's does not
    with soundfile.SoundFile(memory, "w", SAMPLE_RATE, 1, "PCM_16", format=WRITTEN[suffix]) as handle:
        for name, value in (tags or {}).items():
            if name not in TAGS:
                raise BowerbirdError(f"tag {name!r}: libsndfile stores only {', '.join(TAGS)}")
            setattr(handle, name, value)
        handle.write(samples)
    return memory.getvalue()


def read_tags(path: str | os.PathLike[str]) -> dict[str, str]:
    """The text tags of a file (title, software, comment ...)."""
    try:
        with soundfile.SoundFile(path) as handle:
            return {name: value for name in TAGS if (value := getattr(handle, name, ""))}
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise BowerbirdError(f"{path}: not readable as audio ({error})") from error
