"""The main table: systems by metrics, with anchors, intervals, definitions, and the rows behind each number."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from bowerbird.artifacts.tables import read_table
from bowerbird.metrics.anchors import Order, check_anchors
from bowerbird.metrics.registry import METRICS, OPINIONS, Metric
from bowerbird.metrics.shared_models import Verifier, name_verifiers
from bowerbird.stages.report.formats import slug
from bowerbird.stages.report.run import Run

ANCHORS = {
    "ground-truth": "the source itself",
    "vocoder": "the source through the vocoder: resynthesis",
    "heldout-target": "other speech of the target",
    "random-speaker": "speech of a third speaker",
}


GROUPS = (
    ("system", "Systems"),
    ("control", "Controls, which should lose"),
    ("anchor", "Anchors, which bound the scale"),
)


@dataclass(frozen=True)
class System:
    """An experiment as the page shows it."""

    name: str
    kind: str  # system, control or anchor
    says: str

    @property
    def is_played(self) -> bool:
        """Whether its audio is shown: an anchor other than resynthesis plays recordings, which are shown as such."""
        return self.kind != "anchor" or self.says == ANCHORS["vocoder"]


@dataclass(frozen=True)
class Cell:
    """One number, its interval, and where the interval lies on the column's scale (percent from the left)."""

    mean: float
    low: float
    high: float
    n: int
    missing: int
    note: str
    rows: str  # link to the rows behind it, "" if they are not there
    left: float = 0.0
    middle: float = 0.0
    width: float = 0.0
    is_best: bool = False
    mark: str = ""  # how surely it differs from the best system of its column, corrected for all comparisons

    @property
    def has_value(self) -> bool:
        return math.isfinite(self.mean)


@dataclass(frozen=True)
class Definition:
    """How a metric was made."""

    metric: Metric
    definition: str
    pooled: str
    model: str
    weights_sha256: str
    normalizer: str

    @property
    def judge(self) -> str:
        """The model's name without its settings."""
        return self.model.split()[0].rstrip(",") if self.model else ""


@dataclass(frozen=True)
class Parts:
    """One metric over parts of the trials: genders, languages or conditions."""

    by: str
    metric: Metric
    cells: list[str]
    rows: list[tuple[System, list[dict[str, Any] | None]]]


@dataclass(frozen=True)
class Scores:
    """Everything about the scores."""

    systems: list[System]
    metrics: list[Metric]  # of the main table
    others: list[Metric]
    cells: dict[tuple[str, str], Cell]
    definitions: dict[str, Definition]
    absent: list[Metric]
    notes: list[str]  # that hold for the whole table
    differences: list[dict[str, Any]] = field(default_factory=list)
    downloads: list[tuple[str, str]] = field(default_factory=list)
    parts: list[Parts] = field(default_factory=list)
    verifiers: list[Verifier] = field(default_factory=list)  # the first and the second, which may be none
    orders: list[Order] = field(default_factory=list)  # what must hold of the anchors

    def kin(self, system: System) -> str:
        """What the verifiers have to do with a system, "" for nothing."""
        found = [
            f"{why} ({judge.place} verifier)"
            for judge in self.verifiers
            for name, why in judge.kin
            if name == system.name
        ]
        return "; ".join(found)

    @property
    def has_marks(self) -> bool:
        return any(cell.mark for cell in self.cells.values())

    def group(self, kind: str) -> list[System]:
        return [system for system in self.systems if system.kind == kind]

    @property
    def groups(self) -> list[tuple[str, str, list[System]]]:
        return [(kind, heading, self.group(kind)) for kind, heading in GROUPS if self.group(kind)]

    def cell(self, system: System, metric: Metric) -> Cell | None:
        return self.cells.get((system.name, metric.name))


def gather_scores(run: Run, data: Path) -> Scores:
    """Read the summary; copy it and the rows behind it as CSV into the folder ``data``."""
    summary = run.table("evaluation/summary.parquet")
    names = list(dict.fromkeys([*run.config.experiments, *(summary["experiment"] if len(summary) else [])]))
    systems = sorted((describe_system(name, run) for name in names), key=lambda s: _rank(s, names))
    links, downloads = _copy_rows(run, data)
    if summary.empty:
        return Scores(systems, [], [], {}, {}, [m for m in METRICS.values() if m.headline], [], downloads=downloads)
    metrics = [_metric(name, run) for name in [*METRICS, *summary["metric"]] if name in set(summary["metric"])]
    metrics = list(dict.fromkeys(metrics))
    cells = {}
    marks = _marks(run)
    for metric in metrics:
        cells.update(_cells(metric, summary[summary["metric"] == metric.name], systems, links, marks))
    definitions = {m.name: _definition(m, summary) for m in metrics}
    judged = [system.name for system in systems if system.kind != "anchor"]
    return Scores(
        systems=systems,
        metrics=[m for m in metrics if m.headline],
        others=[m for m in metrics if not m.headline],
        cells=cells,
        definitions=definitions,
        absent=[m for m in METRICS.values() if m.headline and m not in metrics],
        notes=_notes(summary, metrics),
        differences=_differences(run, systems),
        downloads=downloads,
        parts=_parts(run, systems),
        verifiers=name_verifiers(definitions, run.config, judged),
        orders=check_anchors(
            run.table("evaluation/differences.parquet"), {s.name: s.kind for s in systems}, _roles(systems)
        ),
    )


def _roles(systems: list[System]) -> dict[str, str]:
    """Which anchor an experiment is: {"copy": "vocoder"}."""
    named = {says: name for name, says in ANCHORS.items()}
    return {system.name: named[system.says] for system in systems if system.says in named}


def describe_system(name: str, run: Run) -> System:
    """Anchors bound the scale, controls must lose, the rest are systems."""
    experiment = run.config.experiments.get(name)
    if experiment is None:
        kind = "anchor" if name in ANCHORS else "system"
        return System(name, kind, ANCHORS.get(name, "not in this study's configuration"))
    if experiment.system == "anchor":
        return System(name, "anchor", ANCHORS[experiment.anchor])
    if experiment.system == "vocoder":
        return System(name, "anchor", ANCHORS["vocoder"])
    if getattr(experiment, "retrieval", "") == "random":
        return System(name, "control", f"{experiment.system} with random retrieval")
    pairs = run.config.pairs.get(getattr(experiment, "pairs", ""))
    if pairs is not None and pairs.method != "nearest":
        return System(name, "control", f"{experiment.system} on pairs of {pairs.method} frames")
    paper = (type(experiment).__doc__ or experiment.system).split(":")[0]  # kNN-VC (Baas et al. 2023)
    return System(name, "system", paper)


def _rank(system: System, names: list[str]) -> tuple[int, int, int]:
    kinds = [kind for kind, _ in GROUPS]
    anchors = list(ANCHORS.values())
    return (
        kinds.index(system.kind),
        anchors.index(system.says) if system.says in anchors else 0,
        names.index(system.name),
    )


def _metric(name: str, run: Run) -> Metric:
    """How a metric is shown; opinions bear names of the configuration."""
    if name in METRICS:
        return METRICS[name]
    for opinion in run.config.evaluation.opinions:
        if name == opinion or name.startswith(f"{opinion}_"):
            heading = f"{OPINIONS.get(opinion, opinion)} {name.removeprefix(opinion).replace('_', ' ').strip()}".strip()
            says = "estimated opinion score by a model from a local folder, 1 to 5"
            return Metric(name, heading, 1, says, places=2, headline=name == opinion)
    return Metric(name, name, 0, "", headline=False)


def _cells(
    metric: Metric,
    rows: pd.DataFrame,
    systems: list[System],
    links: dict[tuple[str, str], str],
    marks: dict[tuple[str, str, str], str],
) -> dict:
    """Cells of one column, placed on a scale from its lowest to its highest bound."""
    bounds = rows[["low", "high", "mean"]].to_numpy(dtype=float)
    known = bounds[pd.notna(bounds)]
    floor, span = (known.min(), max(known.max() - known.min(), 1e-9)) if len(known) else (0.0, 1.0)
    best = _best(metric, rows, [s.name for s in systems if s.kind == "system"])
    cells = {}
    for row in rows.to_dict("records"):
        low, mean, high = (float(row[key]) for key in ("low", "mean", "high"))
        left, middle, right = (
            (value - floor) / span * 100 if math.isfinite(value) else 0.0 for value in (low, mean, high)
        )
        cells[(row["experiment"], metric.name)] = Cell(
            mean,
            low,
            high,
            int(row["n"]),
            int(row.get("missing", 0)),
            row["note"] or "",
            links.get((row["experiment"], metric.name), ""),
            round(left, 2),
            round(middle, 2),
            round(max(right - left, 0), 2),
            row["experiment"] == best,
            marks.get((metric.name, best, row["experiment"]), ""),
        )
    return cells


def _marks(run: Run) -> dict[tuple[str, str, str], str]:
    """(metric, one, other) -> mark of their paired difference, either way round."""
    marks = {}
    for row in run.table("evaluation/differences.parquet").to_dict("records"):
        for pair in ((row["first"], row["second"]), (row["second"], row["first"])):
            marks[(row["metric"], *pair)] = row.get("mark", "") or ""
    return marks


PARTED = ("wer", "cer", "secs", "f0_pcc", "dnsmos_ovrl")  # shown by genders, languages and conditions


def _parts(run: Run, systems: list[System]) -> list[Parts]:
    table = run.table("evaluation/cells.parquet")
    found = []
    for by in ("gender", "language", "condition") if len(table) else ():
        for name in PARTED:
            rows = table[(table["by"] == by) & (table["metric"] == name)]
            cells = sorted(set(rows["cell"]))
            by_place = {(row["experiment"], row["cell"]): row for row in rows.to_dict("records")}
            shown = [(system, [by_place.get((system.name, cell)) for cell in cells]) for system in systems]
            shown = [(system, row) for system, row in shown if any(row)]
            if shown:
                found.append(Parts(by, METRICS[name], cells, shown))
    return found


def _best(metric: Metric, rows: pd.DataFrame, among: list[str]) -> str:
    """The best of several systems; "" if there is nothing to choose between."""
    known = rows[rows["experiment"].isin(among) & rows["mean"].notna()].set_index("experiment")["mean"]
    return str((metric.better * known).idxmax()) if metric.better and len(known) > 1 else ""


def _definition(metric: Metric, summary: pd.DataFrame) -> Definition:
    """The summary refuses numbers made in two ways, so the first row speaks for all."""
    row = summary[summary["metric"] == metric.name].iloc[0]
    values = (str(row.get(key, "") or "") for key in ("definition", "pooled", "model", "weights_sha256", "normalizer"))
    return Definition(metric, *values)


def _notes(summary: pd.DataFrame, metrics: list[Metric]) -> list[str]:
    """What the notes of all rows say, each part once, the commonest first, with the metrics it holds for unless it holds for all.

    Reasons of single cells stay with them.
    """
    said = summary.loc[summary["note"].fillna("") != "", ["metric", "note"]]
    parts = said.assign(note=said["note"].str.split(";")).explode("note")
    parts["note"] = parts["note"].str.strip()
    parts = parts[(parts["note"] != "") & ~parts["note"].str.contains("trials without a value")]
    notes = []
    for part in parts["note"].value_counts().index[:4]:
        of = set(parts.loc[parts["note"] == part, "metric"])
        names = [] if of == set(summary["metric"]) else [m.heading for m in metrics if m.headline and m.name in of]
        notes.append(f"{part} ({', '.join(names)})" if names else str(part))
    return notes


def _differences(run: Run, systems: list[System]) -> list[dict[str, Any]]:
    """Paired differences that involve a system, in metrics of the main table."""
    table = run.table("evaluation/differences.parquet")
    own = {system.name for system in systems if system.kind == "system"}
    rows = []
    for row in table.to_dict("records"):
        metric = METRICS.get(row["metric"])
        if metric is None or not metric.headline or not {row["first"], row["second"]} & own:
            continue
        if row["second"] in own and row["first"] not in own:  # the system first
            row |= {"first": row["second"], "second": row["first"], "difference": -row["difference"]}
            row |= {"low": -row["high"], "high": -row["low"]}
        rows.append({**row, "metric": metric, "mark": row.get("mark", "") or ""})
    return rows


# numbers of the whole list, and a metric of the rows they are made of
MADE_OF = {"wer": "word_hits", "cer": "char_hits", "dwer": "dword_hits"} | {
    f"{made}{suffix}": f"{part}{suffix}"
    for made, part in (("secs_rel", "secs_gain"), ("eer_ind", "secs_real"), ("eer_ver", "secs_other"))
    for suffix in ("", "_second")
}


def _copy_rows(run: Run, data: Path) -> tuple[dict[tuple[str, str], str], list[tuple[str, str]]]:
    """Write every table of scores as CSV; (experiment, metric) -> link, and (label, link) of the tables of the whole."""
    links: dict[tuple[str, str], str] = {}
    for path in sorted((run.root / "evaluation").glob("*/*.parquet")):
        table = read_table(path)
        experiment, name = path.parent.name, f"{slug(path.parent.name)}-{slug(path.stem)}.csv"
        table.to_csv(data / name, index=False)
        metrics = set(table["metric"])
        metrics |= {made for made, part in MADE_OF.items() if part in metrics}
        links |= {(experiment, metric): f"assets/data/{name}" for metric in metrics}
    downloads = []
    for source in (
        "evaluation/summary",
        "evaluation/differences",
        "evaluation/cells",
        "corpus/trials",
        "corpus/rejected",
    ):
        table = run.table(f"{source}.parquet")
        if len(table.columns):
            name = f"{Path(source).name}.csv"
            table.to_csv(data / name, index=False)
            downloads.append((Path(source).name, f"assets/data/{name}"))
    return links, downloads
