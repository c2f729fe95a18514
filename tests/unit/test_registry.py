"""The registry of metrics: complete, consistent with the families, and the source of every definition."""

from __future__ import annotations

import pytest

from bowerbird.config.sections.evaluation import FAMILIES
from bowerbird.metrics.registry import METRICS, NO_VALUE, PARTS, definition_of, find_metric, trial_rows


def test_every_family_has_metrics_and_every_metric_a_family() -> None:
    assert {metric.family for metric in METRICS.values()} == set(FAMILIES)
    assert all(metric.name == name and metric.description and metric.heading for name, metric in METRICS.items())
    assert len({metric.heading for metric in METRICS.values()}) == len(METRICS)


def test_parts_are_no_metrics_and_each_is_pooled_into_one() -> None:
    pooled = [metric for metric in METRICS.values() if metric.pooling]
    assert {metric.name for metric in pooled} >= {"wer", "cer", "dwer", "secs_rel", "eer_ind", "eer_ver"}
    assert not PARTS & METRICS.keys()
    assert {part for metric in pooled for part in metric.pooling.parts} >= PARTS
    assert trial_rows("prosody") == ("f0_pcc", "f0_rmse_centred", "vuv_f1", "epcc", "f0_pcc_zeros")
    assert {"secs_real", "secs_other", "acc_eer"} <= set(trial_rows("speaker")) and "eer_ind" not in trial_rows(
        "speaker"
    )


def test_the_second_verifier_has_every_metric_of_the_first_from_rows_of_its_own() -> None:
    first = [m for m in METRICS.values() if m.family == "speaker" and not m.name.endswith("_second")]
    for metric in first:
        second = METRICS[f"{metric.name}_second"]
        assert (second.better, second.unit, second.digits) == (metric.better, metric.unit, metric.digits)
        assert second.heading == f"{metric.heading}, second verifier" and not second.is_headline
        if metric.pooling:
            assert second.pooling.parts == tuple(f"{part}_second" for part in metric.pooling.parts)
            assert second.pooling.statistic is metric.pooling.statistic


def test_definitions_have_versions() -> None:
    assert definition_of("f0_pcc") == "f0_pcc@2"
    assert [definition_of(name) for name in ("wer", "word_hits", "nisqa")] == ["wer@1", "word_hits@1", "nisqa@1"]


@pytest.mark.parametrize(
    ("name", "heading", "is_headline"),
    [("utmos", "UTMOS", True), ("nisqa_noisiness", "NISQA noisiness", False), ("mine", "mine", True)],
)
def test_opinion_scores_have_the_names_of_the_configuration(name: str, heading: str, is_headline: bool) -> None:
    metric = find_metric(name, ["mine", "nisqa", "utmos"])
    assert (metric.heading, metric.is_headline, metric.better, metric.family) == (heading, is_headline, 1, "quality")


def test_an_unknown_name_has_no_direction() -> None:
    metric = find_metric("utmost", ["utmos"])
    assert (metric.heading, metric.better, metric.arrow, metric.is_headline) == ("utmost", 0, "", False)


def test_values_are_shown_in_their_unit() -> None:
    assert METRICS["wer"].show(0.1234) == "12.3" and METRICS["dnsmos_ovrl"].show(3.14159) == "3.14"
    assert METRICS["margin"].show(-0.5) == "\u22120.500"
    assert METRICS["secs"].show(None) == METRICS["secs"].show(float("nan")) == NO_VALUE
