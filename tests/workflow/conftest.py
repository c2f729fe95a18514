"""A workspace that runs the real workflow in a temporary folder, and one finished tiny run that several tests look at."""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from dry_runs import Plan, plan
from stage_commands import RULES, Stage

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Workspace:
    """A folder that looks like a checkout (links to the workflow's files) with results of its own."""

    root: Path

    @classmethod
    def create(cls, root: Path) -> Workspace:
        root.mkdir(parents=True, exist_ok=True)
        for name in ("Snakefile", "rules", "workflow", "config.yaml"):
            (root / name).symlink_to(REPOSITORY / name)
        return cls(root)

    @property
    def results(self) -> Path:
        return self.root / "results" / "tiny"

    def command(self, *arguments: str) -> list[str]:
        return [str(self.root / "workflow" / "run"), "tiny", *arguments]

    def environment(self) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return {**os.environ, "PATH": path, "XDG_CACHE_HOME": str(self.root / ".cache")}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            cwd=self.root,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=1200,
        )

    def overlay(self, values: dict) -> Path:
        path = self.root / "overlay.yaml"
        path.write_text(yaml.safe_dump(values))
        return path

    def plan(self, values: dict, *targets: str, every: bool = False) -> Plan:
        """The jobs that a dry run would start if ``values`` overrode the study."""
        overlays = [self.root / "workflow" / "presets" / "tiny.yaml", self.overlay(values)]
        return plan(self.root, overlays, targets, every)

    def artifacts(self) -> dict[str, bytes]:
        """Every artifact by its path: all files but those that tell when and how long (run records, logs, the page)."""
        found = {}
        for path in sorted(self.results.rglob("*")):
            relative = path.relative_to(self.results)
            kept = relative.parts[0] in (
                "corpus",
                "features",
                "codebook",
                "pairs",
                "training",
                "conversion",
                "evaluation",
            )
            facts = path.name.endswith(".run.json") or {"checkpoints", "tensorboard"} & set(relative.parts)
            if path.is_file() and kept and not facts:
                found[str(relative)] = path.read_bytes()
        return found


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A tiny run, done undisturbed, once for all processes that test. Tests may plan on it, not change it."""
    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared
    with open(shared / "finished.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (shared / "finished" / "done").exists():
            return Workspace(shared / "finished")
        assert not (shared / "finished").exists(), "the tiny run failed in the other process that tests; see its error"
        workspace = Workspace.create(shared / "finished")
        done = workspace.run()
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
        (workspace.root / "done").touch()
        return workspace


@pytest.fixture
def workspace(tmp_path: Path):
    """An empty workspace."""
    yield Workspace.create(tmp_path / "work")
    shutil.rmtree(tmp_path / "work", ignore_errors=True)


@pytest.fixture(scope="session")
def commands(finished) -> dict[str, tuple[str, ...]]:
    """The words of one command of each rule."""
    found: dict[str, tuple[str, ...]] = {}
    for job in finished.plan({}, every=True).jobs:
        words = tuple(shlex.split(job.command.split(" 2> >(tee")[0]))
        if job.rule == "convert_trials" and "--features" not in words:
            continue  # an anchor; a system's conversion reads what anchors do and more
        found.setdefault(job.rule, words[1:])
    assert set(found) == set(RULES)
    return found


@pytest.fixture
def stage(finished, commands, tmp_path: Path):
    """A rule's command in a fresh copy of the finished run."""

    def copied(rule: str) -> Stage:
        root = tmp_path / "copy"
        shutil.copytree(finished.root, root, symlinks=True, ignore=shutil.ignore_patterns(".snakemake", "tensorboard"))
        return Stage(root, finished.environment() | {"BOWERBIRD_LOG": "WARNING"}, commands[rule])

    return copied
