"""What a conversion becomes on disk: its loudness, and marks that say it is synthetic and how it was made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bowerbird.artifacts.audio_files import write_audio
from bowerbird.artifacts.files import file_sha256
from bowerbird.artifacts.identity import canonical_json
from bowerbird.audio import float_to_int16, read_tags, rms
from bowerbird.errors import BowerbirdError

PEAK = 0.99  # of full scale; a gain never lifts a sample beyond
SILENCE_RMS = 1e-5  # -100 dB of full scale


@dataclass(frozen=True)
class Loudness:
    """A waveform ``(samples,)`` int16 and what was done to it."""

    samples: np.ndarray
    gain_db: float
    limited: bool


def match_loudness(wave: np.ndarray, source: np.ndarray, policy: str) -> Loudness:
    """Scale ``wave`` to the RMS of ``source`` ("source") or leave it ("none"), as 16-bit samples.

    Nothing clips: the gain is held back where the loudest sample would pass `PEAK` (or the source's own peak).
    """
    if wave.size == 0:
        raise BowerbirdError("the system gave no samples")
    if not np.isfinite(wave).all():
        raise BowerbirdError("the system gave values that are not finite")
    own_rms, own_peak = rms_and_peak(wave)
    source_rms, source_peak = rms_and_peak(source)
    if own_rms < SILENCE_RMS:
        raise BowerbirdError("the system gave silence")
    wanted = max(source_rms, SILENCE_RMS) / own_rms if policy == "source" else 1.0
    gain = min(wanted, max(PEAK, source_peak) / own_peak)
    samples = float_to_int16((wave.astype(np.float64) * gain).astype(np.float32))
    return Loudness(samples, 20 * float(np.log10(gain)), gain < wanted)


def rms_and_peak(wave: np.ndarray) -> tuple[float, float]:
    """Root mean square and largest magnitude of a wave ``(samples,)``."""
    return rms(wave), float(np.abs(wave).max(initial=0.0))


def write_conversion(path: Path, loud: Loudness, system: str, recipe: str, heard_s: float) -> dict[str, Any]:
    """Write the samples, marked as synthetic; returns the values that the table records."""
    stats = {
        "num_samples": len(loud.samples),
        "heard_s": round(heard_s, 4),
        "gain_db": round(loud.gain_db, 4),
        "limited": bool(loud.limited),
    }
    mark = {"synthetic": True, "system": system, "recipe": recipe, "pcm_sha256": _pcm_sha256(loud.samples), **stats}
    write_audio(path, loud.samples, synthetic_tags(system, mark))
    return {**stats, "sha256": file_sha256(path)}


def synthetic_tags(system: str, mark: Mapping[str, Any]) -> dict[str, str]:
    """Tags that say, to people and to programs, that no human said this."""
    return {
        "title": "Synthetic speech (voice conversion)",
        "software": f"bowerbird {system}",
        "comment": canonical_json(dict(mark)),
    }


def read_kept(path: Path, recipe: str) -> dict[str, Any] | None:
    """Facts of a conversion already on disk, if it is of this recipe and its samples are what its tag says."""
    if not path.exists():
        return None
    try:
        mark = json.loads(read_tags(path).get("comment", ""))
        if mark["recipe"] != recipe or mark["pcm_sha256"] != _pcm_sha256(_read_pcm(path)):
            return None
        stats = {key: mark[key] for key in ("num_samples", "heard_s", "gain_db", "limited")}
        return {**stats, "sha256": file_sha256(path)}
    except (ValueError, KeyError, TypeError, RuntimeError, BowerbirdError):
        return None


def _read_pcm(path: Path) -> np.ndarray:
    import soundfile

    return soundfile.read(path, dtype="int16")[0]


def _pcm_sha256(samples: np.ndarray) -> str:
    return hashlib.sha256(samples.astype("<i2").tobytes()).hexdigest()
