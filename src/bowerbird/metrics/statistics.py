"""Confidence intervals that know that trials share speakers, and what may be called a difference.

Trials of one source speaker, or to one target speaker, are not independent: resampling trials alone gives intervals
that are too narrow. Here the speakers of both sides are resampled with replacement, independently, and a trial weighs
the product of how often its two speakers were drawn (the pigeonhole bootstrap; Owen 2007). Seeded, so a table made
twice is the same table.

A *statistic* is a function of weights ``(replicates, trials)`` and two columns ``(trials,)``: a pooled rate (of which a
mean is a case) or an equal error rate. It gives one number a replicate.

Where many systems are compared, some pair differs by chance: p-values of one table are corrected by Holm's step-down
procedure (Holm 1979), which bounds the chance of any false "differs" without assuming the comparisons independent.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

FEW_SPEAKERS = 8  # on either side: an interval from fewer describes these speakers and no others


MARKS = ((0.001, "***"), (0.01, "**"), (0.05, "*"))  # of a corrected p-value


MOST_REPLICATES = 20_000


_BLOCK = 4_000_000  # weights in memory at a time


Statistic = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Estimate:
    """A statistic with its percentile interval; ``p_value`` only for differences (two-sided, of no difference)."""

    value: float
    low: float
    high: float
    trials: int
    source_speakers: int
    target_speakers: int
    p_value: float = float("nan")

    @property
    def is_descriptive(self) -> bool:
        """Whether there are too few speakers to speak of others."""
        return min(self.source_speakers, self.target_speakers) < FEW_SPEAKERS

    @property
    def note(self) -> str:
        """Says so where there are too few speakers to speak of others."""
        fewest = min(self.source_speakers, self.target_speakers)
        return f"descriptive only: {fewest} speakers on one side" if self.is_descriptive else ""


@dataclass(frozen=True)
class Resampling:
    """How replicates are drawn."""

    replicates: int = 1000
    confidence: float = 0.95
    seed: int = 0

    def enough_for(self, comparisons: int) -> Resampling:
        """As many replicates as a table of ``comparisons`` needs: a p-value has steps of 2 / (replicates + 1), and Holm
        multiplies the smallest by the number of comparisons."""
        wanted = min(MOST_REPLICATES, max(self.replicates, 200 * comparisons))
        return Resampling(wanted, self.confidence, self.seed)


def pooled_ratio(weights: np.ndarray, numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """``sum(w * numerator) / sum(w * denominator)``, ``(replicates,)``; NaN where the denominator vanishes."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((weights @ numerator) / (weights @ denominator))


def equal_error_rate(weights: np.ndarray, positives: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    """Rate at which as many positives are rejected as negatives are accepted, ``(replicates,)``.

    Each trial brings one positive and one negative score, both with its weight. Between two scores the rates are
    interpolated linearly, and equal scores are one threshold.
    """
    rejected, accepted = error_curves(weights, positives, negatives)[:2]
    gap = rejected - accepted  # from -1 to 1, never falling
    crossing = np.maximum(1, np.argmax(gap >= 0, axis=1))
    rows = np.arange(len(gap))
    before, after = gap[rows, crossing - 1], gap[rows, crossing]
    with np.errstate(invalid="ignore", divide="ignore"):
        share = -before / (after - before)
        low, high = rejected[rows, crossing - 1], rejected[rows, crossing]
        return np.asarray(low + share * (high - low))


def error_curves(
    weights: np.ndarray, positives: np.ndarray, negatives: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """False rejections and false acceptances ``(replicates, thresholds + 1)``, and the distinct scores ``(thresholds,)``.

    Column ``k``: the ``k`` lowest distinct scores are rejected.
    """
    scores = np.concatenate([positives, negatives])
    values, place = np.unique(scores, return_inverse=True)
    rates = []
    for columns in (place[: len(positives)], place[len(positives) :]):
        mass = np.zeros((len(weights), len(values) + 1))
        order = np.argsort(columns, kind="stable")
        starts = np.unique(columns[order], return_index=True)
        mass[:, starts[0] + 1] = np.add.reduceat(weights[:, order], starts[1], axis=1)
        with np.errstate(invalid="ignore"):
            rates.append(np.cumsum(mass, axis=1) / weights.sum(axis=1, keepdims=True))
    return rates[0], 1 - rates[1], values


def eer_threshold(positives: np.ndarray, negatives: np.ndarray) -> tuple[float, float]:
    """(threshold, EER) of two sets of scores, of any sizes; a score at or above the threshold is accepted."""
    values = np.unique(np.concatenate([positives, negatives]))
    rejected = np.concatenate([[0.0], np.searchsorted(np.sort(positives), values, "right") / len(positives)])
    accepted = np.concatenate([[1.0], 1 - np.searchsorted(np.sort(negatives), values, "right") / len(negatives)])
    best = int(np.argmin(np.abs(rejected - accepted)))
    bounds = np.concatenate([[values[0]], (values[1:] + values[:-1]) / 2, [np.nextafter(values[-1], np.inf)]])
    return float(bounds[best]), float((rejected[best] + accepted[best]) / 2)


def cluster_weights(
    source_speakers: Sequence[str], target_speakers: Sequence[str], resampling: Resampling
) -> np.ndarray:
    """Weight of each trial in each replicate, float64 ``(replicates, trials)``, whole numbers.

    The draw depends on the sets of speakers and the seed, not on the order of the trials.
    """
    sides = _draw(source_speakers, target_speakers, resampling)
    return np.asarray(sides[0][0][:, sides[0][1]] * sides[1][0][:, sides[1][1]])


@functools.lru_cache(maxsize=4)
def _remembered(
    source_speakers: tuple[str, ...], target_speakers: tuple[str, ...], resampling: Resampling
) -> np.ndarray:
    """`cluster_weights`, kept for the next metric of the same trials."""
    return cluster_weights(source_speakers, target_speakers, resampling)


def _draw(
    source_speakers: Sequence[str], target_speakers: Sequence[str], resampling: Resampling
) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each side how often each speaker is drawn ``(replicates, speakers)`` and each trial's speaker ``(trials,)``."""
    generator = np.random.Generator(np.random.PCG64(resampling.seed))
    sides = []
    for speakers in (source_speakers, target_speakers):
        names, place = np.unique(np.asarray(speakers, dtype=str), return_inverse=True)
        drawn = generator.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resampling.replicates)
        sides.append((drawn.astype(np.float64), place))
    return sides


def replicate(
    columns: tuple[np.ndarray, np.ndarray],
    source_speakers: Sequence[str],
    target_speakers: Sequence[str],
    resampling: Resampling,
    statistic: Statistic = pooled_ratio,
) -> np.ndarray:
    """The statistic in each replicate, ``(replicates,)``; two systems on the same trials get the same weights."""
    if resampling.replicates * len(source_speakers) <= _BLOCK:
        weights = _remembered(tuple(source_speakers), tuple(target_speakers), resampling)
        return statistic(weights, *columns)
    sources, targets = _draw(source_speakers, target_speakers, resampling)
    rows = max(1, _BLOCK // len(source_speakers))
    parts = []
    for start in range(0, resampling.replicates, rows):
        block = slice(start, start + rows)
        weights = sources[0][block][:, sources[1]] * targets[0][block][:, targets[1]]
        parts.append(statistic(weights, *columns))
    return np.concatenate(parts)


def estimate(
    columns: tuple[np.ndarray, np.ndarray],
    source_speakers: Sequence[str],
    target_speakers: Sequence[str],
    resampling: Resampling,
    statistic: Statistic = pooled_ratio,
) -> Estimate:
    """A statistic of finite columns ``(trials,)`` with its interval."""
    replicates = replicate(columns, source_speakers, target_speakers, resampling, statistic)
    value = point(columns, statistic)
    return interval(value, replicates, source_speakers, target_speakers, resampling)


def point(columns: tuple[np.ndarray, np.ndarray], statistic: Statistic = pooled_ratio) -> float:
    """The statistic of all trials, each once."""
    return float(statistic(np.ones((1, len(columns[0]))), *columns)[0])


def estimate_ratio(
    numerator: np.ndarray,
    denominator: np.ndarray,
    source_speakers: Sequence[str],
    target_speakers: Sequence[str],
    resampling: Resampling,
) -> Estimate:
    """``sum(numerator) / sum(denominator)`` over trials: a pooled rate. With a denominator of ones it is the mean.

    All arrays ``(trials,)``, finite. Replicates in which the denominator vanishes are left out.
    """
    return estimate((numerator, denominator), source_speakers, target_speakers, resampling)


def estimate_mean(
    values: np.ndarray, source_speakers: Sequence[str], target_speakers: Sequence[str], resampling: Resampling
) -> Estimate:
    """Mean of ``values`` ``(trials,)`` over trials."""
    return estimate_ratio(values, np.ones(len(values)), source_speakers, target_speakers, resampling)


def estimate_difference(
    first: tuple[np.ndarray, np.ndarray],
    second: tuple[np.ndarray, np.ndarray],
    source_speakers: Sequence[str],
    target_speakers: Sequence[str],
    resampling: Resampling,
    statistic: Statistic = pooled_ratio,
) -> Estimate:
    """``statistic(first) - statistic(second)`` of two systems on identical trials.

    Paired: both systems get the same weights in a replicate. The p-value is twice the smaller share of replicates on
    one side of zero, never 0 (one is added to both counts).
    """
    speakers = source_speakers, target_speakers
    one, two = (replicate(columns, *speakers, resampling, statistic) for columns in (first, second))
    value = point(first, statistic) - point(second, statistic)
    return interval(value, one - two, *speakers, resampling, paired=True)


def interval(
    value: float,
    replicates: np.ndarray,
    source_speakers: Sequence[str],
    target_speakers: Sequence[str],
    resampling: Resampling,
    paired: bool = False,
) -> Estimate:
    """The percentile interval of ``replicates``, and for a paired difference its p-value."""
    replicates = replicates[np.isfinite(replicates)]
    tail = (1 - resampling.confidence) / 2
    low, high = np.quantile(replicates, [tail, 1 - tail]) if len(replicates) else (float("nan"), float("nan"))
    p_value = float("nan")
    if paired and len(replicates):
        sides = [int((replicates <= 0).sum()), int((replicates >= 0).sum())]
        p_value = min(1.0, 2 * (min(sides) + 1) / (len(replicates) + 1))
    return Estimate(
        value=value,
        low=float(low),
        high=float(high),
        trials=len(source_speakers),
        source_speakers=len(set(source_speakers)),
        target_speakers=len(set(target_speakers)),
        p_value=p_value,
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given: the ``i``-th smallest of ``m`` times ``m - i + 1``, never falling,
    at most 1. NaN (no comparison) stays NaN and does not count."""
    known = sorted((p, place) for place, p in enumerate(p_values) if np.isfinite(p))
    adjusted = [float("nan")] * len(p_values)
    largest = 0.0
    for rank, (p, place) in enumerate(known):
        largest = max(largest, min(1.0, p * (len(known) - rank)))
        adjusted[place] = largest
    return adjusted


def significance_mark(p_value: float, is_descriptive: bool = False) -> str:
    """``*`` below 0.05, ``**`` below 0.01, ``***`` below 0.001 of a corrected p-value; none where there are too few
    speakers to speak of others."""
    if is_descriptive:
        return ""
    return next((mark for limit, mark in MARKS if p_value < limit), "")
