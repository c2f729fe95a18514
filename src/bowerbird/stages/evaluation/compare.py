"""Paired differences of experiments on identical trials, with intervals and p-values corrected for their number."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd

from bowerbird.artifacts.tables import DIFFERENCES
from bowerbird.artifacts.text_tables import TableColumn, format_table
from bowerbird.config.paths import Paths
from bowerbird.errors import BowerbirdError
from bowerbird.metrics.statistics import (
    Replicated,
    Resampling,
    estimate_difference,
    holm,
    replicate,
    significance_mark,
)
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
        rows += _differences(pairs, resampling.enough_for(len(pairs)))
    return rows


def _differences(pairs: Sequence[tuple[Series, Series]], resampling: Resampling) -> list[dict[str, Any]]:
    """All comparisons of one metric; pairs without a shared trial are left out."""
    rows: list[dict[str, Any]] = []
    descriptive: list[bool] = []
    known: dict[tuple[str, tuple[str, ...]], Replicated] = {}

    def replicated(item: Series, trials: pd.DataFrame) -> Replicated:
        """The statistic over these trials, computed once for all comparisons of the experiment."""
        key = item.experiment, tuple(trials.index)
        if key not in known:
            known[key] = replicate(item.columns(trials), *item.speakers(trials), resampling, item.statistic)
        return known[key]

    for first, second in pairs:
        shared = first.scored.index.intersection(second.scored.index)
        if shared.empty:
            continue
        found = estimate_difference(*(replicated(item, item.scored.loc[shared]) for item in (first, second)))
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
    adjusted = holm([row["p_value"] for row in rows])
    for row, p, is_descriptive in zip(rows, adjusted, descriptive, strict=True):
        row |= {"p_holm": p, "mark": significance_mark(p, is_descriptive)}
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
    Scores of different definitions, models or trial lists are refused. ``output`` writes the table as CSV too.
    """
    if len(runs) not in (1, 2):
        raise BowerbirdError(f"compare: {len(runs)} runs: give one run, or two")
    chosen = choose_experiments(runs, experiments)
    names = {path: name for (run, experiment), name in chosen.items() for path in score_tables(run)[experiment]}
    tables = {path: read_scores(path) for path in names}
    check_same_trials(list(names))
    check_comparable(tables)
    series = collect_series(tables, names)
    known = {item.metric for item in series}
    if missing := sorted(set(metrics) - known):
        raise BowerbirdError(
            f"--metrics: {missing[0]!r} was not scored in these runs; known: {', '.join(sorted(known))}"
        )
    series = [item for item in series if not metrics or item.metric in metrics]
    resampling = Resampling(bootstrap, confidence, seed)
    rows = compare(series, resampling) if len(runs) == 1 else _compare_counterparts(series, runs, chosen, resampling)
    table = pd.DataFrame(rows, columns=DIFFERENCES.names)
    print(format_differences(table, confidence))
    if verifiers := verifiers_of(series):
        print(f"Speaker similarity by {verifiers['first']}; second verifier: {verifiers['second']}.")
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(output, index=False)
        logger.info("%s: written", output)


def score_tables(run: Path) -> dict[str, list[Path]]:
    """The tables of scores of a run, by experiment."""
    found: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(run.glob(str(Paths(run).scores("*", "*").relative_to(run)))):
        found[path.parent.name].append(path)
    return found


def choose_experiments(runs: list[Path], experiments: list[str]) -> dict[tuple[Path, str], str]:
    """(run, experiment) -> the name under which it is shown; of two runs, counterparts follow each other."""
    found = [set(score_tables(run)) for run in runs]
    for run, names in zip(runs, found, strict=True):
        if not names:
            raise BowerbirdError(f"{run}: no scores below evaluation/; give the folder of a run, results/<run>")
    if len(runs) == 1:
        within = experiments or sorted(found[0])
        _check_scored(within, found[0], runs[0])
        if len(within) < 2:
            raise BowerbirdError(f"--experiments: {' '.join(within)}: a comparison within one run needs two of them")
        return {(runs[0], name): name for name in within}
    labels = _run_labels(runs)
    wanted = experiments or sorted(found[0] & found[1])
    if not wanted:
        raise BowerbirdError(
            f"compare: {runs[0]} and {runs[1]} have no experiment of the same name; say which with --experiments ONE=OTHER"
        )
    chosen = {}
    for name in wanted:
        one, _, other = name.partition("=")
        for run, label, names, experiment in zip(runs, labels, found, (one, other or one), strict=True):
            _check_scored([experiment], names, run)
            chosen[(run, experiment)] = f"{label}/{experiment}"
    return chosen


def _check_scored(names: list[str], known: set[str], run: Path) -> None:
    for name in names:
        if name not in known:
            raise BowerbirdError(f"--experiments: {name!r} has no scores in {run}; known: {', '.join(sorted(known))}")


def _run_labels(runs: list[Path]) -> list[str]:
    """The names of two runs, with their folders where the names are equal; an error where it is one run given twice."""
    for labels in ([run.resolve().name for run in runs], [str(run) for run in runs]):
        if labels[0] != labels[1]:
            return labels
    raise BowerbirdError(f"compare: {runs[0]}: is given twice; give another run, or this one once")


def _compare_counterparts(
    series: list[Series], runs: list[Path], chosen: dict[tuple[Path, str], str], resampling: Resampling
) -> list[dict[str, Any]]:
    """Paired differences of each experiment of the first run and its counterpart in the second."""
    firsts, seconds = ([name for (run, _), name in chosen.items() if run == side] for side in runs)
    by_name = {(item.metric, item.experiment): item for item in series}
    rows = []
    for metric in dict.fromkeys(item.metric for item in series):
        keys = [((metric, one), (metric, two)) for one, two in zip(firsts, seconds)]
        pairs = [(by_name[one], by_name[two]) for one, two in keys if one in by_name and two in by_name]
        rows += _differences(pairs, resampling.enough_for(len(pairs)))
    return rows


def format_differences(table: pd.DataFrame, confidence: float) -> str:
    """The table of differences as text, one line per comparison, with an explanation below."""
    if table.empty:
        return "nothing to compare: no metric has values of both on the same trials"
    columns = [
        TableColumn("metric"),
        TableColumn("first"),
        TableColumn("second"),
        TableColumn("difference", "+.4f", "right"),
        TableColumn(f"{100 * confidence:g} % interval", align="right"),
        TableColumn("p", ".2g", "right"),
        TableColumn("p (Holm)", ".2g", "right"),
        TableColumn(),
        TableColumn("n", "d", "right"),
        TableColumn("note"),
    ]
    rows = [
        (
            *(row[name] for name in ("metric", "first", "second", "difference")),
            f"{row['low']:+.4f} to {row['high']:+.4f}",
            *(row[name] for name in ("p_value", "p_holm", "mark", "n", "note")),
        )
        for row in table.to_dict("records")
    ]
    return (
        f"{format_table(columns, rows)}\n"
        "Difference: first minus second on the same trials. p (Holm): corrected for all comparisons of the metric shown "
        "here; * below 0.05, ** below 0.01, *** below 0.001; no mark where an interval is descriptive only."
    )
