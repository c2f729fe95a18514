"""kNN-VC: voice conversion with just nearest neighbours (Baas, van Niekerk and Kamper, Interspeech 2023).

Nothing is trained but the vocoder. Section 3 of the paper, top to bottom:

1. encoder: source and references become WavLM features, one vector each 20 ms (given: `bowerbird.features`);
2. the matching set is every frame of every reference utterance;
3. each source frame is replaced by the mean of its k = 4 nearest frames of the matching set, by cosine distance;
4. vocoder: HiFi-GAN turns the replaced frames into a waveform.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bowerbird.artifacts import BowerbirdError
from bowerbird.nn.neighbours import Pool
from bowerbird.systems.base import Conversion, System, Utterance
from bowerbird.systems.vocoder import Vocoder, load_vocoder

FRAMES_PER_SECOND = 50


class KnnVC(System):
    """Frame-wise retrieval from the target's speech, then a vocoder."""

    def __init__(self, vocoder: Vocoder, k: int = 4, retrieval: str = "nearest", device: str = "cpu") -> None:
        self.vocoder, self.k, self.retrieval, self.device = vocoder, k, retrieval, device

    @classmethod
    def load(cls, experiment: Any, models: Mapping[str, Path], device: torch.device) -> KnnVC:
        if "vocoder" not in models:
            raise BowerbirdError("--models: kNN-VC needs a vocoder; give vocoder=FOLDER")
        vocoder = load_vocoder(models["vocoder"], device)
        return cls(vocoder, experiment.k, experiment.retrieval, str(device))

    def convert(
        self, source: Utterance, references: list[Utterance], trial: Mapping[str, Any] | None = None
    ) -> Conversion:
        """Convert ``source`` to the voice of ``references``; both carry features ``(frames, dim)``.

        ``details`` holds the seconds of each step and the mean cosine similarity of the retrieved frames. The random
        control draws its frames from a seed that the trial's id determines.
        """
        started = time.perf_counter()
        query = features_of(source)  # (T, dim)
        matching_set = torch.cat([features_of(reference) for reference in references]).cpu().numpy()  # (N, dim)
        if len(matching_set) < self.k:
            raise BowerbirdError(
                f"references: {len(matching_set)} frames ({len(matching_set) / FRAMES_PER_SECOND:.2f} s): fewer than "
                f"k = {self.k} neighbours; give more speech of the target, or lower k"
            )
        details: dict[str, Any] = {}
        if self.retrieval == "nearest":
            indices, similarity = nearest_frames(query.cpu().numpy(), matching_set, self.k, self.device)
            details["mean_similarity"] = float(similarity.mean())
        else:
            indices = random_frames(len(query), len(matching_set), self.k, seed_of(trial, source))
        # Equal weights, as the paper found as good as weighting by similarity.
        converted = torch.from_numpy(matching_set[indices].astype(np.float32).mean(axis=1))  # (T, k, dim) -> (T, dim)
        retrieved = time.perf_counter()
        wave = self.vocoder.vocode(converted.to(query.device))
        details["seconds"] = {"retrieval": retrieved - started, "vocoding": time.perf_counter() - retrieved}
        return Conversion(wave=wave, features=converted, details=details)


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
