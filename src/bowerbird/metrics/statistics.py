"""Confidence intervals of trials that share speakers, and which differences are significant.

Trials of one source speaker, or to one target speaker, are not independent: resampling trials alone gives intervals
that are too narrow. Here the speakers of both sides are resampled with replacement, independently, and the weight of a
trial is the product of how often its two speakers were drawn (the pigeonhole bootstrap; Owen 2007). The draw is seeded, so
a table made twice is the same table.

A *statistic* is a function of weights ``(R, N)`` and two columns ``(N,)``: a pooled rate (of which a mean is a case) or an
equal error rate. It gives one number per replicate.

Where many systems are compared, some pair differs by chance: the p-values of one table are corrected by Holm's step-down
procedure (Holm 1979), which bounds the chance of any false "differs" without assuming the comparisons independent.

Letters: ``N`` trials, ``R`` replicates, ``S`` speakers of one side, ``C`` distinct scores.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

FEW_SPEAKERS = 8  # on either side: an interval from fewer describes these speakers and no others
MARKS = ((0.001, "***"), (0.01, "**"), (0.05, "*"))  # of a corrected p-value
MOST_REPLICATES = 20_000
MOST_WEIGHTS = 4_000_000  # in memory at a time

Statistic = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


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


@dataclass(frozen=True)
class Replicated:
    """A statistic of some trials, and its value in every replicate."""

    value: float  # of all trials, each once
    replicates: np.ndarray  # (R,)
    source_speakers: Sequence[str]  # of each trial
    target_speakers: Sequence[str]
    confidence: float


@dataclass(frozen=True)
class Estimate:
    """A statistic with its percentile interval; ``p_value`` only for differences (two-sided, of no difference)."""

    value: float
    low: float
    high: float
    trials: int
    source_speakers: int
    target_speakers: int
    p_value: float = math.nan

    @property
    def is_descriptive(self) -> bool:
        """Whether there are too few speakers to speak of others."""
        return min(self.source_speakers, self.target_speakers) < FEW_SPEAKERS

    @property
    def note(self) -> str:
        """A remark where there are too few speakers to speak of others; "" where there are enough."""
        fewest = min(self.source_speakers, self.target_speakers)
        return f"descriptive only: {fewest} speakers on one side" if self.is_descriptive else ""


def pooled_ratio(weights: np.ndarray, numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """``sum(w * numerator) / sum(w * denominator)``, ``(R,)``, of weights ``(R, N)``; NaN where the denominator vanishes."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((weights @ numerator) / (weights @ denominator))


def equal_error_rate(weights: np.ndarray, positives: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    """Rate ``(R,)`` at which as many positives are rejected as negatives are accepted.

    Each trial has one positive and one negative score ``(N,)``, both with its weight in ``(R, N)``. Between two scores the
    rates are interpolated linearly, and equal scores are one threshold.
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
    """False rejections and false acceptances ``(R, C + 1)``, and the distinct scores ``(C,)``.

    In column ``k`` the ``k`` lowest distinct scores are rejected.
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
    """(threshold, EER) of two sets of scores, vectors of any length; a score at or above the threshold is accepted."""
    values = np.unique(np.concatenate([positives, negatives]))
    rejected = np.concatenate([[0.0], np.searchsorted(np.sort(positives), values, "right") / len(positives)])
    accepted = np.concatenate([[1.0], 1 - np.searchsorted(np.sort(negatives), values, "right") / len(negatives)])
    best = int(np.argmin(np.abs(rejected - accepted)))
    bounds = np.concatenate([[values[0]], (values[1:] + values[:-1]) / 2, [np.nextafter(values[-1], np.inf)]])
    return float(bounds[best]), float((rejected[best] + accepted[best]) / 2)


@functools.lru_cache(maxsize=4)
def cluster_weights(
    source_speakers: tuple[str, ...], target_speakers: tuple[str, ...], resampling: Resampling
) -> np.ndarray:
    """Weight of each trial in each replicate, float64 ``(R, N)``, whole numbers; kept for the next metric of the trials.

    The draw depends on the sets of speakers and the seed, not on the order of the trials.
    """
    sides = _draw(source_speakers, target_speakers, resampling)
    return np.asarray(sides[0][0][:, sides[0][1]] * sides[1][0][:, sides[1][1]])


def _draw(
    source_speakers: Sequence[str], target_speakers: Sequence[str], resampling: Resampling
) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each side how often each speaker is drawn ``(R, S)``, and the number ``(N,)`` of each trial's speaker."""
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
) -> Replicated:
    """The statistic of finite columns ``(N,)`` in every replicate.

    Two systems on the same trials get the same weights. Weights that do not fit into memory are made in blocks.
    """
    if resampling.replicates * len(source_speakers) <= MOST_WEIGHTS:
        weights = cluster_weights(tuple(source_speakers), tuple(target_speakers), resampling)
        replicates = statistic(weights, *columns)
    else:
        sources, targets = _draw(source_speakers, target_speakers, resampling)
        rows = max(1, MOST_WEIGHTS // len(source_speakers))
        parts = []
        for start in range(0, resampling.replicates, rows):
            block = slice(start, start + rows)
            weights = sources[0][block][:, sources[1]] * targets[0][block][:, targets[1]]
            parts.append(statistic(weights, *columns))
        replicates = np.concatenate(parts)
    return Replicated(point(columns, statistic), replicates, source_speakers, target_speakers, resampling.confidence)


def point(columns: tuple[np.ndarray, np.ndarray], statistic: Statistic = pooled_ratio) -> float:
    """The statistic of all trials, each once; columns ``(N,)``."""
    return float(statistic(np.ones((1, len(columns[0]))), *columns)[0])


def estimate(
    columns: tuple[np.ndarray, np.ndarray],
    source_speakers: Sequence[str],
    target_speakers: Sequence[str],
    resampling: Resampling,
    statistic: Statistic = pooled_ratio,
) -> Estimate:
    """A statistic of finite columns ``(N,)`` with its interval. A pooled rate over ones is a mean.

    Replicates in which the statistic is not finite are left out.
    """
    return interval(replicate(columns, source_speakers, target_speakers, resampling, statistic))


def estimate_mean(
    values: np.ndarray, source_speakers: Sequence[str], target_speakers: Sequence[str], resampling: Resampling
) -> Estimate:
    """The mean of finite ``values`` ``(N,)`` with its interval."""
    return estimate((values, np.ones(len(values))), source_speakers, target_speakers, resampling)


def estimate_difference(first: Replicated, second: Replicated) -> Estimate:
    """The first statistic minus the second, of two systems on identical trials, with its interval and p-value.

    Paired: both systems have the same weights in a replicate.
    """
    if (first.source_speakers, first.target_speakers) != (second.source_speakers, second.target_speakers):
        raise ValueError("a paired difference is of the same trials in the same order")
    difference = Replicated(
        first.value - second.value,
        first.replicates - second.replicates,
        first.source_speakers,
        first.target_speakers,
        first.confidence,
    )
    return interval(difference, with_p_value=True)


def interval(statistic: Replicated, with_p_value: bool = False) -> Estimate:
    """A statistic with its percentile interval, and where asked the p-value of its being zero.

    The p-value is twice the smaller share of replicates on one side of zero, never 0 (one is added to both counts).
    """
    replicates = statistic.replicates[np.isfinite(statistic.replicates)]
    tail = (1 - statistic.confidence) / 2
    low, high = np.quantile(replicates, [tail, 1 - tail]) if len(replicates) else (math.nan, math.nan)
    p_value = math.nan
    if with_p_value and len(replicates):
        sides = [int((replicates <= 0).sum()), int((replicates >= 0).sum())]
        p_value = min(1.0, 2 * (min(sides) + 1) / (len(replicates) + 1))
    return Estimate(
        value=statistic.value,
        low=float(low),
        high=float(high),
        trials=len(statistic.source_speakers),
        source_speakers=len(set(statistic.source_speakers)),
        target_speakers=len(set(statistic.target_speakers)),
        p_value=p_value,
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given: the ``i``-th smallest of ``m`` times ``m - i + 1``, never falling,
    at most 1. NaN (no comparison) stays NaN and does not count."""
    known = sorted((p, place) for place, p in enumerate(p_values) if np.isfinite(p))
    adjusted = [math.nan] * len(p_values)
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
