"""Confidence intervals that know that trials share speakers.

Trials of one source speaker, or to one target speaker, are not independent: resampling trials alone gives intervals
that are too narrow. Here the speakers of both sides are resampled with replacement, independently, and a trial weighs
the product of how often its two speakers were drawn (the pigeonhole bootstrap; Owen 2007). Seeded, so a table made
twice is the same table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FEW_SPEAKERS = 8  # on either side: an interval from fewer describes these speakers and no others


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
    def note(self) -> str:
        """Says so where there are too few speakers to speak of others."""
        fewest = min(self.source_speakers, self.target_speakers)
        return f"descriptive only: {fewest} speakers on one side" if fewest < FEW_SPEAKERS else ""


@dataclass(frozen=True)
class Resampling:
    """How replicates are drawn."""

    replicates: int = 1000
    confidence: float = 0.95
    seed: int = 0


def cluster_weights(
    source_speakers: Sequence[str], target_speakers: Sequence[str], resampling: Resampling
) -> np.ndarray:
    """Weight of each trial in each replicate, int64 ``(replicates, trials)``.

    The draw depends on the sets of speakers and the seed, not on the order of the trials.
    """
    generator = np.random.Generator(np.random.PCG64(resampling.seed))
    weights = np.ones((resampling.replicates, len(source_speakers)), dtype=np.int64)
    for speakers in (source_speakers, target_speakers):
        names, place = np.unique(np.asarray(speakers, dtype=str), return_inverse=True)
        drawn = generator.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resampling.replicates)
        weights *= drawn[:, place]
    return weights


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
    weights = cluster_weights(source_speakers, target_speakers, resampling)
    with np.errstate(invalid="ignore", divide="ignore"):
        replicates = (weights @ numerator) / (weights @ denominator)
    value = float(np.sum(numerator) / np.sum(denominator))
    return _estimate(value, replicates, source_speakers, target_speakers, resampling)


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
) -> Estimate:
    """``ratio(first) - ratio(second)`` of two systems on identical trials; each is (numerator, denominator).

    Paired: both systems get the same weights in a replicate. The p-value is twice the smaller share of replicates on
    one side of zero, never 0 (one is added to both counts).
    """
    weights = cluster_weights(source_speakers, target_speakers, resampling)
    with np.errstate(invalid="ignore", divide="ignore"):
        replicates = (weights @ first[0]) / (weights @ first[1]) - (weights @ second[0]) / (weights @ second[1])
    value = float(np.sum(first[0]) / np.sum(first[1]) - np.sum(second[0]) / np.sum(second[1]))
    return _estimate(value, replicates, source_speakers, target_speakers, resampling, paired=True)


def _estimate(
    value: float,
    replicates: np.ndarray,
    source_speakers: Sequence[str],
    target_speakers: Sequence[str],
    resampling: Resampling,
    paired: bool = False,
) -> Estimate:
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
