"""Retrieval: source frames to frames of the matching set. Nothing is learned, so there is no network and no training.

Letters: ``T`` frames of the source, ``M`` frames of the matching set, ``D`` feature dimension, ``k`` neighbors.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from bowerbird.systems.base import Utterance


def random_frames(num_frames: int, matching_frames: int, k: int, seed: int) -> np.ndarray:
    """``(T, k)`` indices into a matching set of ``matching_frames``: k different ones per row, whatever the source says."""
    generator = np.random.Generator(np.random.PCG64(seed))
    return np.stack([generator.choice(matching_frames, size=k, replace=False) for _ in range(num_frames)])


def random_seed(trial: Mapping[str, Any] | None, source: Utterance) -> int:
    """A seed that depends on nothing but the trial's id; outside a trial, on the source's."""
    name = str(trial["trial_id"]) if trial is not None else source.utt_id
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
