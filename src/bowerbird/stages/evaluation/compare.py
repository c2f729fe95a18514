"""Paired differences: two systems on identical trials, with intervals and p-values corrected for how many there are."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bowerbird.artifacts.tables import DIFFERENCES
from bowerbird.errors import BowerbirdError
from bowerbird.metrics.statistics import Resampling, holm, interval, point, replicate, significance_mark
from bowerbird.stages.evaluation.aggregate import (
    Series,
    check_comparable,
    check_same_trials,
    collect_series,
    read_scores,
    verifiers_of,
)

logger = logging.getLogger(__name__)


def compare(series: list[Series], resampling: Resampling) -> list[dict[str, Any]]:
    """Paired differences of every two experiments in every metric, over the trials that both have a value of.

    The comparisons of one metric are the family of Holm's correction.
    """
    rows = []
    for metric in dict.fromkeys(item.metric for item in series):
        pairs = list(combinations([item for item in series if item.metric == metric], 2))
        rows += _family(pairs, resampling.enough_for(len(pairs)))
    return rows


def _family(pairs: Sequence[tuple[Series, Series]], resampling: Resampling) -> list[dict[str, Any]]:
    """All comparisons of one metric."""
    rows: list[dict[str, Any]] = []
    descriptive: list[bool] = []
    known: dict[tuple[str, tuple[str, ...]], np.ndarray] = {}

    def replicates(item: Series, trials: pd.DataFrame) -> np.ndarray:
        key = item.experiment, tuple(trials.index)
        if key not in known:
            known[key] = replicate(item.columns(trials), *item.speakers(trials), resampling, item.statistic)
        return known[key]

    for first, second in pairs:
        shared = first.scored.index.intersection(second.scored.index)
        if shared.empty:
            continue
        one, two = first.scored.loc[shared], second.scored.loc[shared]
        value = point(first.columns(one), first.statistic) - point(second.columns(two), second.statistic)
        drawn = replicates(first, one) - replicates(second, two)
        found = interval(value, drawn, *first.speakers(one), resampling, paired=True)
        left_out = len(first.trials.index.union(second.trials.index)) - len(shared)
        notes = [found.note, f"{left_out} trials left out" if left_out else ""]
        descriptive.append(found.is_descriptive)
        rows.append(
            {
                "metric": first.metric,
                "first": first.experiment,
                "second": second.experiment,
                "difference": found.value,
                "low": found.low,
                "high": found.high,
                "p_value": found.p_value,
                "n": found.trials,
                "note": "; ".join(note for note in notes if note),
            }
        )
    adjusted = holm([float(row["p_value"]) for row in rows])
    for row, p, few in zip(rows, adjusted, descriptive, strict=True):
        row |= {"p_holm": p, "mark": significance_mark(p, few)}
    return rows


def compare_runs(
    runs: list[Path],
    experiments: list[str] = [],  # noqa: B006 - read only
    metrics: list[str] = [],  # noqa: B006 - read only
    output: Path | None = None,
    bootstrap: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> None:
    """Print paired differences between the same experiments of two runs, or between experiments of one run.

    ``runs``: one or two folders below results/. ``experiments``: names to compare; of two runs also ONE=OTHER, which
    compares the first run's ONE with the second's OTHER. None given: all that both runs have, or all of the one run.
    Scores of different definitions, judges or trial lists are refused. ``output`` writes the table as CSV too.
    """
    if len(runs) not in (1, 2):
        raise BowerbirdError(f"compare: {len(runs)} runs: give one run, or two")
    chosen = _choose(runs, experiments)
    paths = {path: name for (run, experiment), name in chosen.items() for path in _scores(run, experiment)}
    tables = {path: read_scores(path) for path in paths}
    check_same_trials(list(paths))
    check_comparable(tables)
    series = [s for s in collect_series(tables, paths) if not metrics or s.metric in metrics]
    missing = sorted(set(metrics) - {item.metric for item in series})
    if missing:
        known = ", ".join(sorted({item.metric for item in collect_series(tables, paths)}))
        raise BowerbirdError(f"--metrics: {missing[0]!r} was not scored in these runs; known: {known}")
    table = pd.DataFrame(
        _between(series, runs, chosen, Resampling(bootstrap, confidence, seed)), columns=DIFFERENCES.names
    )
    print(format_differences(table, confidence))
    if judges := verifiers_of(series):
        print(f"Voices judged by {judges['first']}; second verifier: {judges['second']}.")
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(output, index=False)
        logger.info("%s: written", output)


def _choose(runs: list[Path], experiments: list[str]) -> dict[tuple[Path, str], str]:
    """(run, experiment) -> the name shown."""
    found = [{p.parent.name for p in sorted((run / "evaluation").glob("*/*.parquet"))} for run in runs]
    for run, names in zip(runs, found, strict=True):
        if not names:
            raise BowerbirdError(f"{run}: no scores below evaluation/; give the folder of a run, results/<run>")
    if len(runs) == 1:
        within = [_known(name, found[0], runs[0]) for name in experiments] or sorted(found[0])
        if len(within) < 2:
            raise BowerbirdError(f"--experiments: {' '.join(within)}: a comparison within one run needs two of them")
        return {(runs[0], name): name for name in within}
    labels = [run.resolve().name for run in runs]
    if labels[0] == labels[1]:
        labels = [str(run) for run in runs]
    if labels[0] == labels[1]:
        raise BowerbirdError(f"compare: {runs[0]}: is given twice; give another run, or this one once")
    wanted = experiments or sorted(found[0] & found[1])
    if not wanted:
        raise BowerbirdError(
            f"compare: {runs[0]} and {runs[1]} have no experiment of the same name; say which with --experiments ONE=OTHER"
        )
    chosen = {}
    for name in wanted:
        one, _, other = name.partition("=")
        for run, label, names, experiment in zip(runs, labels, found, (one, other or one), strict=True):
            chosen[(run, _known(experiment, names, run))] = f"{label}/{experiment}"
    return chosen


def _known(name: str, known: set[str], run: Path) -> str:
    if name not in known:
        raise BowerbirdError(f"--experiments: {name!r} has no scores in {run}; known: {', '.join(sorted(known))}")
    return name


def _scores(run: Path, experiment: str) -> list[Path]:
    return sorted((run / "evaluation" / experiment).glob("*.parquet"))


def _between(
    series: list[Series], runs: list[Path], chosen: dict[tuple[Path, str], str], resampling: Resampling
) -> list[dict[str, Any]]:
    """Every two experiments of one run; of two runs each experiment with its counterpart."""
    if len(runs) == 1:
        return compare(series, resampling)
    firsts, seconds = ([name for (run, _), name in chosen.items() if run == side] for side in runs)
    by_name = {(item.metric, item.experiment): item for item in series}
    rows = []
    for metric in dict.fromkeys(item.metric for item in series):
        keys = [((metric, one), (metric, two)) for one, two in zip(firsts, seconds)]
        pairs = [(by_name[one], by_name[two]) for one, two in keys if one in by_name and two in by_name]
        rows += _family(pairs, resampling.enough_for(len(pairs)))
    return rows


def format_differences(table: pd.DataFrame, confidence: float) -> str:
    """The table as text, a line a comparison."""
    if table.empty:
        return "nothing to compare: no metric has values of both on the same trials"
    heads = [
        "metric",
        "first",
        "second",
        "difference",
        f"{100 * confidence:g} % interval",
        "p",
        "p (Holm)",
        "",
        "n",
        "note",
    ]
    lines = [heads]
    for row in table.to_dict("records"):
        interval_ = f"{row['low']:+.4f} to {row['high']:+.4f}"
        numbers = [f"{row['difference']:+.4f}", interval_, f"{row['p_value']:.2g}", f"{row['p_holm']:.2g}"]
        lines.append([row["metric"], row["first"], row["second"], *numbers, row["mark"], str(row["n"]), row["note"]])
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    text.append(
        "Difference: first minus second on the same trials. p (Holm): corrected for all comparisons of the metric shown "
        "here; * below 0.05, ** below 0.01, *** below 0.001; no mark where an interval is descriptive only."
    )
    return "\n".join(text)
