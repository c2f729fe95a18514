"""A private Slurm (tests/slurm/cluster), and a study run on it through workflow/run with the profile that is shipped."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
CLUSTER = REPOSITORY / "tests" / "slurm" / "cluster"
STUDY = REPOSITORY / "tests" / "slurm" / "study.yaml"
# What the profile sets for clusters, shortened for one machine: how often it asks, how long it waits for files.
QUICK = {"slurm-init-seconds-before-status-checks": 2, "seconds-between-status-checks": 2, "latency-wait": 10}


@dataclass(frozen=True)
class SlurmJob:
    """One line of squeue."""

    number: str
    state: str
    rule: str  # with its wildcards, as the executor's comment says
    node: str
    start: str
    end: str
    restarts: str = "0"


@dataclass(frozen=True)
class Slurm:
    """The private cluster in ``folder``."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        own = [str(self.folder / "bin"), str(Path(sys.executable).parent)]
        path = os.pathsep.join([*own, os.environ["PATH"]])
        return {**os.environ, "PATH": path, "SLURM_CONF": str(self.folder / "slurm.conf")}

    def call(self, *words: str) -> str:
        done = subprocess.run(words, env=self.environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout

    def jobs(self, state: str = "", rule: str = "") -> list[SlurmJob]:
        """Every job there was, oldest first; ``state`` and the start of ``rule`` choose."""
        text = self.call("squeue", "--noheader", "--states=all", "--sort=i", "--format=%i|%T|%k|%N|%S|%e")
        restarts = self.restarts()
        found = [SlurmJob(*line.split("|")) for line in text.splitlines()]
        found = [replace(job, restarts=restarts.get(job.number, "0")) for job in found]
        return [job for job in found if state in ("", job.state) and job.rule.startswith(f"rule_{rule}")]

    def restarts(self) -> dict[str, str]:
        """How often Slurm itself started each job again."""
        return dict(re.findall(r"JobId=(\d+) .*?Restarts=(\d+)", self.call("scontrol", "show", "jobs", "--oneliner")))

    def node_state(self, node: str) -> str:
        """As the controller sees it: IDLE, MIXED, DOWN* ..."""
        return re.findall(r" State=(\S+)", self.call("scontrol", "show", "node", node, "--oneliner"))[0]

    def meet_time_limit(self, job: SlurmJob) -> None:
        """Shorten a running job's time limit to the minute that it is in."""
        elapsed = (datetime.now() - datetime.fromisoformat(job.start)).total_seconds()
        self.call("scontrol", "update", f"jobid={job.number}", f"timelimit={1 + int(elapsed // 60)}")

    def start_requeued_jobs(self) -> None:
        """Slurm lets two minutes pass before it starts a job again that lost its node; this shortens them to 15 seconds.

        Not to none: slurmctld (Debian's 22.05) crashes where the job starts in the second in which its node returns.
        A job that has started by then cannot be updated, and need not be.
        """
        for job in self.jobs("PENDING"):
            command = ["scontrol", "update", f"jobid={job.number}", "starttime=now+15"]
            subprocess.run(command, env=self.environment, capture_output=True, timeout=60)

    def controller_runs(self) -> bool:
        """Whether the process of slurmctld is there (it may be too busy to answer)."""
        number = (self.folder / "slurmctld.pid").read_text(encoding="utf-8").strip()
        status = Path("/proc", number, "status")
        return status.exists() and "State:\tZ" not in status.read_text(encoding="utf-8")

    def restart_controller(self, pause: int) -> None:
        environment = {**self.environment, "BOWERBIRD_CONTROLLER_PAUSE": str(pause)}
        subprocess.run([str(CLUSTER), "restart-controller", str(self.folder)], env=environment, check=True, timeout=120)

    def lose_node(self, node: str) -> None:
        """Kill -9 everything on a node, as a power cut does; the controller notices after SlurmdTimeout."""
        subprocess.run([str(CLUSTER), "lose-node", str(self.folder), node], check=True, timeout=60)

    def return_node(self, node: str) -> None:
        """Start a lost node again."""
        subprocess.run([str(CLUSTER), "return-node", str(self.folder), node], check=True, timeout=60)


class Study:
    """A folder that looks like a checkout, with results of its own."""

    def __init__(self, root: Path, slurm: Slurm) -> None:
        self.root, self.slurm, self.log = root, slurm, root / "log.txt"
        root.mkdir(parents=True)
        for name in ("Snakefile", "rules", "workflow", "config.yaml"):
            (root / name).symlink_to(REPOSITORY / name)

    @property
    def results(self) -> Path:
        return self.root / "results" / "slurm"

    def write_profile(self, resources: dict[str, dict[str, object]]) -> str:
        """The shipped Slurm profile, quicker, with other ``resources`` for some rules; returns its folder."""
        profile = yaml.safe_load((REPOSITORY / "workflow/profiles/slurm/config.yaml").read_text(encoding="utf-8"))
        for rule, values in resources.items():
            profile["set-resources"].setdefault(rule, {}).update(values)
        folder = self.root / "profile"
        folder.mkdir()
        (folder / "config.yaml").write_text(yaml.safe_dump({**profile, **QUICK}), encoding="utf-8")
        return str(folder)

    def start(self, profile: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start workflow/run with a profile's folder."""
        environment = {
            **self.slurm.environment,
            "BOWERBIRD_PROFILE": profile,
            "XDG_CACHE_HOME": str(self.root / ".cache"),
        }
        command = [str(self.root / "workflow" / "run"), f"tiny {STUDY}", *arguments]
        with open(self.log, "ab") as log:
            return subprocess.Popen(
                command, cwd=self.root, env=environment, stdout=log, stderr=log, start_new_session=True
            )

    def text(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def tail(self) -> str:
        """The end of the log, and of the logs of jobs that failed."""
        logs = sorted(self.root.glob(".snakemake/slurm_logs/*/**/*.log"))
        return self.text()[-4000:] + "".join(f"\n== {p.name}\n{p.read_text()[-1500:]}" for p in logs[-3:])

    def artifacts(self, *stages: str) -> dict[str, bytes]:
        """Files below the stages' folders that do not tell when or how long."""
        paths = [p for stage in stages for p in sorted((self.results / stage).rglob("*")) if p.is_file()]
        return {
            str(p.relative_to(self.results)): p.read_bytes()
            for p in paths
            if not p.name.endswith(".run.json") and not {"checkpoints", "tensorboard"} & set(p.parts)
        }


def kill(process: subprocess.Popen[bytes]) -> None:
    """kill -9 of the main process and its children, as a login node that goes down does it."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_until(what: str, seconds: float, condition: Callable[[], object], study: Study) -> None:
    """Poll until ``condition`` holds; fails with the end of the study's log, at once where the controller has died."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds:g} s: {what}\n{study.tail()}"
        assert study.slurm.controller_runs(), f"slurmctld has died before: {what}\n{study.tail()}"
        time.sleep(0.3)


def going_on_after(text: str) -> list[int]:
    """Steps that trainings went on after, as their log says."""
    return [int(step) for step in re.findall(r"going on after step (\d+)", text)]
