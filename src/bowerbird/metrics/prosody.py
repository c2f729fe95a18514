"""How much of the source's prosody a conversion keeps, on frames of 16 ms by swift-f0.

Both tracks start at sample 0 and are cut to the shorter one. A frame is voiced where the detector's confidence is at
least 0.5. Pitch enters as ``12 log2(F0)``, in semitones.

* ``f0_pcc`` (version 2): Pearson correlation over frames voiced in both; a flat track, one whose standard deviation is
  below a tenth of a semitone, has correlation 0 by definition. Of a constant tone the detector's own jitter reaches 0.05
  semitones, and correlated with a melody it gives up to 0.13 in either direction (version 1 did); speech has above 1;
* ``f0_rmse_centred``: RMS difference in semitones over those frames, after each track's mean over them is removed (the
  target's own register is no error);
* ``vuv_f1``: F1 of "voiced" over all common frames, the source's decision being the truth;
* ``epcc``: Pearson correlation of energy in dB over all common frames (windows of 64 ms around the same instants), each
  track floored 60 dB below its own loudest frame; a constant track has correlation 0. Loudness as such is no error;
* ``f0_pcc_zeros``: **for comparison with published tables only**. F0 in Hz with zeros where unvoiced, correlated over
  all common frames, as the evaluation scripts that circulate with FreeVC compute "F0-PCC". It mostly measures whether
  both are voiced at the same time: a conversion with flat pitch still scores high.

The first two have no value where fewer than `MIN_VOICED` frames are voiced in both.

Letters: ``N`` samples, ``T`` frames.
"""

from __future__ import annotations

import importlib.metadata
import math
from dataclasses import dataclass

import numpy as np

from bowerbird.artifacts.files import file_sha256
from bowerbird.audio import SAMPLE_RATE
from bowerbird.encoders.checkpoint import ModelIdentity, packaged_file

MIN_VOICED = 10
FLAT_SEMITONES = 0.1  # a pitch track whose standard deviation is below is flat: what is left is the detector's jitter
CONSTANT = 1e-3  # Hz or dB; a track whose standard deviation is below is constant
ENERGY_MODEL = "energy in dB, 64 ms every 16 ms"  # what score rows of ``epcc`` name
ENERGY_WINDOW, ENERGY_HOP, ENERGY_FLOOR_DB = 1024, 256, 60.0


@dataclass(frozen=True)
class PitchTrack:
    """``hertz`` float64 ``(T,)`` and ``voiced`` bool ``(T,)``, one frame per 256 samples."""

    hertz: np.ndarray
    voiced: np.ndarray


def energy_track(wave: np.ndarray) -> np.ndarray:
    """Energy in dB ``(N // 256 + 1,)`` of a 16 kHz ``wave`` ``(N,)``, Hann windows of 1024 around every 256th sample."""
    padded = np.pad(np.asarray(wave, np.float64), ENERGY_WINDOW // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, ENERGY_WINDOW)[::ENERGY_HOP]
    power = (frames**2) @ np.hanning(ENERGY_WINDOW) / (ENERGY_WINDOW / 2)
    decibels = 10 * np.log10(np.maximum(power, 1e-12))
    return np.asarray(np.maximum(decibels, decibels.max() - ENERGY_FLOOR_DB))


def energy_correlation(converted: np.ndarray, source: np.ndarray) -> float:
    """``epcc`` of two energy tracks ``(T,)`` in dB, cut to the shorter."""
    frames = min(len(converted), len(source))
    a, b = converted[:frames], source[:frames]
    return pearson(a - a.mean(), b - b.mean())


class PitchDetector:
    """swift-f0 with its bundled weights, on one thread."""

    def __init__(self) -> None:
        import swift_f0  # a slow library

        self.detector = swift_f0.SwiftF0(threads=1, spin=False)

    def track(self, wave: np.ndarray) -> PitchTrack:
        """Pitch of a 16 kHz ``wave`` ``(N,)`` float32."""
        result = self.detector.detect(wave, SAMPLE_RATE)
        return PitchTrack(result.pitch_hz, (result.confidence >= 0.5) & (result.pitch_hz > 0))

    def describe(self) -> ModelIdentity:
        """The detector by name, and the SHA-256 of its weights."""
        weights = packaged_file("swift_f0", "model.onnx", "evaluation.prosody")
        return ModelIdentity(f"swift-f0 {importlib.metadata.version('swift-f0')}", file_sha256(weights))


def prosody_scores(converted: PitchTrack, source: PitchTrack) -> tuple[dict[str, float], str]:
    """The metrics of pitch of one trial, and the reason why some are NaN ("" where none is)."""
    frames = min(len(converted.hertz), len(source.hertz))
    ours, theirs = converted.voiced[:frames], source.voiced[:frames]
    scores = {"f0_pcc": math.nan, "f0_rmse_centred": math.nan, "vuv_f1": voicing_f1(ours, theirs)}
    a, b = (np.where(voiced, t.hertz[:frames], 0.0) for voiced, t in ((ours, converted), (theirs, source)))
    scores["f0_pcc_zeros"] = pearson(a - a.mean(), b - b.mean()) if frames else math.nan
    both = ours & theirs
    notes = []
    if both.sum() >= MIN_VOICED:
        a, b = (12 * np.log2(track.hertz[:frames][both]) for track in (converted, source))
        a, b = a - a.mean(), b - b.mean()
        scores["f0_pcc"] = pearson(a, b, FLAT_SEMITONES)
        scores["f0_rmse_centred"] = float(np.sqrt(np.mean((a - b) ** 2)))
    else:
        notes.append(f"{int(both.sum())} frames voiced in both, fewer than {MIN_VOICED}")
    if not frames:
        notes.append("no frame in one of them")
    elif np.isnan(scores["vuv_f1"]):
        notes.append("no voiced frame in either")
    return scores, "; ".join(notes)


def pearson(a: np.ndarray, b: np.ndarray, flat: float = CONSTANT) -> float:
    """Correlation of two centred tracks ``(T,)``; 0 where the standard deviation of one is below ``flat``."""
    if not len(a) or min(a.std(), b.std()) < flat:
        return 0.0
    return float(np.clip((a @ b) / np.sqrt((a @ a) * (b @ b)), -1.0, 1.0))


def voicing_f1(ours: np.ndarray, theirs: np.ndarray) -> float:
    """F1 of the decision "voiced", bool ``(T,)``; NaN where neither track has a voiced frame."""
    total = int(ours.sum()) + int(theirs.sum())
    return 2 * int((ours & theirs).sum()) / total if total else math.nan
