"""Audio files that bowerbird writes: FLAC and WAV with text tags, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bowerbird.artifacts.files import atomic_path
from bowerbird.audio import WRITTEN, encode_audio
from bowerbird.errors import BowerbirdError


def write_audio(path: str | os.PathLike[str], samples: np.ndarray, tags: Mapping[str, str] | None = None) -> None:
    """Write int16 ``(N,)`` at 16 kHz, as FLAC or WAV by the suffix of ``path``, with text ``tags``."""
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in WRITTEN:
        raise BowerbirdError(f"{path}: cannot write {path.suffix or 'a file without suffix'}; use .flac or .wav")
    data = encode_audio(samples, suffix, tags)
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)
