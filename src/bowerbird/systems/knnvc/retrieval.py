"""Retrieval: source frames to frames of the matching set. Nothing is learned, so there is no network and no training.

Letters: ``T`` frames of the source, ``M`` frames of the matching set, ``D`` feature dimension, ``k`` neighbors, ``K`` dimension of the
keys.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from bowerbird.nn.nearest import SearchPool
from bowerbird.systems.base import Utterance

APART = 10  # frames (0.2 s): nearer ones are of the same sound
FRAMES_AT_ONCE = 256


def own_neighbors(keys: np.ndarray, k: int) -> np.ndarray:
    """Indices ``(T, k)`` of the k frames of the source nearest to each of its own, by ``keys (T, K)``, none of them within `APART`.

    ``(T, 0)`` where the source is too short for that.
    """
    frames = len(keys)
    if frames < 2 * APART + 1 + k:
        return np.zeros((frames, 0), np.int64)
    pool, places, chosen = SearchPool(keys), np.arange(frames), []
    for start in range(0, frames, FRAMES_AT_ONCE):
        rows = places[start : start + FRAMES_AT_ONCE]
        similarity = pool.similarities(keys[rows])
        similarity[np.abs(rows[:, None] - places) <= APART] = -np.inf
        chosen.append(np.argsort(-similarity, axis=1, kind="stable")[:, :k])
    return np.concatenate(chosen)


def random_frames(num_frames: int, matching_frames: int, k: int, seed: int) -> np.ndarray:
    """``(T, k)`` indices into a matching set of ``matching_frames``: k different ones per row, whatever the source says."""
    generator = np.random.Generator(np.random.PCG64(seed))
    return np.stack([generator.choice(matching_frames, size=k, replace=False) for _ in range(num_frames)])


def random_seed(trial: Mapping[str, Any] | None, source: Utterance) -> int:
    """A seed that depends on nothing but the trial's id; outside a trial, on the source's."""
    name = str(trial["trial_id"]) if trial is not None else source.utt_id
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
