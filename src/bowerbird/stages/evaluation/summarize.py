"""All experiments side by side, with intervals, where they may be compared."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd

from bowerbird.artifacts.identity import Identity, RunRecord, inputs_digest
from bowerbird.artifacts.tables import CELLS, DIFFERENCES, SUMMARY, write_table
from bowerbird.config.sections.evaluation import EvaluationConfig
from bowerbird.metrics.statistics import Resampling, estimate
from bowerbird.stages.evaluation import VERSION
from bowerbird.stages.evaluation.aggregate import (
    FAILED,
    Series,
    check_comparable,
    check_same_trials,
    collect_series,
    read_scores,
    verifiers_of,
)
from bowerbird.stages.evaluation.compare import compare


def summarize_scores(scores: list[Path], output: Path, options: EvaluationConfig) -> None:
    """Means and pooled rates of every experiment with intervals; beside it ``differences.parquet`` of every two, and
    ``cells.parquet`` by genders, language and condition.

    Refuses scores of one metric that were made by different definitions, models, weights or normalizers, and scores of
    different trial lists.
    """
    record = RunRecord()
    check_same_trials(scores)
    tables = {path: read_scores(path) for path in scores}
    check_comparable(tables)
    resampling = Resampling(options.bootstrap, options.confidence, options.seed)
    series = collect_series(tables)
    params = options.model_dump(include={"bootstrap", "confidence", "seed"})
    names = sorted({path.parent.name for path in scores})
    identity = Identity("evaluation", VERSION, {**params, "experiments": names}, {"scores": inputs_digest(scores)})
    record.write(output, identity)
    differences = pd.DataFrame(compare(series, resampling), columns=DIFFERENCES.names)
    write_table(output.with_name("differences.parquet"), differences, identity, DIFFERENCES)
    cells = pd.DataFrame(cell_rows(series, resampling), columns=CELLS.names)
    write_table(output.with_name("cells.parquet"), cells, identity, CELLS)
    rows = [summary_row(item, resampling) for item in series]
    stats = {"verifiers": verifiers_of(series)}
    write_table(output, pd.DataFrame(rows, columns=SUMMARY.names), identity, SUMMARY, extra=stats)


def summary_row(series: Series, resampling: Resampling) -> dict[str, Any]:
    """One line of the summary."""
    scored = series.scored
    row: dict[str, Any] = {
        "experiment": series.experiment,
        "metric": series.metric,
        "pooled": series.pooled,
        **series.scoring,
        "n": len(scored),
        "missing": len(series.trials) - len(scored),
        "failed": int(series.trials["note"].str.startswith(FAILED).sum()),
        "source_speakers": scored["source_speaker"].nunique(),
        "target_speakers": scored["target_speaker"].nunique(),
    }
    reasons = series.trials.loc[~series.trials.index.isin(scored.index), "note"].value_counts()
    notes = [f"{count} trials without a value: {reason}" for reason, count in reasons.head(3).items()]
    if scored.empty:
        return {**row, "mean": math.nan, "low": math.nan, "high": math.nan, "note": "; ".join(notes) or "no trials"}
    found = estimate(series.columns(scored), *series.speakers(scored), resampling, series.statistic)
    notes = [found.note, *notes] if found.note else notes
    return {**row, "mean": found.value, "low": found.low, "high": found.high, "note": "; ".join(notes)}


def cell_rows(series: list[Series], resampling: Resampling) -> list[dict[str, Any]]:
    """Every metric over parts of the trials: by genders, language and condition, where there is more than one."""
    rows = []
    for item in series:
        scored = item.scored
        genders = scored["source_gender"] + " → " + scored["target_gender"]
        known = (scored["source_gender"] != "") & (scored["target_gender"] != "")
        for by, labels in (
            ("gender", genders.where(known, "unknown")),
            ("language", scored["language"]),
            ("condition", scored["condition"]),
        ):
            if labels.nunique() < 2:
                continue
            for cell, part in scored.groupby(labels, sort=True):
                found = estimate(item.columns(part), *item.speakers(part), resampling, item.statistic)
                rows.append(
                    {
                        "experiment": item.experiment,
                        "metric": item.metric,
                        "by": by,
                        "cell": str(cell),
                        "mean": found.value,
                        "low": found.low,
                        "high": found.high,
                        "n": found.trials,
                        "note": found.note,
                    }
                )
    return rows
