"""The utterances that are paired, by speaker, and draws that depend on names alone.

Letters: ``T`` frames, ``D`` feature dimension.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from bowerbird.artifacts.identity import canonical_json
from bowerbird.artifacts.shards import Shards, open_spaces, shard_numbers
from bowerbird.artifacts.tables import read_table
from bowerbird.errors import BowerbirdError
from bowerbird.nn.keys import join_spaces, with_context

SPLITS = ("train", "valid")  # that have pairs
MOST_APART = 2  # frames by which two encoders may differ at the end of an utterance


@dataclass(frozen=True)
class Clip:
    """The frames of one utterance: rows ``start`` to ``start + frames`` of feature shard number ``file``."""

    utt_id: str
    speaker: str
    gender: str
    language: str
    session: str
    split: str
    file: int
    start: int
    frames: int


class KeyShards:
    """Frames of one or several spaces that are searched in the place of the features, by utterance."""

    def __init__(self, paths: Sequence[Path], weights: Mapping[str, float]) -> None:
        self.weights = weights
        self.spaces = open_spaces(paths, weights)

    def rows(self, utt_id: str, frames: int) -> np.ndarray:
        """Keys ``(T, D)`` for the ``frames`` frames of an utterance's features: encoders differ by a frame at the end."""
        for name, shards in self.spaces.items():
            if utt_id not in shards:
                raise BowerbirdError(f"search: {name}: has no frames of {utt_id}; give all shards of it")
        keys = join_spaces([shards[utt_id] for shards in self.spaces.values()], list(self.weights.values()))
        if abs(len(keys) - frames) > MOST_APART or not len(keys):
            raise BowerbirdError(
                f"search: {', '.join(self.spaces)}: {utt_id} has {len(keys)} frames there and {frames} in the features; search "
                "features of 50 frames per second"
            )
        return keys[np.arange(frames).clip(max=len(keys) - 1)]


class PairableSpeech:
    """The train and valid utterances that have features, by speaker in order of their ids, and their mapped frames.

    Raises `BowerbirdError` where such an utterance is not in the shards, or a speaker lies in several of them.
    """

    def __init__(self, manifest: Path, features: Sequence[Path], keys: KeyShards | None = None) -> None:
        self.shards, self.keys = Shards(features), keys
        self.position = {number: place for place, number in enumerate(shard_numbers(self.shards.paths))}
        numbers = {place: number for number, place in self.position.items()}
        self.by_speaker: dict[str, list[Clip]] = {}
        for values in self._listed(manifest).itertuples(index=False):
            utt_id, speaker, gender, language, session, split, place, start, frames = values
            clip = Clip(utt_id, speaker, gender, language, session, split, numbers[int(place)], int(start), int(frames))
            self.by_speaker.setdefault(speaker, []).append(clip)
        for speaker, clips in self.by_speaker.items():
            if len({(clip.file, clip.split) for clip in clips}) > 1:
                raise BowerbirdError(
                    f"{manifest}: speaker {speaker!r} lies in several shards or splits; "
                    "a speaker must lie whole in one of each: list the corpus again"
                )

    def _listed(self, manifest: Path) -> pd.DataFrame:
        """The manifest's utterances that are paired, in order of their ids, each with its place in the shards."""
        columns = ["utt_id", "speaker", "gender", "language", "session", "split"]
        listed = read_table(manifest, columns).fillna("")
        found = self.shards.index[["utt_id", "file", "start", "frames"]]
        table = listed.merge(found, on="utt_id", how="left", validate="one_to_one").sort_values("utt_id")
        table = table[table["split"].isin(SPLITS)]
        lost = table[table["file"].isna()]
        if len(lost):
            raise BowerbirdError(
                f"features: {lost['utt_id'].iloc[0]}: in the manifest but not in the feature shards "
                f"given ({len(lost)} such); give all shards, or extract them again"
            )
        return table[table["frames"] > 0]

    def rows(self, clip: Clip) -> np.ndarray:
        """Features of a clip, ``(T, D)``, a view of the memory map."""
        return self.shards.arrays[self.position[clip.file]][clip.start : clip.start + clip.frames]

    def key_rows(self, clip: Clip, context: int = 0) -> np.ndarray:
        """What the frames of a clip are compared by, ``(T, D)``: its keys, or its features where there are none.

        Raises `BowerbirdError` where a value is not finite.
        """
        rows = np.asarray(self.rows(clip)) if self.keys is None else self.keys.rows(clip.utt_id, clip.frames)
        if not np.isfinite(rows).all():
            raise BowerbirdError(f"features: {clip.utt_id}: values that are not finite; extract the features again")
        return with_context(rows, context)


def hash_number(*key: object) -> int:
    """64 bits that depend on ``key`` alone: the same on every machine and with every version of a library."""
    return int.from_bytes(hashlib.sha256(canonical_json(list(key)).encode()).digest()[:8], "little")


def draw_distinct(total: int, count: int, *key: object) -> list[int]:
    """``count`` distinct numbers below ``total``: the head of a Fisher-Yates shuffle drawn from ``key``."""
    moved: dict[int, int] = {}
    chosen = []
    for place in range(min(count, total)):
        other = place + hash_number(*key, place) % (total - place)
        chosen.append(moved.get(other, other))
        moved[other] = moved.get(place, place)
    return chosen
