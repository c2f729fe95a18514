"""Retrieval of frames from the matching set."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from bowerbird.errors import BowerbirdError
from bowerbird.nn.nearest import Pool
from bowerbird.systems.base import Utterance

FRAMES_PER_SECOND = 50


def nearest_frames(
    query: np.ndarray, matching_set: np.ndarray, k: int, device: str = "cpu"
) -> tuple[np.ndarray, np.ndarray]:
    """Indices and cosine similarities ``(T, k)`` of the k frames of ``matching_set`` nearest each of ``query``.

    Exact on every device, nearest first, ties to the lower index.
    """
    return Pool(matching_set, "cosine", device).nearest(query, k)


def random_frames(frames: int, pool: int, k: int, seed: int) -> np.ndarray:
    """``(frames, k)`` indices into a pool of ``pool`` frames, k different ones a row, whatever the source says."""
    generator = np.random.Generator(np.random.PCG64(seed))
    return np.stack([generator.choice(pool, size=k, replace=False) for _ in range(frames)])


def seed_of(trial: Mapping[str, Any] | None, source: Utterance) -> int:
    """A seed that depends on nothing but the trial's id (outside a trial: on the source's)."""
    name = str(trial["trial_id"]) if trial is not None else source.utt_id
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")


def features_of(utterance: Utterance) -> Tensor:
    """Features ``(frames, dim)`` float32 of an utterance, at least one frame."""
    if utterance.features is None:
        raise BowerbirdError(
            f"{utterance.utt_id}: has no features; kNN-VC needs them of the source and every reference"
        )
    if len(utterance.features) == 0:
        raise BowerbirdError(f"{utterance.utt_id}: too short for one frame of features (25 ms); give longer speech")
    return utterance.features.float()
