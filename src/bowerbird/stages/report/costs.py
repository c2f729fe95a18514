"""What the jobs of a run took: the only reader of run records and benchmark files.

A *run record* lies beside an artifact and says how long its command worked and how much memory it took. A *benchmark file*
is what the workflow measured of a job, the start of its process included. Both are summed per stage and variant, and so is
the disk. Which jobs a stage and variant have, and which files they write, is asked of the graph.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bowerbird.artifacts.identity import run_record_path
from bowerbird.config.graph import Graph
from bowerbird.config.job import Job
from bowerbird.config.shard_names import shard_name
from bowerbird.stages import STAGES

Records = Mapping[Path, Mapping[str, Any]]


@dataclass(frozen=True)
class Work:
    """A number of jobs, their seconds, and the most memory of one of them."""

    jobs: int = 0
    seconds: float = 0.0
    peak_mib: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(self.jobs + other.jobs, self.seconds + other.seconds, max(self.peak_mib, other.peak_mib))


@dataclass(frozen=True)
class DiskUse:
    """Artifacts and their bytes; and the bytes of everything: artifacts, records, seals and checkpoints.

    ``growing_bytes`` is the part of ``total_bytes`` that grows with the hours of speech in the corpus.
    """

    files: int = 0
    artifact_bytes: int = 0
    total_bytes: int = 0
    growing_bytes: int = 0

    def __add__(self, other: DiskUse) -> DiskUse:
        return DiskUse(
            self.files + other.files,
            self.artifact_bytes + other.artifact_bytes,
            self.total_bytes + other.total_bytes,
            self.growing_bytes + other.growing_bytes,
        )


@dataclass(frozen=True)
class Cost:
    """What the jobs of one stage and variant took, by their run records and by what the workflow measured.

    ``growing_share`` is the share of the recorded seconds that grows with the hours of speech in the corpus.
    """

    stage: str
    variant: str
    recorded: Work = field(default_factory=Work)
    measured: Work = field(default_factory=Work)
    disk: DiskUse = field(default_factory=DiskUse)
    growing_share: float = 0.0

    @property
    def peak_mib(self) -> float:
        """The most memory of a job, whoever measured it."""
        return max(self.recorded.peak_mib, self.measured.peak_mib)

    def forecast(self, factor: float) -> tuple[float, float]:
        """(measured seconds, bytes on disk) over ``factor`` times the speech, if speakers speak as long as before."""
        more = factor - 1
        seconds = self.measured.seconds * (1 + more * self.growing_share)
        return seconds, self.disk.total_bytes + more * self.disk.growing_bytes


def read_records(graph: Graph) -> dict[Path, dict[str, Any]]:
    """The run records of a run, by the artifact that each lies beside; one that cannot be read is empty."""
    return {path: read_json(run_record_path(path)) for path in graph.writers if run_record_path(path).is_file()}


def read_costs(graph: Graph, records: Records) -> list[Cost]:
    """Costs by stage in the order of the data and by name of the variant; those of nothing on disk are left out."""
    groups: dict[tuple[str, str], list[Job]] = {}
    for job in graph.jobs():
        groups.setdefault((job.stage, job.variant), []).append(job)
    measured = _read_benchmarks(graph, list(groups))
    folders = {path.parent for path in graph.writers}
    costs = []
    for stage, variant in sorted(groups, key=lambda group: (STAGES.index(group[0]), group[1])):
        jobs = groups[stage, variant]
        growing, fixed = split_by_growth(graph, jobs)
        recorded, of_growing = _recorded_work(jobs, records), _recorded_work(growing, records)
        share = of_growing.seconds / recorded.seconds if recorded.seconds else len(growing) / len(jobs)
        disk = _disk_use(growing, fixed, folders)
        cost = Cost(stage, variant, recorded, measured.get((stage, variant), Work()), disk, share)
        if recorded.jobs or cost.measured.jobs or disk.files:
            costs.append(cost)
    return costs


def total_cost(name: str, costs: Sequence[Cost]) -> Cost:
    """The sum of costs, under the name of a stage."""
    recorded = sum((cost.recorded for cost in costs), Work())
    measured = sum((cost.measured for cost in costs), Work())
    return Cost(name, "", recorded, measured, sum((cost.disk for cost in costs), DiskUse()))


def split_by_growth(graph: Graph, jobs: Sequence[Job]) -> tuple[list[Job], list[Job]]:
    """Those jobs of one stage and variant that take longer over more speech, and the others.

    A job does if it exists once per shard, if it reads what such jobs of its own stage and variant write (a summary), or if it
    lists the corpus. All others work on a number of frames, steps or trials that the configuration gives.
    """
    shards = {shard_name(number) for number in range(graph.paths.num_shards)}
    sharded = {path for job in jobs for path in job.outputs.values() if path.name in shards}
    grows = sharded | {graph.paths.manifest}
    growing: list[Job] = []
    fixed: list[Job] = []
    for job in jobs:
        touched = {*job.outputs.values()} & grows or {*job.files} & sharded
        (growing if touched else fixed).append(job)
    return growing, fixed


def _recorded_work(jobs: Sequence[Job], records: Records) -> Work:
    """A job that writes several artifacts has a record beside each and counts once, as long as its longest record."""
    total = Work()
    for job in jobs:
        own = [records[path] for path in job.outputs.values() if path in records]
        if own:
            seconds, memory = (
                max(float(record.get(key, 0.0)) for record in own) for key in ("seconds", "peak_memory_mib")
            )
            total += Work(1, seconds, memory)
    return total


def _read_benchmarks(graph: Graph, groups: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Work]:
    """Measured work by stage and variant.

    A benchmark file is named after its variant, and after what tells the jobs of the variant apart; the longest variant whose
    name fits is meant.
    """
    found: dict[tuple[str, str], Work] = {}
    for stage in dict.fromkeys(stage for stage, _ in groups):
        variants = sorted((variant for other, variant in groups if other == stage), key=len, reverse=True)
        for path in sorted(graph.paths.benchmark(stage, "any").parent.glob("*.tsv")):
            names = [v for v in variants if not v or f"{path.stem}-".startswith(f"{v.replace('/', '-')}-")]
            if names:
                key = (stage, names[0])
                found[key] = sum(_benchmark_rows(path), found.get(key, Work()))
    return found


def _benchmark_rows(path: Path) -> Iterator[Work]:
    with open(path, encoding="utf-8", errors="replace", newline="") as handle:
        for row in csv.DictReader(handle, delimiter="\t"):
            yield Work(1, _number(row.get("s")), _number(row.get("max_rss")))


def _number(text: str | None) -> float:
    try:
        return float(text or 0)
    except ValueError:  # "NA" or "-": too short to be measured
        return 0.0


def _disk_use(growing: Sequence[Job], fixed: Sequence[Job], folders: AbstractSet[Path]) -> DiskUse:
    """Disk of the jobs of one stage and variant; ``folders`` are those of all artifacts of the study."""
    own = {path.parent for job in (*growing, *fixed) for path in job.outputs.values()}
    total = sum(path.stat().st_size for folder in sorted(own) for path in _files_below(folder, folders))
    of_growing, of_fixed = (
        [path.stat().st_size for job in jobs for path in _artifacts(job)] for jobs in (growing, fixed)
    )
    artifact_bytes = sum(of_growing) + sum(of_fixed)
    return DiskUse(len(of_growing) + len(of_fixed), artifact_bytes, total, total - sum(of_fixed) if growing else 0)


def _artifacts(job: Job) -> Iterator[Path]:
    """Files of a job that are there: its outputs, and what it writes beside them, without records and seals."""
    outputs = {path for path in job.outputs.values() if path.is_file()}
    yield from sorted(outputs)
    for path in _files_below(job.folder, frozenset()) if job.folder is not None else ():
        if path not in outputs and not path.name.startswith(".") and not path.name.endswith(".run.json"):
            yield path


def _files_below(folder: Path, others: AbstractSet[Path]) -> Iterator[Path]:
    """Files in a folder and below it, without the folders below it that are among ``others``."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.is_dir() and not path.is_symlink():
            if path not in others:
                yield from _files_below(path, others)
        elif path.is_file():
            yield path


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; {} where there is none that can be read."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
