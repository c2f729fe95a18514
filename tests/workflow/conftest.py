"""A workspace that runs the real workflow in a temporary folder, and one finished tiny run that several tests look at."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
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

    def plan(self, values: dict) -> Counter[str]:
        """The jobs a dry run would start if ``values`` overrode the study: rule -> how many."""
        text = self.dry_run(values)
        return Counter(m for m in re.findall(r"^(?:local)?rule (\w+):", text, flags=re.M) if m != "all")

    def dry_run(self, values: dict, *targets: str) -> str:
        """What a dry run would say if ``values`` overrode the study."""
        preset = self.root / "workflow" / "presets" / "tiny.yaml"
        done = subprocess.run(
            [
                "snakemake",
                "--profile",
                "workflow/profiles/laptop",
                "--dry-run",
                *targets,
                "--configfile",
                str(preset),
                str(self.overlay(values)),
            ],
            cwd=self.root,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

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
    """A tiny run, done undisturbed. Tests may plan on it, not change it."""
    workspace = Workspace.create(tmp_path_factory.mktemp("finished"))
    done = workspace.run()
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    return workspace


@pytest.fixture
def workspace(tmp_path: Path):
    """An empty workspace."""
    yield Workspace.create(tmp_path / "work")
    shutil.rmtree(tmp_path / "work", ignore_errors=True)


@pytest.fixture(scope="module")
def commands(finished) -> dict[str, tuple[str, ...]]:
    """The words of one command of each rule."""
    done = finished.run("--forceall", "--dry-run")
    assert done.returncode == 0, done.stderr[-3000:]
    text = done.stdout + done.stderr
    found: dict[str, tuple[str, ...]] = {}
    for line in re.findall(r"bowerbird [a-z]+-[a-z]+ --.*", text):
        words = tuple(shlex.split(line.split(" 2> >(tee")[0]))
        rule = words[1].replace("-", "_")
        if rule == "convert_trials" and "--features" not in words:
            continue  # an anchor; a system's conversion reads what anchors do and more
        found.setdefault(rule, words)
    assert set(found) == set(RULES)
    return found


@pytest.fixture
def stage(finished, commands, tmp_path: Path):
    """A rule's command in a fresh copy of the finished run."""

    def copied(rule: str) -> Stage:
        root = tmp_path / "copy"
        shutil.copytree(finished.root, root, symlinks=True, ignore=shutil.ignore_patterns(".snakemake", "tensorboard"))
        words = (str(Path(sys.executable).with_name("bowerbird")), *commands[rule][1:])
        return Stage(root, finished.environment() | {"BOWERBIRD_LOG": "WARNING"}, words)

    return copied
