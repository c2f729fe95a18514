"""The main table: experiments by metrics, with intervals, definitions, and the rows behind each number.

How a metric is called and shown is stated in `bowerbird.metrics.registry`, what an experiment is in its options.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from bowerbird.config.graph import SUMMARY_TABLES
from bowerbird.config.systems.anchors import PLAYS
from bowerbird.config.systems.base import Kind
from bowerbird.metrics.anchors import AnchorCheck, check_anchors
from bowerbird.metrics.registry import METRICS, Metric, find_metric
from bowerbird.metrics.shared_models import NamedJudge, name_judges
from bowerbird.stages.report.formats import slug
from bowerbird.stages.report.notes import common_notes, substitute_notes
from bowerbird.stages.report.run_data import Run

GROUPS: tuple[tuple[Kind, str], ...] = (
    ("system", "Systems"),
    ("control", "Controls, which should score worse"),
    ("anchor", "Anchors, which bound the scale"),
)
RESYNTHESIS = "vocoder"  # the role of an anchor that is synthesized; the others play recordings
ANCHOR_ROLES = ("ground-truth", RESYNTHESIS, "heldout-target", "random-speaker")  # in the order of the table


@dataclass(frozen=True)
class ReportedSystem:
    """An experiment as the page shows it; ``role`` says which anchor it is, "" for others."""

    name: str
    kind: Kind
    description: str
    role: str = ""

    @property
    def is_played(self) -> bool:
        """Whether its audio is shown: anchors that play recordings are left out, for these are shown as recordings."""
        return self.kind != "anchor" or self.role == RESYNTHESIS


@dataclass(frozen=True)
class CellBar:
    """Where the interval and the mean lie on the scale of their column, in percent from the left."""

    left: float
    middle: float
    width: float


@dataclass(frozen=True)
class ScoreCell:
    """One number with its interval; ``rows`` links to the rows behind it, "" where these are not on disk."""

    mean: float
    low: float
    high: float
    n: int
    missing: int
    note: str
    rows: str
    bar: CellBar
    is_best: bool
    mark: str  # how surely it differs from the best system of its column, corrected for all comparisons

    @property
    def has_value(self) -> bool:
        """Whether there is a number."""
        return math.isfinite(self.mean)


@dataclass(frozen=True)
class MetricDefinition:
    """How the numbers of a metric were made, as their rows record it."""

    metric: Metric
    definition: str
    pooled: str
    model: str
    weights_sha256: str
    normalizer: str

    @property
    def short_model(self) -> str:
        """The model's name without its settings."""
        return self.model.split()[0].rstrip(",") if self.model else ""


@dataclass(frozen=True)
class PartTable:
    """One metric over parts of the trials: genders, languages or conditions."""

    by: str
    metric: Metric
    cells: list[str]
    rows: list[tuple[ReportedSystem, list[dict[str, Any] | None]]]


@dataclass(frozen=True)
class Scores:
    """The main table, and what belongs to it."""

    systems: list[ReportedSystem]
    metrics: list[Metric] = field(default_factory=list)  # of the main table
    further_metrics: list[Metric] = field(default_factory=list)
    absent: list[Metric] = field(default_factory=list)  # of the main table, not computed in this run
    cells: dict[tuple[str, str], ScoreCell] = field(default_factory=dict)  # by experiment and metric
    definitions: dict[str, MetricDefinition] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)  # that hold for whole columns
    differences: list[dict[str, Any]] = field(default_factory=list)
    parts: list[PartTable] = field(default_factory=list)
    judges: list[NamedJudge] = field(default_factory=list)  # verifiers, of which the second may be none, and recognizer
    anchor_checks: list[AnchorCheck] = field(default_factory=list)
    downloads: list[tuple[str, str]] = field(default_factory=list)  # (name, link) of tables

    @property
    def has_marks(self) -> bool:
        """Whether any number differs surely from the best of its column."""
        return any(cell.mark for cell in self.cells.values())

    @property
    def groups(self) -> list[tuple[Kind, str, list[ReportedSystem]]]:
        """(kind, heading, experiments) of every kind that there is."""
        return [(kind, heading, self.group(kind)) for kind, heading in GROUPS if self.group(kind)]

    def group(self, kind: Kind) -> list[ReportedSystem]:
        """The experiments of a kind."""
        return [system for system in self.systems if system.kind == kind]

    def cell(self, system: ReportedSystem, metric: Metric) -> ScoreCell | None:
        """The number of an experiment in a metric; None where the summary has no such row."""
        return self.cells.get((system.name, metric.name))

    def shared_models(self, system: ReportedSystem) -> str:
        """The models that a system shares with the verifiers and the recognizer, in words; "" for none."""
        found = [
            f"{part} ({judge.place})"
            for judge in self.judges
            for name, part in judge.shared_with
            if name == system.name
        ]
        return "; ".join(found)


def gather_scores(run: Run, data: Path) -> Scores:
    """Read the tables of scores, and copy them and the rows behind them as CSV into the folder ``data``."""
    summary = run.table(run.paths.evaluation_table("summary"))
    names = list(dict.fromkeys([*run.config.experiments, *(summary["experiment"] if len(summary) else [])]))
    systems = sorted((describe_system(name, run) for name in names), key=_rank)
    headline = [metric for metric in METRICS.values() if metric.is_headline]
    downloads = _copy_tables(run, data)
    rows = _copy_rows(run, data)
    if summary.empty:
        return Scores(systems, absent=headline, downloads=downloads)
    present = set(summary["metric"])
    ordered = [name for name in dict.fromkeys([*METRICS, *summary["metric"]]) if name in present]
    metrics = [find_metric(name, run.config.evaluation.opinions) for name in ordered]
    differences = run.table(run.paths.evaluation_table("differences"))
    definitions = {metric.name: _definition(metric, summary) for metric in metrics}
    recognizers = {definitions[name].short_model for name in ("wer", "mwer") if name in definitions}
    scored = [system.name for system in systems if system.kind != "anchor"]
    kinds: dict[str, str] = {system.name: system.kind for system in systems}
    return Scores(
        systems=systems,
        metrics=[metric for metric in metrics if metric.is_headline],
        further_metrics=[metric for metric in metrics if not metric.is_headline],
        absent=[metric for metric in headline if metric not in metrics],
        cells=_cells(metrics, summary, systems, rows, _marks(differences)),
        definitions=definitions,
        notes=[*substitute_notes(run.config.evaluation, recognizers), *common_notes(summary, metrics)],
        differences=_differences(differences, systems),
        parts=_parts(run.table(run.paths.evaluation_table("cells")), metrics, systems),
        judges=name_judges(definitions, run.graph, scored),
        anchor_checks=check_anchors(differences, kinds, {s.name: s.role for s in systems if s.role}),
        downloads=downloads,
    )


def describe_system(name: str, run: Run) -> ReportedSystem:
    """What an experiment is; one that is not configured is known only where it has the name of an anchor."""
    experiment = run.config.experiments.get(name)
    if experiment is None:
        if name in PLAYS:
            return ReportedSystem(name, "anchor", PLAYS[name][1], name)
        return ReportedSystem(name, "system", "not in this study's configuration")
    methods = run.config.pair_methods()
    return ReportedSystem(name, experiment.kind(methods), experiment.title(methods), experiment.anchor_role())


def _rank(system: ReportedSystem) -> tuple[int, int]:
    """Systems, controls, anchors; the latter in the order of their roles, all others as configured (sorting is stable)."""
    kinds = [kind for kind, _ in GROUPS]
    return kinds.index(system.kind), ANCHOR_ROLES.index(system.role) if system.role in ANCHOR_ROLES else 0


def _cells(
    metrics: Sequence[Metric],
    summary: pd.DataFrame,
    systems: Sequence[ReportedSystem],
    rows: Mapping[tuple[str, str], str],
    marks: Mapping[tuple[str, str, str], str],
) -> dict[tuple[str, str], ScoreCell]:
    """Every number of the summary by experiment and metric."""
    names = [system.name for system in systems if system.kind == "system"]
    cells = {}
    for metric in metrics:
        column = summary[summary["metric"] == metric.name]
        best = _best(metric, column, names)
        bounds = column[["low", "high", "mean"]].to_numpy(dtype=float)
        known = bounds[pd.notna(bounds)]
        scale = (known.min(), max(known.max() - known.min(), 1e-9)) if len(known) else (0.0, 1.0)
        for row in column.to_dict("records"):
            low, mean, high = (float(row[key]) for key in ("low", "mean", "high"))
            experiment = str(row["experiment"])
            cells[(experiment, metric.name)] = ScoreCell(
                mean,
                low,
                high,
                int(row["n"]),
                int(row.get("missing", 0)),
                row["note"] or "",
                rows.get((experiment, metric.name), ""),
                _bar(low, mean, high, *scale),
                experiment == best,
                marks.get((metric.name, best, experiment), ""),
            )
    return cells


def _bar(low: float, mean: float, high: float, floor: float, span: float) -> CellBar:
    left, middle, right = ((value - floor) / span * 100 if math.isfinite(value) else 0.0 for value in (low, mean, high))
    return CellBar(round(left, 2), round(middle, 2), round(max(right - left, 0), 2))


def _best(metric: Metric, rows: pd.DataFrame, among: Sequence[str]) -> str:
    """The best of several systems; "" if there is nothing to choose between."""
    known = rows[rows["experiment"].isin(among) & rows["mean"].notna()].set_index("experiment")["mean"]
    return str((metric.better * known).idxmax()) if metric.better and len(known) > 1 else ""


def _marks(differences: pd.DataFrame) -> dict[tuple[str, str, str], str]:
    """The mark of each paired difference by metric and both experiments, either way round."""
    marks = {}
    for row in differences.to_dict("records"):
        for pair in ((row["first"], row["second"]), (row["second"], row["first"])):
            marks[(row["metric"], *pair)] = row.get("mark", "") or ""
    return marks


def _parts(table: pd.DataFrame, metrics: Sequence[Metric], systems: Sequence[ReportedSystem]) -> list[PartTable]:
    """The metrics of the main table by genders, languages and conditions, where the trials have more than one."""
    found = []
    for by in dict.fromkeys(table["by"]) if len(table) else ():
        for metric in metrics:
            rows = table[(table["by"] == by) & (table["metric"] == metric.name)]
            cells = sorted(set(rows["cell"]))
            by_place = {(row["experiment"], row["cell"]): row for row in rows.to_dict("records")}
            shown = [(system, [by_place.get((system.name, cell)) for cell in cells]) for system in systems]
            shown = [(system, row) for system, row in shown if any(row)]
            if shown and metric.is_headline:
                found.append(PartTable(str(by), metric, cells, shown))
    return found


def _definition(metric: Metric, summary: pd.DataFrame) -> MetricDefinition:
    """As the first row says: the summary refuses numbers of one metric that were made in two ways."""
    row = summary[summary["metric"] == metric.name].iloc[0]
    values = (str(row.get(key, "") or "") for key in ("definition", "pooled", "model", "weights_sha256", "normalizer"))
    return MetricDefinition(metric, *values)


def _differences(table: pd.DataFrame, systems: Sequence[ReportedSystem]) -> list[dict[str, Any]]:
    """Paired differences that involve a system, in metrics of the main table; the system stands first."""
    own = {system.name for system in systems if system.kind == "system"}
    rows = []
    for row in table.to_dict("records"):
        metric = find_metric(row["metric"])
        if not metric.is_headline or not {row["first"], row["second"]} & own:
            continue
        if row["second"] in own and row["first"] not in own:
            row |= {"first": row["second"], "second": row["first"], "difference": -row["difference"]}
            row |= {"low": -row["high"], "high": -row["low"]}
        rows.append({**row, "metric": metric, "mark": row.get("mark", "") or ""})
    return rows


def _copy_rows(run: Run, data: Path) -> dict[tuple[str, str], str]:
    """Write every table of scores as CSV; gives the link to the rows behind each number by experiment and metric.

    A pooled metric has no rows of its own; those that it is computed from lie in the table of its family.
    """
    links: dict[tuple[str, str], str] = {}
    for experiment in run.config.experiments:
        for family in run.config.evaluation.families:
            table = run.table(run.paths.scores(experiment, family))
            if len(table.columns):
                link = _write_csv(table, data, f"{slug(experiment)}-{slug(family)}")
                rows = {str(name) for name in table["metric"]}
                pooled = [m.name for m in METRICS.values() if m.pooling and rows.issuperset(m.pooling.parts)]
                links |= {(experiment, metric): link for metric in (*rows, *pooled)}
    return links


def _copy_tables(run: Run, data: Path) -> list[tuple[str, str]]:
    """Write the tables of the whole run as CSV; gives (name, link) of each."""
    paths = run.paths
    summaries = [paths.evaluation_table(name) for name in SUMMARY_TABLES]
    tables = {path.stem: run.table(path) for path in (*summaries, paths.trials, paths.rejected)}
    return [(name, _write_csv(table, data, name)) for name, table in tables.items() if len(table.columns)]


def _write_csv(table: pd.DataFrame, data: Path, name: str) -> str:
    """Write a table; gives its link on the page."""
    table.to_csv(data / f"{name}.csv", index=False)
    return f"assets/data/{name}.csv"
