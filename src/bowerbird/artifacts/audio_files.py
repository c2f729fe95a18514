"""Audio files that bowerbird writes: FLAC and WAV with text tags, whole or not at all."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import soundfile

from bowerbird.artifacts.files import atomic_path
from bowerbird.audio import _TAGS, SAMPLE_RATE, float_to_int16
from bowerbird.errors import BowerbirdError


def write_audio(path: str | os.PathLike[str], samples: np.ndarray, tags: Mapping[str, str] | None = None) -> None:
    """Write int16 ``(samples,)`` at 16 kHz atomically, as FLAC or WAV by suffix, with text ``tags``."""
    path = Path(path)
    formats = {".flac": "FLAC", ".wav": "WAV"}
    if path.suffix.lower() not in formats:
        raise BowerbirdError(f"{path}: cannot write {path.suffix or 'a file without suffix'}; use .flac or .wav")
    if samples.dtype != np.int16:
        samples = float_to_int16(samples)
    memory = io.BytesIO()  # a disk that is full is then Python's error, which names itself; libsndfile's does not
    with soundfile.SoundFile(memory, "w", SAMPLE_RATE, 1, "PCM_16", format=formats[path.suffix.lower()]) as handle:
        for name, value in (tags or {}).items():
            if name not in _TAGS:
                raise BowerbirdError(f"tag {name!r}: libsndfile stores only {', '.join(_TAGS)}")
            setattr(handle, name, value)
        handle.write(samples)
    with atomic_path(path) as temporary:
        temporary.write_bytes(memory.getvalue())
