"""Scores as series: one metric of one experiment over its trials, and whether two of them may be compared.

Letters: ``N`` trials.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bowerbird.artifacts.tables import read_identity, read_table
from bowerbird.errors import BowerbirdError
from bowerbird.metrics.registry import METRICS, PARTS, Metric, Pooling
from bowerbird.metrics.statistics import Statistic, equal_error_rate, pooled_ratio

SCORING = ("definition", "model", "weights_sha256", "normalizer")  # columns that must agree where numbers are compared
SPEAKERS = ["source_speaker", "target_speaker"]
GROUPING = ["source_gender", "target_gender", "language", "condition"]

FAILED = "conversion failed"  # the beginning of the note of such a trial
LEAST_COSINE = -1.0  # what a failed conversion's similarity counts as in an equal error rate
NO_SECOND = "none; scored by one verifier only"


@dataclass(frozen=True)
class Series:
    """One metric of one experiment: two columns over its trials, and the statistic that makes one number of them."""

    experiment: str
    metric: str
    pooled: str  # the statistic in words
    scoring: Mapping[str, str]  # SCORING -> value
    trials: pd.DataFrame  # index trial_id: first, second, the speakers, what trials are grouped by, note
    statistic: Statistic = pooled_ratio

    @property
    def scored(self) -> pd.DataFrame:
        """Trials with a value."""
        return self.trials[np.isfinite(self.trials["first"]) & np.isfinite(self.trials["second"])]

    @staticmethod
    def columns(trials: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """The statistic's two columns, float64 ``(N,)``."""
        return trials["first"].to_numpy(dtype=np.float64), trials["second"].to_numpy(dtype=np.float64)

    @staticmethod
    def speakers(trials: pd.DataFrame) -> tuple[list[str], list[str]]:
        """Source and target speaker of each trial."""
        return trials["source_speaker"].tolist(), trials["target_speaker"].tolist()


def collect_series(tables: Mapping[Path, pd.DataFrame], names: Mapping[Path, str] | None = None) -> list[Series]:
    """Every metric of every experiment, pooled ones before means; in the order of the tables.

    An experiment's name is its table's folder, or what ``names`` gives.
    """
    series = []
    for path, table in tables.items():
        name = (names or {}).get(path, path.parent.name)
        rows_of = {str(metric): rows.set_index("trial_id") for metric, rows in table.groupby("metric", sort=False)}
        for metric in METRICS.values():
            if metric.pooling and rows_of.keys() >= {*metric.pooling.parts}:
                series.append(_pooled_series(name, metric, metric.pooling, rows_of))
        for row_name, rows in rows_of.items():
            if row_name not in PARTS:
                trials = _trial_columns(rows, rows["value"], rows["value"] * 0 + 1)
                series.append(Series(name, row_name, "mean over trials", _scoring(rows), trials))
    return series


def _pooled_series(experiment: str, metric: Metric, pooling: Pooling, rows_of: Mapping[str, pd.DataFrame]) -> Series:
    """A series whose columns are sums over several rows of each trial."""
    rows = rows_of[pooling.first[0]]
    fill_failed = pooling.statistic is equal_error_rate  # there a failed conversion counts as unlike its target
    first, second = (
        sum(_values(rows_of[part], fill_failed) for part in parts) for parts in (pooling.first, pooling.second)
    )
    scoring = {**_scoring(rows), "definition": metric.definition}
    trials = _trial_columns(rows, first, second)
    return Series(experiment, metric.name, pooling.description, scoring, trials, pooling.statistic)


def _values(rows: pd.DataFrame, fill_failed: bool) -> pd.Series:
    """Values by trial; where asked, failed conversions without one have the least cosine."""
    if not fill_failed:
        return rows["value"]
    return rows["value"].mask(rows["value"].isna() & rows["note"].str.startswith(FAILED), LEAST_COSINE)


def _scoring(rows: pd.DataFrame) -> dict[str, str]:
    return {name: str(rows[name].iloc[0]) for name in SCORING}


def _trial_columns(rows: pd.DataFrame, first: Any, second: Any) -> pd.DataFrame:
    return rows[[*SPEAKERS, *GROUPING, "note"]].assign(first=first, second=second).sort_index()


def read_scores(path: Path) -> pd.DataFrame:
    """A table of scores; an error where it lacks columns, as one of an earlier version does."""
    table = read_table(path)
    missing = sorted({*SPEAKERS, *GROUPING, *SCORING} - set(table.columns))
    if missing:
        raise BowerbirdError(f"{path}: has no column {missing[0]!r}: scored by an earlier version; score it again")
    return table


def check_same_trials(scores: list[Path]) -> None:
    """Refuse scores of different trial lists, by the hash of the list and the number of its trials."""
    first: dict[str, tuple[Path, dict[str, Any]]] = {}
    for path in scores:
        record = read_identity(path)
        trials_hash = record.get("trials_hash") or record.get("inputs", {}).get("trials", "")
        first.setdefault(trials_hash, (path, record))
    if len(first) > 1:
        (one, before), (other, after) = list(first.values())[:2]
        sizes = [f" of {record['trials']} trials" if "trials" in record else "" for record in (before, after)]
        lists = [f"{name or 'unnamed'}{size}" for name, size in zip(first, sizes)]
        raise BowerbirdError(
            f"{other}: scored on another list of trials, {lists[1]}, than {one}, {lists[0]}; score both on the same list"
        )


def check_comparable(tables: Mapping[Path, pd.DataFrame]) -> None:
    """Refuse two scores of one metric that were not made the same way, naming what differs."""
    seen: dict[str, tuple[Path, tuple[str, ...]]] = {}
    for path, table in tables.items():
        for metric, rows in table.groupby("metric", sort=True):
            for scoring in rows[list(SCORING)].drop_duplicates().itertuples(index=False, name=None):
                first_path, first_scoring = seen.setdefault(str(metric), (path, scoring))
                if scoring == first_scoring:
                    continue
                differences = [
                    f"{name} {old!r} in {first_path} and {new!r} in {path}"
                    for name, old, new in zip(SCORING, first_scoring, scoring)
                    if old != new
                ]
                raise BowerbirdError(
                    f"{metric}: not comparable: {'; '.join(differences)}; score both experiments with the same settings"
                )


def verifiers_of(series: Iterable[Series]) -> dict[str, str]:
    """Names of both verifiers, ``first`` and ``second``; {} where speaker similarity was not scored."""
    models = {item.metric: item.scoring["model"] for item in series if item.metric in ("secs", "secs_second")}
    return {"first": models["secs"], "second": models.get("secs_second", NO_SECOND)} if "secs" in models else {}
