"""``bowerbird plan-cost``: what a run cost, and what one over more speech would cost, per stage and variant."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from bowerbird.artifacts.tables import read_table
from bowerbird.artifacts.text_tables import TableColumn, format_table
from bowerbird.config.graph import Graph
from bowerbird.config.paths import Paths
from bowerbird.errors import BowerbirdError
from bowerbird.stages.report.costs import Cost, read_costs, read_records

COLUMNS = (
    TableColumn("stage"),
    TableColumn("variant", missing="-"),
    TableColumn("jobs", align="right"),
    TableColumn("hours", ".3f", align="right"),
    TableColumn("MiB per job", ".0f", align="right"),
    TableColumn("disk GiB", ".3f", align="right"),
    TableColumn("grows with"),
)


def plan_cost(root: Path = Path("results/demo"), hours: float = 0.0) -> None:
    """Print what a run cost, from its benchmark files; with ``hours``, what the same study over that much speech would cost.

    The work over all speech grows with it; training, conversion and evaluation depend on their steps and trials, and stay.
    Memory is what was measured: it grows with the speech in a shard, not with the corpus. The forecast is for the same
    machine and configuration. It is no promise: jobs of a few seconds were mostly start-up, so their forecast is too high.
    """
    if not (math.isfinite(hours) and hours >= 0):
        raise BowerbirdError(f"--hours: {hours:g}: give the hours of speech of the corpus to come, 0 for none")
    manifest = Paths(root).manifest
    if not manifest.is_file():
        raise BowerbirdError(
            f"{root}: no corpus/manifest.parquet; make a small run first, then ask what a large one costs"
        )
    speech_h = float(read_table(manifest, ["duration_s"])["duration_s"].sum()) / 3600
    if hours and not speech_h:
        raise BowerbirdError(f"{manifest}: no speech in it; a forecast needs a run over some")
    costs = measured_costs(root)
    print(f"{root}: {speech_h:.3f} h of speech" + (f"; forecast for {hours:g} h" if hours else ""))
    _print_costs(costs, hours / speech_h if hours else 1.0)


def measured_costs(root: Path) -> list[Cost]:
    """Costs of the stages and variants of a run that the workflow measured, in the order of the data."""
    graph = Graph.of_run(root)
    costs = [cost for cost in read_costs(graph, read_records(graph)) if cost.measured.jobs]
    if not costs:
        raise BowerbirdError(f"{root}: no benchmarks/*/*.tsv; they are written by a run of the workflow")
    return costs


def _print_costs(costs: list[Cost], factor: float) -> None:
    """Print a line per stage and variant, over ``factor`` times the speech."""
    rows: list[tuple[Any, ...]] = []
    total_s = total_bytes = 0.0
    for cost in costs:
        seconds, size = cost.forecast(factor)
        total_s, total_bytes = total_s + seconds, total_bytes + size
        growth = "speech" if cost.growing_share == 1 else "partly" if cost.growing_share else "fixed"
        work = cost.measured
        rows.append((cost.stage, cost.variant or None, work.jobs, seconds / 3600, work.peak_mib, size / 2**30, growth))
    rows.append(("all", "", None, total_s / 3600, None, total_bytes / 2**30, ""))
    print(format_table(COLUMNS, rows))
    print(
        "hours: of jobs, one after another; MiB per job: the most that was measured; partly: some jobs grow with speech"
    )
