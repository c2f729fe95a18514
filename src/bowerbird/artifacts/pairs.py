"""Pairs on disk: the index, the neighbors, and the features they stand for.

Letters: ``T`` frames, ``k`` neighbors, ``D`` feature dimension.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from bowerbird.artifacts.shards import Shards, open_array
from bowerbird.artifacts.tables import read_table
from bowerbird.config.shard_names import distances_path, index_path
from bowerbird.errors import BowerbirdError

INDEX_TYPES = {
    "utt_id": "str",
    "start": "int64",
    "frames": "int64",
    "variant": "int64",
    "speaker": "str",
    "donor_speaker": "str",
    "donor_session": "str",
    "donor_file": "int64",
    "pool_frames": "int64",
    "prompt_utt": "str",
}


class PairShards:
    """All pairs of one variant of `pairs`. A row of ``index`` is one target utterance with one donor.

    ``index`` has utt_id, variant, speaker, donor_speaker, donor_session, donor_file, pool_frames, prompt_utt, start,
    frames, and file (position in ``paths``).
    """

    def __init__(self, paths: Sequence[str | Path]) -> None:
        if not paths:
            raise BowerbirdError("no pairs given: at least one .npy file is needed")
        self.paths = [Path(path) for path in paths]
        self.arrays = [open_array(path) for path in self.paths]
        self.distance_arrays = [open_array(distances_path(path)) for path in self.paths]
        tables = []
        for number, path in enumerate(self.paths):
            table = read_table(index_path(path))
            if not len(self.arrays[number]) == len(self.distance_arrays[number]) == table["frames"].sum():
                raise BowerbirdError(
                    f"{path}: the array, its distances and its index have different lengths; "
                    "delete them and run search-pairs again"
                )
            if len(table):
                tables.append(table.assign(file=number))
        columns = [*INDEX_TYPES, "file"]
        empty = pd.DataFrame({name: [] for name in columns})
        index = pd.concat(tables, ignore_index=True) if tables else empty
        self.index = index[columns].astype({**INDEX_TYPES, "file": "int64"})
        self._rows = list(zip(self.index["file"], self.index["start"], self.index["frames"], strict=True))
        keys = zip(self.index["utt_id"], self.index["variant"], strict=True)
        self._where = {key: row for row, key in enumerate(keys)}
        self._variants = Counter(self.index["utt_id"])
        self._donor_files = self.index["donor_file"].tolist()

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def k(self) -> int:
        """Neighbors per frame."""
        return self.arrays[0].shape[1]

    def row(self, utt_id: str, variant: int = 0) -> int:
        """Position in ``index`` of one target utterance's variant."""
        try:
            return self._where[utt_id, variant]
        except KeyError:
            raise BowerbirdError(f"{self.paths[0].parent}: no pair of {utt_id!r}, variant {variant}") from None

    def indices(self, row: int) -> np.ndarray:
        """Neighbors int32 ``(frames, k)``: rows of the donor's own feature shard, nearest first."""
        file, start, frames = self._rows[row]
        return self.arrays[file][start : start + frames]

    def distances(self, row: int) -> np.ndarray:
        """Cosine distances float16 ``(frames, k)``."""
        file, start, frames = self._rows[row]
        return self.distance_arrays[file][start : start + frames]

    def variants(self, utt_id: str) -> int:
        """How many donors an utterance has."""
        return self._variants[utt_id]

    def retrieved(
        self,
        row: int,
        features: Shards,
        start: int = 0,
        frames: int | None = None,
        weighting: Literal["uniform", "distance"] = "uniform",
    ) -> np.ndarray:
        """The features that one pair stands for, float32 ``(T, D)``: the mean of the k neighbors of each frame.

        ``start`` and ``frames`` cut a crop out of the utterance. ``weighting`` "uniform" is kNN-VC's mean; "distance" weighs
        a neighbor by the inverse of its cosine distance.
        """
        crop = slice(start, None if frames is None else start + frames)
        found = self._donor_array(row, features)[self.indices(row)[crop]].astype(np.float32)  # (T, k, D)
        if weighting == "uniform":
            return found.mean(axis=1)
        weights = 1 / np.maximum(self.distances(row)[crop].astype(np.float32), 1e-3)
        return (found * (weights / weights.sum(axis=1, keepdims=True))[:, :, None]).sum(axis=1)

    def _donor_array(self, row: int, features: Shards) -> np.ndarray:
        """The memory-mapped array of the feature shard that the donor of ``row`` lies in."""
        wanted = self._donor_files[row]
        if wanted not in features.by_number:
            raise BowerbirdError(
                f"features: shard {wanted}: not among the shards given, and {self.index['utt_id'].iloc[row]} has its donor "
                "there; give all shards"
            )
        return features.by_number[wanted]

    def check_same_speaker(self) -> None:
        """Refuse pairs of different speakers: prematched training pairs an utterance with its own speaker's frames."""
        strange = self.index[self.index["speaker"] != self.index["donor_speaker"]]
        if len(strange):
            first = strange.iloc[0]
            raise BowerbirdError(
                f"{self.paths[0].parent}: {first['utt_id']} of {first['speaker']} is paired with speaker "
                f"{first['donor_speaker']}; a prematched vocoder needs pairs with same_speaker: true"
            )
