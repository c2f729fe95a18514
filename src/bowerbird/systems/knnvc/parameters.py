"""What retrieval does to WORLD's parameters, and what stays the source's.

Neighbors come from many places: their pitch, level and breath follow no contour, and their mean is flatter than speech. Here
the source's contours stand in the place of theirs, envelopes are smoothed over time, and their spread is restored.

Letters: ``T`` frames of the source, ``M`` frames of the matching set; a row has 252 columns (`bowerbird.nn.world`).
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from bowerbird.nn import world


def refine(
    rows: np.ndarray,
    source: np.ndarray,
    matching_set: np.ndarray,
    keep: Collection[str] = (),
    smoothing_ms: float = 0.0,
    variance: float = 0.0,
) -> np.ndarray:
    """Retrieved rows ``(T, 252)`` with smooth envelopes of the reference's spread, and what ``keep`` names from ``source (T, 252)``.

    ``matching_set (M, 252)`` is the target's speech: the source's pitch is moved to its mean of log F0 over voiced subframes.
    """
    rows = rows.copy()
    if smoothing_ms:
        rows[:, world.ENVELOPE] = smooth(rows[:, world.ENVELOPE], smoothing_ms)
    if variance:
        rows[:, world.ENVELOPE] = widen(rows[:, world.ENVELOPE], matching_set[:, world.ENVELOPE], variance)
    if "energy" in keep:
        rows[:, world.LEVEL] = source[:, world.LEVEL]
    if "aperiodicity" in keep:
        rows[:, world.APERIODICITY] = source[:, world.APERIODICITY]
    if "pitch" in keep:
        rows[:, world.VOICING] = source[:, world.VOICING]
        rows[:, world.PITCH] = source[:, world.PITCH] + mean_pitch(matching_set) - mean_pitch(source)
    return rows


def mean_pitch(rows: np.ndarray) -> float:
    """Mean of log F0 over the voiced subframes of ``rows (T, 252)``; over all, where nothing is voiced."""
    pitch, voiced = rows[:, world.PITCH], rows[:, world.VOICING] > 0.5
    return float(pitch[voiced].mean() if voiced.any() else pitch.mean())


def smooth(envelopes: np.ndarray, window_ms: float) -> np.ndarray:
    """Envelopes ``(T, 240)`` averaged over time by a Hann window of ``window_ms``, subframe by subframe; ends stand for what follows."""
    half = int(window_ms / world.PERIOD_MS / 2)
    window = np.hanning(2 * half + 3)[1:-1]
    values = np.pad(envelopes.reshape(-1, world.CODED), ((half, half), (0, 0)), mode="edge")
    total = len(values) - 2 * half
    averaged = sum(weight * values[place : place + total] for place, weight in enumerate(window / window.sum()))
    return np.asarray(averaged, dtype=np.float32).reshape(envelopes.shape)


def widen(envelopes: np.ndarray, reference: np.ndarray, share: float) -> np.ndarray:
    """Envelopes ``(T, 240)`` whose deviation over time, value by value, moves by ``share`` to that of ``reference (M, 240)``.

    It is the global variance of speech synthesis (Toda and Tokuda 2007), applied after the fact.
    """
    values, wanted = envelopes.reshape(-1, world.CODED), reference.reshape(-1, world.CODED)
    mean, deviation = values.mean(axis=0), values.std(axis=0)
    factor = 1 + share * (wanted.std(axis=0) / np.maximum(deviation, 1e-6) - 1)
    return np.asarray(mean + (values - mean) * factor, dtype=np.float32).reshape(envelopes.shape)
