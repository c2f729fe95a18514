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
from bowerbird.nn import world
from bowerbird.nn.keys import nearest_with_continuity, with_context
from bowerbird.nn.nearest import SearchPool
from bowerbird.systems.base import Conversion, System, Utterance, check_models, features_of
from bowerbird.systems.knnvc.parameters import refine
from bowerbird.systems.knnvc.retrieval import own_neighbors, random_frames, random_seed
from bowerbird.systems.vocoder.synthesis import Vocoder, load_vocoder


class KnnVC(System[KnnvcExperiment]):
    """Frame-wise retrieval from the target's speech, then a vocoder."""

    def __init__(self, vocoder: Vocoder, options: KnnvcExperiment, device: str = "cpu") -> None:
        self.vocoder, self.options, self.device = vocoder, options, device

    @classmethod
    def load(cls, experiment: KnnvcExperiment, models: Mapping[str, Path], device: torch.device) -> Self:
        """kNN-VC with its vocoder; neighbors are searched on ``device``."""
        check_models(models, ("vocoder",), "kNN-VC")
        return cls(load_vocoder(models["vocoder"], device), experiment, str(device))

    def convert(
        self, source: Utterance, references: list[Utterance], trial: Mapping[str, Any] | None = None
    ) -> Conversion:
        """``source`` in the voice of ``references``, whose frames are the matching set.

        ``details`` holds the seconds of each step and the mean cosine similarity of the retrieved frames. The random
        control draws its frames from a seed that the trial's id determines.
        """
        started = time.perf_counter()
        options = self.options
        query, own = frames_to_search(source, options.context)  # (T, K), (T, D)
        pool = [frames_to_search(reference, options.context) for reference in references]
        matching_set = np.concatenate([values for _, values in pool])  # (M, D)
        if len(matching_set) < options.k:
            raise BowerbirdError(
                f"references: {len(matching_set)} frames ({len(matching_set) / FRAMES_PER_SECOND:.2f} s): fewer than "
                f"k = {options.k} neighbors; give more speech of the target, or lower k"
            )
        details: dict[str, Any] = {}
        if options.retrieval == "nearest":
            indices, similarity = self._search(query, [keys for keys, _ in pool])
            details["mean_similarity"] = float(similarity.mean())
        else:
            indices = random_frames(len(query), len(matching_set), options.k, random_seed(trial, source))
        # Equal weights, as the paper found as good as weighting by similarity.
        rows = matching_set[indices].astype(np.float32).mean(axis=1)  # (T, k, D) -> (T, D)
        if options.detail:
            rows = self._with_detail(rows, query, own)
        if options.needs_world:
            rows = refine(rows, own, matching_set, options.keep, options.smoothing_ms, options.variance)
        converted = torch.from_numpy(rows)
        retrieved = time.perf_counter()
        wave = self.vocoder.vocode(converted.to(self.device))
        details["seconds"] = {"retrieval": retrieved - started, "vocoding": time.perf_counter() - retrieved}
        return Conversion(wave=wave, features=converted, details=details)

    def _search(self, query: np.ndarray, pool: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Places in the matching set and cosines, ``(T, k)``, of ``query (T, K)`` among the keys of each reference."""
        vectors, options = SearchPool(np.concatenate(pool), "cosine", self.device), self.options
        if not options.continuity:
            return vectors.nearest(query, options.k)
        follows = np.concatenate([np.arange(len(keys)) > 0 for keys in pool])
        return nearest_with_continuity(vectors, query, options.k, options.continuity, follows)

    def _with_detail(self, rows: np.ndarray, query: np.ndarray, own: np.ndarray) -> np.ndarray:
        """Retrieved ``rows (T, D)`` with a share of the movement of the source's ``own (T, D)``, whose keys are ``query (T, K)``."""
        similar = own_neighbors(query, self.options.k)
        if not similar.shape[1]:
            return rows
        columns = world.ENVELOPE if self.options.needs_world else slice(None)
        moved = rows.copy()
        moved[:, columns] += self.options.detail * (own - own[similar].mean(axis=1))[:, columns]
        return moved


def frames_to_search(utterance: Utterance, context: int) -> tuple[np.ndarray, np.ndarray]:
    """What an utterance is searched by and what is read from it, frame by frame: ``(T, K)`` and ``(T, D)``."""
    values = features_of(utterance, "kNN-VC").cpu().numpy()
    keys = values if utterance.keys is None else utterance.keys.float().cpu().numpy()
    frames = min(len(keys), len(values))  # encoders differ by a frame at the end
    return with_context(keys[:frames], context), values[:frames]


SYSTEM = KnnVC
