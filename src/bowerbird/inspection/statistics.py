"""Numbers that tell whether features, pairs and codebooks are sound: spread, drift, hubs, leakage, neighbours.

All look at a sample of frames that is the same each time, so a variant of any size costs seconds; what looks at every
frame says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from bowerbird.artifacts.shards import Shards
from bowerbird.artifacts.tables import read_table
from bowerbird.errors import BowerbirdError

SAMPLE = 20_000  # frames that statistics look at


POOL = 6_000  # frames among which hubs are counted: each is compared with each


DEALS = 200  # times speakers are dealt to shards anew, to know what drift means


DEAD = 1.0e-6  # a dimension whose standard deviation is below this never changes


_BLOCK = 65_536  # rows compared at once


@dataclass(frozen=True)
class Sample:
    """Frames ``values`` float32 ``(n, dim)``, and of each its shard, row in it, utterance and speaker."""

    values: np.ndarray
    file: np.ndarray
    row: np.ndarray
    utt_id: np.ndarray
    speaker: np.ndarray


class Frames:
    """All frames of one variant, by shard and row, with the utterance and the speaker of each."""

    def __init__(self, paths: Sequence[Path], manifest: Path) -> None:
        self.shards = Shards(paths)
        table = read_table(manifest, ["utt_id", "speaker"])
        self.speaker_of = dict(zip(table["utt_id"], table["speaker"], strict=True))
        self._of_file = [
            rows.sort_values("start") for _, rows in self.shards.index[self.shards.index["frames"] > 0].groupby("file")
        ]
        self._by_file = {int(rows["file"].iloc[0]): rows for rows in self._of_file}

    def names(self, file: int, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Utterance, and frame in it, of ``rows`` of one shard."""
        index = self._by_file[file]
        which = np.searchsorted(index["start"].to_numpy(), rows, side="right") - 1
        return index["utt_id"].to_numpy(object)[which], rows - index["start"].to_numpy()[which]

    def place(self, utt_id: str, frame: int) -> tuple[int, int]:
        """Shard and row of one frame."""
        found = self.shards.index[self.shards.index["utt_id"] == utt_id]
        if not len(found):
            raise BowerbirdError(f"--frame: {utt_id!r}: no such utterance in {self.shards.paths[0].parent}")
        file, start, frames = (int(found[name].iloc[0]) for name in ("file", "start", "frames"))
        if not 0 <= frame < frames:
            raise BowerbirdError(f"--frame: {utt_id}:{frame}: its frames are 0 to {frames - 1}")
        return file, start + frame

    def sample(self, count: int = SAMPLE) -> Sample:
        """About ``count`` frames, evenly over all shards."""
        total = sum(len(array) for array in self.shards.arrays)
        step = max(1, -(-total // count))
        values, files, rows, utterances = [], [], [], []
        for file, array in enumerate(self.shards.arrays):
            chosen = np.arange(0, len(array), step)
            if len(chosen):
                values.append(np.asarray(array[chosen], dtype=np.float32))
                files.append(np.full(len(chosen), file))
                rows.append(chosen)
                utterances.append(self.names(file, chosen)[0])
        if not values:
            raise BowerbirdError(f"{self.shards.paths[0].parent}: no frames in these shards; nothing to measure")
        utt_ids = np.concatenate(utterances)
        speakers = np.array([self.speaker_of.get(utt_id, "") for utt_id in utt_ids], dtype=object)
        return Sample(np.concatenate(values), np.concatenate(files), np.concatenate(rows), utt_ids, speakers)


@dataclass(frozen=True)
class Spread:
    """How much of the space frames ``(n, dim)`` fill: standard deviation of each dimension, and variance by direction."""

    deviations: np.ndarray  # (dim,)
    variances: np.ndarray  # (dim,), of the principal directions, largest first

    @property
    def dead(self) -> int:
        """Dimensions that never change."""
        return int((self.deviations < DEAD).sum())

    @property
    def effective_rank(self) -> float:
        """Participation ratio of the variance: ``dim`` if all directions vary alike, 1 if all lies on a line."""
        squares = float(np.square(self.variances).sum())
        return float(self.variances.sum()) ** 2 / squares if squares else 0.0

    def directions_of(self, share: float) -> int:
        """Directions that hold this share of the variance."""
        total = float(self.variances.sum())
        return int(np.searchsorted(np.cumsum(self.variances) / total, share) + 1) if total else 0


def measure_spread(values: np.ndarray) -> Spread:
    """Spread of frames ``(n, dim)``."""
    centred = np.asarray(values, dtype=np.float64) - values.mean(axis=0, dtype=np.float64)
    variances = np.linalg.eigvalsh(centred.T @ centred / max(1, len(centred)))[::-1]
    return Spread(centred.std(axis=0), np.maximum(variances, 0.0))


@dataclass(frozen=True)
class Drift:
    """How far each shard lies from the others, and how far it would if speakers were dealt to shards anew.

    Speakers lie whole in a shard, so shards of few speakers differ; only a distance above ``by_chance`` is a fault.
    """

    shards: np.ndarray  # (shards,): their numbers
    distances: np.ndarray  # (shards,)
    by_chance: np.ndarray  # (shards,): exceeded by one deal of twenty

    @property
    def suspects(self) -> list[int]:
        """Shards that differ from the others more than their speakers explain."""
        return [int(number) for number in self.shards[self.distances > self.by_chance]]


def measure_drift(values: np.ndarray, file: np.ndarray, speaker: np.ndarray, scale: np.ndarray) -> Drift | None:
    """Drift of what is averaged, ``(n, columns)``, in units of ``scale`` ``(columns,)``; None with fewer than two shards.

    The distance of a shard is the mean over columns of |its mean - the others' mean| / scale.
    """
    owners, who = _owners(file, speaker)
    sums = np.zeros((len(owners), values.shape[1]))
    np.add.at(sums, who, values)
    return _drift(sums, owners, who, scale)


def measure_use_drift(codes: np.ndarray, num_codes: int, file: np.ndarray, speaker: np.ndarray) -> Drift | None:
    """Drift of how often each code is used, in units of a single use's standard deviation."""
    owners, who = _owners(file, speaker)
    sums = np.zeros((len(owners), num_codes))
    np.add.at(sums, (who, codes), 1)
    share = sums.sum(axis=0) / len(codes)
    return _drift(sums[:, share > 0], owners, who, np.sqrt(share * (1 - share))[share > 0])


def _owners(file: np.ndarray, speaker: np.ndarray) -> tuple[pd.DataFrame, np.ndarray]:
    """The speakers of each shard, and for each row the number of its speaker."""
    table = pd.DataFrame({"file": file, "speaker": speaker})
    owners = table.drop_duplicates(ignore_index=True)
    number = {key: place for place, key in enumerate(owners.itertuples(index=False, name=None))}
    return owners, np.array([number[key] for key in table.itertuples(index=False, name=None)])


def _drift(sums: np.ndarray, owners: pd.DataFrame, who: np.ndarray, scale: np.ndarray) -> Drift | None:
    shards, home = np.unique(owners["file"].to_numpy(), return_inverse=True)
    if len(shards) < 2:
        return None
    counts = np.bincount(who, minlength=len(owners)).astype(float)
    rng = np.random.Generator(np.random.PCG64(0))
    dealt = [_distances(sums, counts, rng.permutation(home), len(shards), scale) for _ in range(DEALS)]
    return Drift(shards, _distances(sums, counts, home, len(shards), scale), np.quantile(dealt, 0.95, axis=0))


def _distances(sums: np.ndarray, counts: np.ndarray, home: np.ndarray, shards: int, scale: np.ndarray) -> np.ndarray:
    inside = np.zeros((shards, sums.shape[1]))
    np.add.at(inside, home, sums)
    inside_counts = np.bincount(home, weights=counts, minlength=shards)[:, None]
    outside = (sums.sum(axis=0) - inside) / np.maximum(counts.sum() - inside_counts, 1)
    return (np.abs(inside / np.maximum(inside_counts, 1) - outside) / np.maximum(scale, DEAD)).mean(axis=1)


@dataclass(frozen=True)
class Hubs:
    """How often each frame is among the k nearest of another (N_k), int64 ``(n,)``."""

    times: np.ndarray
    k: int

    @property
    def skewness(self) -> float:
        """Third standardised moment of N_k: near 0 without hubs, above 1 with."""
        centred = self.times - self.times.mean()
        variance = float(np.square(centred).mean())
        return float((centred**3).mean()) / variance**1.5 if variance > 0 else 0.0

    @property
    def never(self) -> float:
        """Share of frames that are nobody's neighbour."""
        return float((self.times == 0).mean())

    @property
    def top_share(self) -> float:
        """Share of places that the most retrieved hundredth of frames take."""
        most = np.sort(self.times)[::-1][: max(1, len(self.times) // 100)]
        return float(most.sum() / max(1, self.times.sum()))

    def top(self, count: int) -> np.ndarray:
        """Positions of the most retrieved frames."""
        return np.argsort(-self.times, kind="stable")[:count]


def measure_hubs(sample: Sample, k: int = 4) -> Hubs:
    """N_k by cosine among the frames of a sample; frames of one utterance are not counted as neighbours of each other."""
    values = normalized(sample.values)
    _, utterance = np.unique(sample.utt_id.astype(str), return_inverse=True)
    k = min(k, max(1, len(values) - 1))
    times = np.zeros(len(values), dtype=np.int64)
    for start in range(0, len(values), 1000):
        scores = values[start : start + 1000] @ values.T
        scores[utterance[start : start + 1000, None] == utterance[None, :]] = -np.inf
        nearest = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        known = np.isfinite(np.take_along_axis(scores, nearest, axis=1))
        times += np.bincount(nearest[known], minlength=len(values))
    return Hubs(times, k)


def normalized(values: np.ndarray) -> np.ndarray:
    """Rows of length 1; a row of zeros stays as it is."""
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    return values / np.maximum(lengths, 1.0e-12)


@dataclass(frozen=True)
class Neighbour:
    """A frame, and how near it is to the one asked about (cosine)."""

    utt_id: str
    frame: int
    speaker: str
    cosine: float


def nearest_frames(frames: Frames, utt_id: str, frame: int, count: int = 8) -> list[Neighbour]:
    """The nearest frames of other utterances, over every frame of the variant, nearest first."""
    file, row = frames.place(utt_id, frame)
    query = normalized(np.asarray(frames.shards.arrays[file][row], dtype=np.float32)[None])[0]
    best: list[tuple[float, int, int]] = []
    for number, array in enumerate(frames.shards.arrays):
        for start in range(0, len(array), _BLOCK):
            block = normalized(np.asarray(array[start : start + _BLOCK], dtype=np.float32)) @ query
            names, _ = frames.names(number, np.arange(start, start + len(block)))
            block[names == utt_id] = -np.inf
            for place in np.argsort(-block, kind="stable")[:count]:
                if np.isfinite(block[place]):
                    best.append((float(block[place]), number, start + int(place)))
        best = sorted(best, key=lambda found: (-found[0], found[1:]))[:count]
    return [named(frames, number, place, cosine) for cosine, number, place in best]


def named(frames: Frames, file: int, row: int, cosine: float) -> Neighbour:
    """The frame at a row of a shard."""
    names, places = frames.names(file, np.array([row]))
    return Neighbour(str(names[0]), int(places[0]), frames.speaker_of.get(str(names[0]), ""), cosine)


@dataclass(frozen=True)
class Leak:
    """How often something tells who speaks: share right, and what guessing gives."""

    what: str
    accuracy: float
    chance: float


def guess_speakers(values: np.ndarray, speaker: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """For each of ``queries`` the speaker whose mean over ``values`` lies nearest (cosine, after the common mean)."""
    names = np.unique(speaker.astype(str))
    middle = values.mean(axis=0)
    centroids = normalized(np.stack([values[speaker == name].mean(axis=0) for name in names]) - middle)
    return names[(normalized(queries - middle) @ centroids.T).argmax(axis=1)]


def read_units(units: np.ndarray, speaker: np.ndarray, fitting: np.ndarray) -> Leak:
    """The speaker that uses a code most, guessed for each frame ``~fitting``; chance: the commonest speaker of all."""
    names, who = np.unique(speaker.astype(str), return_inverse=True)
    counts = np.zeros((int(units.max()) + 1, len(names)), dtype=np.int64)
    np.add.at(counts, (units[fitting], who[fitting]), 1)
    commonest = int(np.bincount(who[fitting]).argmax())
    guess = np.where(counts.sum(axis=1) > 0, counts.argmax(axis=1), commonest)
    right = float((guess[units[~fitting]] == who[~fitting]).mean())
    return Leak("a unit", right, float((who[~fitting] == commonest).mean()))
