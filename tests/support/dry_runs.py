"""What Snakemake would run, asked in this process: loading Snakemake takes longer than to plan the tiny study."""

from __future__ import annotations

import contextlib
import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from snakemake.api import SnakemakeApi
from snakemake.settings.enums import Quietness
from snakemake.settings.types import (
    ConfigSettings,
    DAGSettings,
    ExecutionSettings,
    OutputSettings,
    ResourceSettings,
    StorageSettings,
)


@dataclass(frozen=True)
class PlannedJob:
    """A job that would run."""

    rule: str
    wildcards: Mapping[str, str]
    inputs: tuple[str, ...]
    command: str


@dataclass(frozen=True)
class Plan:
    """The jobs that would run, each after those that it waits for."""

    jobs: tuple[PlannedJob, ...]

    @property
    def rules(self) -> Counter[str]:
        """How many jobs of each rule."""
        return Counter(job.rule for job in self.jobs)

    def of(self, rule: str, **wildcards: str) -> list[PlannedJob]:
        """The jobs of one rule, those with these wildcards."""
        return [job for job in self.jobs if job.rule == rule and wildcards.items() <= job.wildcards.items()]


def plan(root: Path, overlays: Sequence[Path], targets: Sequence[str] = (), every: bool = False) -> Plan:
    """A dry run in the folder ``root`` of the study with these overlays; ``every``: also what is there and up to date."""
    output = OutputSettings(dryrun=True, quiet={Quietness.ALL})
    with contextlib.chdir(root), _undisturbed(), SnakemakeApi(output) as api:
        workflow = api.workflow(
            resource_settings=ResourceSettings(cores=2),
            config_settings=ConfigSettings(configfiles=[Path(path) for path in overlays]),
            storage_settings=StorageSettings(),
            snakefile=root / "Snakefile",
        )
        dag = workflow.dag(DAGSettings(targets=set(targets), forceall=every))
        dag.execute_workflow(executor="dryrun", execution_settings=ExecutionSettings(lock=False))
        jobs = [job for job in workflow._workflow.dag.jobs if workflow._workflow.dag.needrun(job)]
        return Plan(tuple(_planned(job) for job in jobs if job.is_shell))


def _planned(job) -> PlannedJob:
    return PlannedJob(job.rule.name, dict(job.wildcards_dict), tuple(map(str, job.input)), job.shellcmd or "")


@contextlib.contextmanager
def _undisturbed():
    """Snakemake sets handlers and variables of its own; afterwards they are as they were."""
    root = logging.getLogger()
    before, level, environment = root.handlers[:], root.level, dict(os.environ)
    try:
        yield
    finally:
        root.handlers[:], root.level = before, level
        os.environ.clear()
        os.environ.update(environment)
