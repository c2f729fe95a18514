"""Scores as series: one metric of one experiment over its trials, and whether two of them may be compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bowerbird.artifacts.tables import read_identity, read_table
from bowerbird.errors import BowerbirdError
from bowerbird.metrics.statistics import Statistic, equal_error_rate, pooled_ratio

JUDGED_BY = ("definition", "model", "weights_sha256", "normalizer")  # what must agree before two numbers may meet


SPEAKERS = ["source_speaker", "target_speaker"]


GROUPING = ["source_gender", "target_gender", "language", "condition"]


FAILED = "conversion failed"  # how the note of such a trial begins


NO_SECOND = "none; judged by one verifier only"


@dataclass(frozen=True)
class Combined:
    """A metric of the whole list that is made of several per-trial values."""

    first: tuple[str, ...]  # summed: errors, or the scores that should be accepted
    second: tuple[str, ...]  # summed: units of the reference, or the scores that should be rejected
    says: str
    statistic: Statistic = pooled_ratio


def _rate(unit: str, says: str) -> Combined:
    errors = tuple(f"{unit}_{name}" for name in ("substitutions", "deletions", "insertions"))
    units = tuple(f"{unit}_{name}" for name in ("hits", "substitutions", "deletions"))
    return Combined(errors, units, says)


# Metrics that are no mean over trials. The rows they are made of are not summarized themselves.
COMBINED: dict[str, Combined] = {
    "wer": _rate("word", "errors / words, summed over trials"),
    "cer": _rate("char", "errors / characters, summed over trials"),
    "dwer": _rate("dword", "errors / words heard in the source, summed over trials"),
}


for _suffix in ("", "_second"):
    COMBINED[f"secs_rel{_suffix}"] = Combined(
        (f"secs_gain{_suffix}",), (f"secs_span{_suffix}",), "gain in cosine / possible gain, summed over trials"
    )
    COMBINED[f"eer_ind{_suffix}"] = Combined(
        (f"secs_real{_suffix}",), (f"secs{_suffix}",), "equal error rate over the list", equal_error_rate
    )
    COMBINED[f"eer_ver{_suffix}"] = Combined(
        (f"secs{_suffix}",), (f"secs_other{_suffix}",), "equal error rate over the list", equal_error_rate
    )


_SHOWN_TOO = {"secs", "secs_second"}


_PARTS = {name for made in COMBINED.values() for name in (*made.first, *made.second)} - _SHOWN_TOO


NO_COSINE = -1.0  # what a failed conversion's similarity counts as in an equal error rate: the least there is


@dataclass(frozen=True)
class Series:
    """One metric of one experiment: per trial two columns that a statistic turns into a number."""

    experiment: str
    metric: str
    pooled: str
    made: Mapping[str, str]  # JUDGED_BY -> value
    trials: pd.DataFrame  # index trial_id: first, second, the speakers, what trials are grouped by, note
    statistic: Statistic = pooled_ratio

    @property
    def scored(self) -> pd.DataFrame:
        """Trials with a value."""
        return self.trials[np.isfinite(self.trials["first"]) & np.isfinite(self.trials["second"])]

    @staticmethod
    def columns(trials: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        return trials["first"].to_numpy(dtype=np.float64), trials["second"].to_numpy(dtype=np.float64)

    @staticmethod
    def speakers(trials: pd.DataFrame) -> tuple[list[str], list[str]]:
        return trials["source_speaker"].tolist(), trials["target_speaker"].tolist()


def collect_series(tables: Mapping[Path, pd.DataFrame], names: Mapping[Path, str] | None = None) -> list[Series]:
    """Every metric of every experiment, the combined ones first; in the order of the tables.

    An experiment's name is its table's folder, or what ``names`` says.
    """
    series = []
    for path, table in tables.items():
        name = (names or {}).get(path, path.parent.name)
        by_metric = {str(metric): rows.set_index("trial_id") for metric, rows in table.groupby("metric", sort=False)}
        for metric, combined in COMBINED.items():
            if {*combined.first, *combined.second} <= by_metric.keys():
                series.append(_combine(name, metric, combined, by_metric))
        for metric, rows in by_metric.items():
            if metric not in _PARTS:
                trials = _trials(rows, rows["value"], rows["value"] * 0 + 1)
                series.append(Series(name, metric, "mean over trials", _made(rows), trials))
    return series


def _combine(name: str, metric: str, combined: Combined, by_metric: Mapping[str, pd.DataFrame]) -> Series:
    rows = by_metric[combined.first[0]]
    worst = combined.statistic is equal_error_rate
    first, second = (
        sum(_counted(by_metric[part], worst) for part in parts) for parts in (combined.first, combined.second)
    )
    made = {**_made(rows), "definition": f"{metric}@1"}
    return Series(name, metric, combined.says, made, _trials(rows, first, second), combined.statistic)


def _counted(rows: pd.DataFrame, failures_are_worst: bool) -> pd.Series:
    """Values by trial; in an equal error rate a failed conversion is one that resembles nobody."""
    if not failures_are_worst:
        return rows["value"]
    return rows["value"].mask(rows["value"].isna() & rows["note"].str.startswith(FAILED), NO_COSINE)


def _made(rows: pd.DataFrame) -> dict[str, str]:
    return {name: str(rows[name].iloc[0]) for name in JUDGED_BY}


def _trials(rows: pd.DataFrame, first: Any, second: Any) -> pd.DataFrame:
    return rows[[*SPEAKERS, *GROUPING, "note"]].assign(first=first, second=second).sort_index()


def read_scores(path: Path) -> pd.DataFrame:
    """A table of scores; one of an earlier version, which lacks columns, is named."""
    table = read_table(path)
    missing = sorted({*SPEAKERS, *GROUPING, *JUDGED_BY} - set(table.columns))
    if missing:
        raise BowerbirdError(f"{path}: has no column {missing[0]!r}: scored by an earlier version; score it again")
    return table


def check_same_trials(scores: list[Path]) -> None:
    """Refuse scores of different trial lists, by the hash of the list and the number of its trials."""
    first: dict[str, tuple[Path, dict[str, Any]]] = {}
    for path in scores:
        record = read_identity(path)
        listed = record.get("trials_hash") or record.get("inputs", {}).get("trials", "")
        first.setdefault(listed, (path, record))
    if len(first) > 1:
        (one, before), (other, after) = list(first.values())[:2]
        sizes = [f" of {record['trials']} trials" if "trials" in record else "" for record in (before, after)]
        lists = [f"{name or 'unnamed'}{size}" for name, size in zip(first, sizes)]
        raise BowerbirdError(
            f"{other}: scored on another list of trials, {lists[1]}, than {one}, {lists[0]}; score both on the same list"
        )


def verifiers_of(series: Iterable[Series]) -> dict[str, str]:
    """Who judged the voices: ``first`` and ``second``, which is never left unsaid; {} where nobody did."""
    models = {item.metric: item.made["model"] for item in series if item.metric in _SHOWN_TOO}
    return {"first": models["secs"], "second": models.get("secs_second", NO_SECOND)} if "secs" in models else {}


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
