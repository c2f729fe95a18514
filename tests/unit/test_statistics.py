"""Equal error rates, Holm's correction and significance marks against closed forms and brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bowerbird.metrics.statistics import (
    MOST_REPLICATES,
    Resampling,
    eer_threshold,
    equal_error_rate,
    estimate,
    estimate_difference,
    holm,
    point,
    replicate,
    significance_mark,
)


def eer(positives: list[float], negatives: list[float]) -> float:
    return point((np.array(positives, float), np.array(negatives, float)), equal_error_rate)


def test_eer_of_apart_mixed_and_inverted_scores() -> None:
    assert eer([0.8, 0.9], [0.1, 0.2]) == 0.0
    assert eer([0.1, 0.2], [0.8, 0.9]) == 1.0
    assert eer([1, 2, 3, 4], [1, 2, 3, 4]) == pytest.approx(0.5)
    assert eer([0.5, 0.5], [0.5, 0.5]) == pytest.approx(0.5)  # equal scores are one threshold, not an order
    assert eer([2, 3, 4, 5], [0, 1, 1.5, 2.5]) == pytest.approx(0.25)


def test_eer_is_where_a_dense_sweep_of_thresholds_finds_it() -> None:
    rng = np.random.default_rng(0)
    positives, negatives = rng.normal(1, 1, 400), rng.normal(0, 1, 400)
    sweep = np.linspace(-4, 5, 20001)
    rejected = np.searchsorted(np.sort(positives), sweep) / 400
    accepted = 1 - np.searchsorted(np.sort(negatives), sweep) / 400
    best = np.argmin(np.abs(rejected - accepted))
    assert eer(list(positives), list(negatives)) == pytest.approx((rejected[best] + accepted[best]) / 2, abs=2 / 400)


def test_weights_of_an_eer_are_repetitions() -> None:
    rng = np.random.default_rng(1)
    positives, negatives = rng.normal(0.7, 1, 12), rng.normal(0, 1, 12)
    weights = rng.integers(0, 4, size=(5, 12)).astype(float)
    repeated = [
        eer(list(np.repeat(positives, w.astype(int))), list(np.repeat(negatives, w.astype(int)))) for w in weights
    ]
    assert equal_error_rate(weights, positives, negatives) == pytest.approx(repeated)


def test_threshold_separates_and_gives_its_rate() -> None:
    threshold, rate = eer_threshold(np.array([0.7, 0.8, 0.9]), np.array([0.1, 0.2]))
    assert 0.2 < threshold < 0.7 and rate == 0.0
    threshold, rate = eer_threshold(np.array([0.5, 0.9]), np.array([0.1, 0.6]))
    assert rate == 0.5 and 0.5 < threshold < 0.6


def test_holm_steps_down_and_never_falls() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    adjusted = holm([0.02, math.nan, 0.01])
    assert adjusted[::2] == pytest.approx([0.02, 0.02]) and math.isnan(adjusted[1])
    assert holm([]) == []


def test_holm_keeps_false_alarms_rare_where_raw_p_values_do_not() -> None:
    """Ten comparisons of nothing: some raw p is below 0.05 in 40 % of tables, some corrected one in 5 %."""
    rng = np.random.default_rng(2)
    tables = rng.uniform(size=(2000, 10))
    assert np.mean(tables.min(axis=1) < 0.05) > 0.35
    assert np.mean([min(holm(list(table))) < 0.05 for table in tables]) < 0.065


def test_marks_are_of_corrected_values_and_never_descriptive() -> None:
    assert [significance_mark(p) for p in (0.2, 0.049, 0.009, 0.0009, math.nan)] == ["", "*", "**", "***", ""]
    assert significance_mark(0.0001, is_descriptive=True) == ""


def test_a_large_table_gets_replicates_for_its_smallest_p_value() -> None:
    assert Resampling(1000).enough_for(1).replicates == 1000
    many = Resampling(1000).enough_for(55)
    assert 55 * 2 / (many.replicates + 1) < 0.05
    assert Resampling(1000).enough_for(10**6).replicates == MOST_REPLICATES


def test_blocks_do_not_change_replicates(monkeypatch: pytest.MonkeyPatch) -> None:
    speakers = [f"s{i % 5}" for i in range(30)], [f"t{i % 6}" for i in range(30)]
    columns = np.random.default_rng(3).normal(size=30), np.ones(30)
    whole = replicate(columns, *speakers, Resampling(200)).replicates
    monkeypatch.setattr("bowerbird.metrics.statistics.MOST_WEIGHTS", 70)
    assert replicate(columns, *speakers, Resampling(200)).replicates == pytest.approx(whole, abs=1e-12)


def test_an_eer_has_an_interval_and_a_paired_difference() -> None:
    speakers = [f"s{i}" for i in range(10) for _ in range(10)], [f"t{j}" for _ in range(10) for j in range(10)]
    rng = np.random.default_rng(4)
    real, near, far = rng.normal(0.8, 0.1, 100), rng.normal(0.75, 0.1, 100), rng.normal(0.4, 0.1, 100)
    found = estimate((real, near), *speakers, Resampling(200), equal_error_rate)
    assert found.low < found.value < found.high and 0.2 < found.value < 0.6
    systems = (replicate((real, made), *speakers, Resampling(200), equal_error_rate) for made in (near, far))
    difference = estimate_difference(*systems)
    assert difference.low > 0 and difference.p_value < 0.05
