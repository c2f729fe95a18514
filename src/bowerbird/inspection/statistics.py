"""Numbers that tell whether features, pairs and codebooks are sound: spread, drift, hubs, leakage of the speaker, neighbors.

All look at a sample of frames that is the same each time, so a variant of any size takes seconds; what looks at every frame
says so.

Letters: ``n`` frames of a sample, ``D`` feature dimension, ``C`` columns, ``F`` shards, ``S`` speakers, ``k`` neighbors.
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
from bowerbird.stages.pairs.pools import skewness

SAMPLE_FRAMES = 20_000  # that statistics look at
HUB_FRAMES = 6_000  # among which hubs are counted: each is compared with each
RANDOM_ASSIGNMENTS = 200  # of speakers to shards, to know how much drift speakers explain
SMALLEST_DEVIATION = 1.0e-6  # a dimension whose standard deviation is below this never changes
ROWS_AT_ONCE = 65_536  # that are compared with a query


@dataclass(frozen=True)
class FrameSample:
    """Frames float32 ``(n, D)`` (units: ``(n,)``), and of each its shard, row in it, utterance and speaker ``(n,)``."""

    values: np.ndarray
    file: np.ndarray
    row: np.ndarray
    utt_id: np.ndarray
    speaker: np.ndarray


@dataclass(frozen=True)
class NeighborFrame:
    """A frame, and its cosine to the frame that its neighbors are looked up for."""

    utt_id: str
    frame: int
    speaker: str
    cosine: float


class VariantFrames:
    """All frames of one variant, by shard and row, with the utterance and the speaker of each."""

    def __init__(self, paths: Sequence[Path], manifest: Path) -> None:
        self.shards = Shards(paths)
        table = read_table(manifest, ["utt_id", "speaker"])
        self.speaker_of = dict(zip(table["utt_id"], table["speaker"], strict=True))
        index = self.shards.index
        self._index_of = {
            int(file): rows.sort_values("start") for file, rows in index[index["frames"] > 0].groupby("file")
        }

    def names(self, file: int, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Utterance, and frame in it, ``(n,)`` of ``rows (n,)`` of one shard."""
        index = self._index_of[file]
        which = np.searchsorted(index["start"].to_numpy(), rows, side="right") - 1
        return index["utt_id"].to_numpy(object)[which], rows - index["start"].to_numpy()[which]

    def place(self, utt_id: str, frame: int) -> tuple[int, int]:
        """Shard and row of one frame; an error, in the words of ``--frame``, where there is no such frame."""
        found = self.shards.index[self.shards.index["utt_id"] == utt_id]
        if not len(found):
            raise BowerbirdError(f"--frame: {utt_id!r}: no such utterance in {self.shards.paths[0].parent}")
        file, start, frames = (int(found[name].iloc[0]) for name in ("file", "start", "frames"))
        if not 0 <= frame < frames:
            raise BowerbirdError(f"--frame: {utt_id}:{frame}: its frames are 0 to {frames - 1}")
        return file, start + frame

    def frame_at(self, file: int, row: int, cosine: float = 1.0) -> NeighborFrame:
        """The frame at a row of a shard."""
        names, frames = self.names(file, np.array([row]))
        return NeighborFrame(str(names[0]), int(frames[0]), self.speaker_of.get(str(names[0]), ""), cosine)

    def sample(self, count: int = SAMPLE_FRAMES) -> FrameSample:
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
        return FrameSample(np.concatenate(values), np.concatenate(files), np.concatenate(rows), utt_ids, speakers)


@dataclass(frozen=True)
class Spread:
    """How much of the space frames fill: standard deviation of each dimension, and variance by principal direction."""

    deviations: np.ndarray  # (D,)
    variances: np.ndarray  # (D,), largest first

    @property
    def num_dead(self) -> int:
        """Dimensions that never change."""
        return int((self.deviations < SMALLEST_DEVIATION).sum())

    @property
    def effective_rank(self) -> float:
        """Participation ratio of the variance: ``D`` if all directions vary alike, 1 if all frames lie on a line."""
        squares = float(np.square(self.variances).sum())
        return float(self.variances.sum()) ** 2 / squares if squares else 0.0

    def num_directions(self, share: float) -> int:
        """Principal directions that hold this share of the variance."""
        total = float(self.variances.sum())
        return int(np.searchsorted(np.cumsum(self.variances) / total, share) + 1) if total else 0


def measure_spread(values: np.ndarray) -> Spread:
    """Spread of frames ``(n, D)``."""
    centered = np.asarray(values, dtype=np.float64) - values.mean(axis=0, dtype=np.float64)
    variances = np.linalg.eigvalsh(centered.T @ centered / max(1, len(centered)))[::-1]
    return Spread(centered.std(axis=0), np.maximum(variances, 0.0))


@dataclass(frozen=True)
class Drift:
    """How far each shard lies from the others, beside what its speakers explain.

    Speakers lie whole in a shard, so shards of few speakers differ. ``limits`` are the distances that one random assignment of
    speakers to shards in twenty exceeds; only a distance above them is a fault.
    """

    shards: np.ndarray  # (F,): their numbers
    distances: np.ndarray  # (F,)
    limits: np.ndarray  # (F,)

    @property
    def suspects(self) -> list[int]:
        """Shards that differ from the others more than their speakers explain."""
        return [int(number) for number in self.shards[self.distances > self.limits]]


def measure_drift(values: np.ndarray, file: np.ndarray, speaker: np.ndarray, scale: np.ndarray) -> Drift | None:
    """Drift of the means of ``values (n, C)`` in units of ``scale (C,)``; None with fewer than two shards.

    The distance of a shard is the mean over columns of |its mean - the others' mean| / scale. ``file`` and ``speaker`` are
    those of each row ``(n,)``.
    """
    owners, row_of = _speakers_of_shards(file, speaker)
    sums = np.zeros((len(owners), values.shape[1]))
    np.add.at(sums, row_of, values)
    return _drift(sums, owners, row_of, scale)


def measure_use_drift(codes: np.ndarray, num_codes: int, file: np.ndarray, speaker: np.ndarray) -> Drift | None:
    """Drift of how often each of ``codes (n,)`` is used, in units of a single use's standard deviation."""
    owners, row_of = _speakers_of_shards(file, speaker)
    sums = np.zeros((len(owners), num_codes))
    np.add.at(sums, (row_of, codes), 1)
    share = sums.sum(axis=0) / len(codes)
    return _drift(sums[:, share > 0], owners, row_of, np.sqrt(share * (1 - share))[share > 0])


def _speakers_of_shards(file: np.ndarray, speaker: np.ndarray) -> tuple[pd.DataFrame, np.ndarray]:
    """A table of the speakers of each shard, and for each frame ``(n,)`` its row there."""
    table = pd.DataFrame({"file": file, "speaker": speaker})
    owners = table.drop_duplicates(ignore_index=True)
    number = {key: place for place, key in enumerate(owners.itertuples(index=False, name=None))}
    return owners, np.array([number[key] for key in table.itertuples(index=False, name=None)])


def _drift(sums: np.ndarray, owners: pd.DataFrame, row_of: np.ndarray, scale: np.ndarray) -> Drift | None:
    """Drift from the ``sums (S, C)`` of each speaker's frames; None with fewer than two shards."""
    shards, home = np.unique(owners["file"].to_numpy(), return_inverse=True)
    if len(shards) < 2:
        return None
    counts = np.bincount(row_of, minlength=len(owners)).astype(float)
    generator = np.random.Generator(np.random.PCG64(0))
    by_chance = [
        _shard_distances(sums, counts, generator.permutation(home), len(shards), scale)
        for _ in range(RANDOM_ASSIGNMENTS)
    ]
    distances = _shard_distances(sums, counts, home, len(shards), scale)
    return Drift(shards, distances, np.quantile(by_chance, 0.95, axis=0))


def _shard_distances(
    sums: np.ndarray, counts: np.ndarray, home: np.ndarray, num_shards: int, scale: np.ndarray
) -> np.ndarray:
    """Distance of each shard from the others ``(F,)``, with the speakers of ``sums (S, C)`` in the shards ``home (S,)``."""
    inside = np.zeros((num_shards, sums.shape[1]))
    np.add.at(inside, home, sums)
    inside_counts = np.bincount(home, weights=counts, minlength=num_shards)[:, None]
    outside = (sums.sum(axis=0) - inside) / np.maximum(counts.sum() - inside_counts, 1)
    differences = np.abs(inside / np.maximum(inside_counts, 1) - outside)
    return (differences / np.maximum(scale, SMALLEST_DEVIATION)).mean(axis=1)


@dataclass(frozen=True)
class Hubs:
    """How often each frame is among the ``k`` nearest of another (N_k), int64 ``(n,)``."""

    times: np.ndarray
    k: int

    @property
    def skewness(self) -> float:
        """Third standardized moment of N_k: near 0 without hubs, above 1 with."""
        return skewness(self.times)

    @property
    def share_never(self) -> float:
        """Share of frames that are no frame's neighbor."""
        return float((self.times == 0).mean())

    @property
    def top_share(self) -> float:
        """Share of all places that the most retrieved hundredth of frames takes."""
        most = np.sort(self.times)[::-1][: max(1, len(self.times) // 100)]
        return float(most.sum() / max(1, self.times.sum()))

    def top(self, count: int) -> np.ndarray:
        """Positions of the most retrieved frames, the most retrieved first."""
        return np.argsort(-self.times, kind="stable")[:count]


def measure_hubs(sample: FrameSample, k: int = 4) -> Hubs:
    """N_k by cosine among the frames of a sample; frames of one utterance are not counted as neighbors of each other."""
    values = unit_rows(sample.values)
    _, utterance = np.unique(sample.utt_id.astype(str), return_inverse=True)
    k = min(k, max(1, len(values) - 1))
    times = np.zeros(len(values), dtype=np.int64)
    for start in range(0, len(values), 1000):
        scores = values[start : start + 1000] @ values.T
        scores[utterance[start : start + 1000, None] == utterance[None, :]] = -np.inf
        nearest = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        is_known = np.isfinite(np.take_along_axis(scores, nearest, axis=1))
        times += np.bincount(nearest[is_known], minlength=len(values))
    return Hubs(times, k)


def unit_rows(values: np.ndarray) -> np.ndarray:
    """Rows ``(n, D)`` of length 1; a row of zeros stays as it is."""
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    return values / np.maximum(lengths, 1.0e-12)


def nearest_frames(frames: VariantFrames, utt_id: str, frame: int, count: int = 8) -> list[NeighborFrame]:
    """The nearest frames of other utterances, over every frame of the variant, nearest first."""
    file, row = frames.place(utt_id, frame)
    query = unit_rows(np.asarray(frames.shards.arrays[file][row], dtype=np.float32)[None])[0]
    best: list[tuple[float, int, int]] = []
    for number, array in enumerate(frames.shards.arrays):
        for start in range(0, len(array), ROWS_AT_ONCE):
            block = unit_rows(np.asarray(array[start : start + ROWS_AT_ONCE], dtype=np.float32)) @ query
            names, _ = frames.names(number, np.arange(start, start + len(block)))
            block[names == utt_id] = -np.inf
            for place in np.argsort(-block, kind="stable")[:count]:
                if np.isfinite(block[place]):
                    best.append((float(block[place]), number, start + int(place)))
        best = sorted(best, key=lambda found: (-found[0], found[1:]))[:count]
    return [frames.frame_at(number, place, cosine) for cosine, number, place in best]


@dataclass(frozen=True)
class SpeakerAccuracy:
    """Accuracy of naming the speaker from ``source``, and the chance level."""

    source: str
    accuracy: float
    chance_level: float


def nearest_speakers(values: np.ndarray, speaker: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """For each of ``queries (m, D)`` the speaker ``(m,)`` whose mean over ``values (n, D)`` is nearest.

    By cosine, after the mean of all values is taken off.
    """
    names = np.unique(speaker.astype(str))
    center = values.mean(axis=0)
    means = unit_rows(np.stack([values[speaker == name].mean(axis=0) for name in names]) - center)
    return names[(unit_rows(queries - center) @ means.T).argmax(axis=1)]


def speaker_accuracy_of_units(units: np.ndarray, speaker: np.ndarray, is_fitted: np.ndarray) -> SpeakerAccuracy:
    """How often the speaker who uses a code most in the fitted frames is the speaker of one of the others.

    ``units``, ``speaker`` and ``is_fitted`` are ``(n,)``. Chance level: naming the speaker with most fitted frames.
    """
    names, who = np.unique(speaker.astype(str), return_inverse=True)
    counts = np.zeros((int(units.max()) + 1, len(names)), dtype=np.int64)
    np.add.at(counts, (units[is_fitted], who[is_fitted]), 1)
    commonest = int(np.bincount(who[is_fitted]).argmax())
    guess = np.where(counts.sum(axis=1) > 0, counts.argmax(axis=1), commonest)
    truth = who[~is_fitted]
    accuracy = float((guess[units[~is_fitted]] == truth).mean())
    return SpeakerAccuracy("a unit", accuracy, float((truth == commonest).mean()))
