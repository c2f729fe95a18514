"""kNN-VC, ready to convert.

Letters: ``T`` frames of the source, ``M`` frames of the matching set, ``D`` feature dimension, ``k`` neighbors.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from bowerbird.audio import FRAMES_PER_SECOND
from bowerbird.config.systems.knnvc import KnnvcExperiment
from bowerbird.errors import BowerbirdError
from bowerbird.systems.base import Conversion, System, Utterance, check_models, features_of
from bowerbird.systems.knnvc.retrieval import nearest_frames, random_frames, random_seed
from bowerbird.systems.vocoder.synthesis import Vocoder, load_vocoder


class KnnVC(System[KnnvcExperiment]):
    """Frame-wise retrieval from the target's speech, then a vocoder."""

    def __init__(self, vocoder: Vocoder, k: int = 4, retrieval: str = "nearest", device: str = "cpu") -> None:
        self.vocoder, self.k, self.retrieval, self.device = vocoder, k, retrieval, device

    @classmethod
    def load(cls, experiment: KnnvcExperiment, models: Mapping[str, Path], device: torch.device) -> Self:
        """kNN-VC with its vocoder; neighbors are searched on ``device``."""
        check_models(models, ("vocoder",), "kNN-VC")
        vocoder = load_vocoder(models["vocoder"], device)
        return cls(vocoder, experiment.k, experiment.retrieval, str(device))

    def convert(
        self, source: Utterance, references: list[Utterance], trial: Mapping[str, Any] | None = None
    ) -> Conversion:
        """``source`` in the voice of ``references``, whose frames are the matching set.

        ``details`` holds the seconds of each step and the mean cosine similarity of the retrieved frames. The random
        control draws its frames from a seed that the trial's id determines.
        """
        started = time.perf_counter()
        query = features_of(source, "kNN-VC")  # (T, D)
        matching_set = torch.cat([features_of(r, "kNN-VC") for r in references]).cpu().numpy()  # (M, D)
        if len(matching_set) < self.k:
            raise BowerbirdError(
                f"references: {len(matching_set)} frames ({len(matching_set) / FRAMES_PER_SECOND:.2f} s): fewer than "
                f"k = {self.k} neighbors; give more speech of the target, or lower k"
            )
        details: dict[str, Any] = {}
        if self.retrieval == "nearest":
            indices, similarity = nearest_frames(query.cpu().numpy(), matching_set, self.k, self.device)
            details["mean_similarity"] = float(similarity.mean())
        else:
            indices = random_frames(len(query), len(matching_set), self.k, random_seed(trial, source))
        # Equal weights, as the paper found as good as weighting by similarity.
        converted = torch.from_numpy(matching_set[indices].astype(np.float32).mean(axis=1))  # (T, k, D) -> (T, D)
        retrieved = time.perf_counter()
        wave = self.vocoder.vocode(converted.to(query.device))
        details["seconds"] = {"retrieval": retrieved - started, "vocoding": time.perf_counter() - retrieved}
        return Conversion(wave=wave, features=converted, details=details)


SYSTEM = KnnVC
