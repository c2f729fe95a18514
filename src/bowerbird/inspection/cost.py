"""What a run cost, and what one over more speech would: hours, memory and disk, a line a stage and variant."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bowerbird.artifacts.tables import read_table
from bowerbird.errors import BowerbirdError

# how the cost of a stage grows with hours of speech, where speakers grow with it and each speaks as long as before
PER_HOUR, CONSTANT = "speech", "fixed"


GROWTH = {"corpus": PER_HOUR, "features": PER_HOUR, "pairs": PER_HOUR, "units": PER_HOUR}


STAGES = ("corpus", "features", "codebook", "pairs", "training", "conversion", "evaluation", "report")


@dataclass
class Cost:
    """What the jobs of one stage and variant took."""

    stage: str
    name: str
    jobs: int = 0
    seconds: float = 0.0
    memory_mib: float = 0.0
    disk_bytes: float = 0.0
    growth: str = field(default=CONSTANT)

    def scaled(self, factor: float) -> Cost:
        """The same over ``factor`` times the speech."""
        by = factor if self.growth == PER_HOUR else 1.0
        return Cost(
            self.stage, self.name, self.jobs, self.seconds * by, self.memory_mib, self.disk_bytes * by, self.growth
        )


def plan_cost(root: Path = Path("results/demo"), hours: float = 0.0) -> None:
    """Print what a run cost, from its benchmark files; with ``hours``, what the same study over that much speech would.

    Stages over speech grow with it; training, conversion and evaluation depend on their steps and trials, and stay.
    Memory is what was measured: it grows with the speech in a shard, not with the corpus. Same machine, same
    configuration: a forecast, not a promise; jobs of a few seconds were mostly start-up, so theirs is too high.
    """
    if not (math.isfinite(hours) and hours >= 0):
        raise BowerbirdError(f"--hours: {hours:g}: give the hours of speech of the corpus to come, 0 for none")
    manifest = root / "corpus" / "manifest.parquet"
    if not manifest.is_file():
        raise BowerbirdError(
            f"{root}: no corpus/manifest.parquet; make a small run first, then ask what a large one costs"
        )
    speech_h = float(read_table(manifest, ["duration_s"])["duration_s"].sum()) / 3600
    if hours and not speech_h:
        raise BowerbirdError(f"{manifest}: no speech in it; a forecast needs a run over some")
    factor = hours / speech_h if hours else 1.0
    print(f"{root}: {speech_h:.3f} h of speech" + (f"; forecast for {hours:g} h" if hours else ""))
    print(f"{'stage':12} {'variant':28} {'jobs':>5} {'hours':>9} {'MiB a job':>10} {'disk GiB':>9}  grows with")
    total_s = total_b = 0.0
    for cost in costs_of(root):
        one = cost.scaled(factor)
        total_s, total_b = total_s + one.seconds, total_b + one.disk_bytes
        print(
            f"{one.stage:12} {one.name:28} {one.jobs:5d} {one.seconds / 3600:9.3f} {one.memory_mib:10.0f} "
            f"{one.disk_bytes / 2**30:9.3f}  {one.growth}"
        )
    print(f"{'all':12} {'':28} {'':5} {total_s / 3600:9.3f} {'':10} {total_b / 2**30:9.3f}")
    print("hours: of jobs, one after another; MiB a job: the most that was measured")


def costs_of(root: Path) -> Iterator[Cost]:
    """Costs by stage and variant, in the order of the data."""
    costs: dict[tuple[str, str], Cost] = {}
    for stage in STAGES:
        for path in sorted((root / "benchmarks" / stage).glob("*.tsv")):
            name = re.sub(r"-\d{4}$", "", path.stem)
            cost = costs.setdefault((stage, name), Cost(stage, name, growth=GROWTH.get(stage, CONSTANT)))
            with open(path, encoding="utf-8", newline="") as handle:
                for row in csv.DictReader(handle, delimiter="\t"):
                    cost.jobs += 1
                    cost.seconds += _number(row.get("s"))
                    cost.memory_mib = max(cost.memory_mib, _number(row.get("max_rss")))
    if not costs:
        raise BowerbirdError(f"{root}: no benchmarks/*/*.tsv; they are written by a run of the workflow")
    for cost in costs.values():
        cost.disk_bytes = sum(p.stat().st_size for p in _files(root, cost) if p.is_file())
        yield cost


def _files(root: Path, cost: Cost) -> Iterator[Path]:
    """The artifacts that a line's disk is counted from."""
    patterns = {
        "corpus": ["corpus/*.parquet"] if cost.name == "list_corpus" else ["corpus/audio/*"],
        "features": [f"features/{cost.name}/*"],
        "codebook": [f"codebook/{cost.name.removesuffix('-fit')}/**/*"],
        "pairs": [f"pairs/{cost.name}/*"],
        "training": [f"training/{experiment}/{stage}/**/*" for experiment, _, stage in [cost.name.rpartition("-")]],
        "conversion": [f"conversion/{cost.name}/*"],
        "evaluation": [f"evaluation/{e}/{family}.parquet" for e, _, family in [cost.name.rpartition("-")]],
        "report": ["report/**/*"],
    }[cost.stage]
    for pattern in patterns:
        yield from root.glob(pattern)


def _number(text: str | None) -> float:
    try:
        return float(text or 0)
    except ValueError:  # "NA": too short to be measured
        return 0.0
