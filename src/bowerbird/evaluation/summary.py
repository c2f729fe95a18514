"""All experiments side by side, with intervals, where and only where they may be compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from bowerbird.artifacts import BowerbirdError, Identity, RunRecord, inputs_digest
from bowerbird.config import EvaluationConfig
from bowerbird.evaluation.scoring import VERSION
from bowerbird.metrics.bootstrap import Resampling, estimate_difference, estimate_ratio
from bowerbird.tables import read_identity, read_table, write_table

JUDGED_BY = ("definition", "model", "weights_sha256", "normalizer")  # what must agree before two numbers may meet
SUMMARY = pa.schema(
    [
        ("experiment", pa.string()),
        ("metric", pa.string()),
        ("definition", pa.string()),
        ("pooled", pa.string()),  # what was divided by what
        ("mean", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("n", pa.int64()),  # trials with a value
        ("missing", pa.int64()),  # trials without one, left out
        ("failed", pa.int64()),  # trials whose conversion failed, scored or left out
        ("source_speakers", pa.int64()),
        ("target_speakers", pa.int64()),
        ("model", pa.string()),
        ("weights_sha256", pa.string()),
        ("normalizer", pa.string()),
        ("note", pa.string()),
    ]
)
DIFFERENCES = pa.schema(
    [
        ("metric", pa.string()),
        ("first", pa.string()),
        ("second", pa.string()),
        ("difference", pa.float64()),  # first - second, paired by trial
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("p_value", pa.float64()),  # two-sided, not corrected for the number of comparisons
        ("n", pa.int64()),  # trials with a value of both
        ("note", pa.string()),
    ]
)
# Pooled rates: metric -> (numerators, denominators), sums of per-trial counts.
POOLED = {
    f"{short}er": (
        (f"{unit}_substitutions", f"{unit}_deletions", f"{unit}_insertions"),
        (f"{unit}_hits", f"{unit}_substitutions", f"{unit}_deletions"),
    )
    for short, unit in (("w", "word"), ("c", "char"))
}
_COUNTS = {name for numerators, denominators in POOLED.values() for name in (*numerators, *denominators)}


def summarise_scores(scores: list[Path], output: Path, options: EvaluationConfig) -> None:
    """Means and pooled rates of every experiment with intervals, and ``differences.parquet`` of every two beside it.

    Refuses scores of one metric that were made by different definitions, models, weights or normalisers, and scores of
    different trial lists.
    """
    with RunRecord() as record:
        check_same_trials(scores)
        tables = {path: read_table(path) for path in scores}
        check_comparable(tables)
        resampling = Resampling(options.bootstrap, options.confidence, options.seed)
        series = collect_series(tables)
        params = {"bootstrap": options.bootstrap, "confidence": options.confidence, "seed": options.seed}
        names = sorted({path.parent.name for path in scores})
        identity = Identity("evaluation", VERSION, {**params, "experiments": names}, {"scores": inputs_digest(scores)})
        record.write(output, identity)
        differences = pd.DataFrame(compare(series, resampling), columns=DIFFERENCES.names)
        write_table(output.with_name("differences.parquet"), differences, identity, DIFFERENCES)
        rows = [summary_row(item, resampling) for item in series]
        write_table(output, pd.DataFrame(rows, columns=SUMMARY.names), identity, SUMMARY)


# ----------------------------------------------------------------------------------------------------- may they compare
def check_same_trials(scores: list[Path]) -> None:
    """Refuse scores of different trial lists."""
    first: dict[str, Path] = {}
    for path in scores:
        first.setdefault(read_identity(path).get("inputs", {}).get("trials", ""), path)
    if len(first) > 1:
        one, other = list(first.values())[:2]
        raise BowerbirdError(f"{other}: scored on another list of trials than {one}; score both on the same list")


def check_comparable(tables: Mapping[Path, pd.DataFrame]) -> None:
    """Refuse two scores of one metric that were not made the same way, naming what differs."""
    seen: dict[str, tuple[Path, tuple[str, ...]]] = {}
    for path, table in tables.items():
        for metric, rows in table.groupby("metric", sort=True):
            for made in rows[list(JUDGED_BY)].drop_duplicates().itertuples(index=False, name=None):
                where, before = seen.setdefault(str(metric), (path, made))
                if made == before:
                    continue
                differs = [
                    f"{name} {old!r} in {where} and {new!r} in {path}"
                    for name, old, new in zip(JUDGED_BY, before, made)
                    if old != new
                ]
                raise BowerbirdError(
                    f"{metric}: not comparable: {'; '.join(differs)}; score both experiments with the same settings"
                )


# --------------------------------------------------------------------------------------------------------------- series
@dataclass(frozen=True)
class Series:
    """One metric of one experiment: per trial, a numerator and a denominator (ones for a mean)."""

    experiment: str
    metric: str
    pooled: str
    made: Mapping[str, str]  # JUDGED_BY -> value
    trials: pd.DataFrame  # index trial_id: numerator, denominator, source_speaker, target_speaker, note

    @property
    def scored(self) -> pd.DataFrame:
        """Trials with a value."""
        return self.trials[np.isfinite(self.trials["numerator"]) & np.isfinite(self.trials["denominator"])]


def collect_series(tables: Mapping[Path, pd.DataFrame]) -> list[Series]:
    """Every metric of every experiment, the pooled rates first; in the order of the tables."""
    series = []
    for path, table in tables.items():
        by_metric = {str(metric): rows.set_index("trial_id") for metric, rows in table.groupby("metric", sort=False)}
        for rate, (numerators, denominators) in POOLED.items():
            if denominators[0] in by_metric:
                parts = {name: by_metric[name]["value"] for name in {*numerators, *denominators}}
                rows = by_metric[denominators[0]]
                trials = _trials(rows, sum(parts[n] for n in numerators), sum(parts[n] for n in denominators))
                unit = "words" if rate == "wer" else "characters"
                made = {**_made(rows), "definition": f"{rate}@1"}
                series.append(Series(path.parent.name, rate, f"errors / {unit}, summed over trials", made, trials))
        for metric, rows in by_metric.items():
            if metric not in _COUNTS:
                trials = _trials(rows, rows["value"], rows["value"] * 0 + 1)
                series.append(Series(path.parent.name, metric, "mean over trials", _made(rows), trials))
    return series


def _made(rows: pd.DataFrame) -> dict[str, str]:
    return {name: str(rows[name].iloc[0]) for name in JUDGED_BY}


def _trials(rows: pd.DataFrame, numerator: pd.Series, denominator: pd.Series) -> pd.DataFrame:
    columns = rows[["source_speaker", "target_speaker", "note"]]
    return columns.assign(numerator=numerator, denominator=denominator).sort_index()


def summary_row(series: Series, resampling: Resampling) -> dict[str, Any]:
    """One line of the summary."""
    scored = series.scored
    failed = int(series.trials["note"].str.startswith("conversion failed").sum())
    row: dict[str, Any] = {
        "experiment": series.experiment,
        "metric": series.metric,
        "pooled": series.pooled,
        **series.made,
        "n": len(scored),
        "missing": len(series.trials) - len(scored),
        "failed": failed,
        "source_speakers": scored["source_speaker"].nunique(),
        "target_speakers": scored["target_speaker"].nunique(),
    }
    reasons = series.trials.loc[~series.trials.index.isin(scored.index), "note"].value_counts()
    notes = [f"{count} trials without a value: {reason}" for reason, count in reasons.head(3).items()]
    if scored.empty:
        nothing = float("nan")
        return {**row, "mean": nothing, "low": nothing, "high": nothing, "note": "; ".join(notes) or "no trials"}
    estimate = estimate_ratio(
        scored["numerator"].to_numpy(),
        scored["denominator"].to_numpy(),
        scored["source_speaker"].tolist(),
        scored["target_speaker"].tolist(),
        resampling,
    )
    notes = [estimate.note, *notes] if estimate.note else notes
    return {**row, "mean": estimate.value, "low": estimate.low, "high": estimate.high, "note": "; ".join(notes)}


def compare(series: list[Series], resampling: Resampling) -> list[dict[str, Any]]:
    """Paired differences of every two experiments in every metric, over the trials that both have a value of."""
    rows = []
    for metric in dict.fromkeys(item.metric for item in series):
        for first, second in combinations([item for item in series if item.metric == metric], 2):
            shared = first.scored.index.intersection(second.scored.index)
            if shared.empty:
                continue
            one, two = first.scored.loc[shared], second.scored.loc[shared]
            estimate = estimate_difference(
                (one["numerator"].to_numpy(), one["denominator"].to_numpy()),
                (two["numerator"].to_numpy(), two["denominator"].to_numpy()),
                one["source_speaker"].tolist(),
                one["target_speaker"].tolist(),
                resampling,
            )
            left_out = len(first.trials.index.union(second.trials.index)) - len(shared)
            notes = [estimate.note, f"{left_out} trials left out" if left_out else ""]
            rows.append(
                {
                    "metric": metric,
                    "first": first.experiment,
                    "second": second.experiment,
                    "difference": estimate.value,
                    "low": estimate.low,
                    "high": estimate.high,
                    "p_value": estimate.p_value,
                    "n": estimate.trials,
                    "note": "; ".join(note for note in notes if note),
                }
            )
    return rows
