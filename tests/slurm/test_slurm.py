"""A study on a real Slurm, with everything that goes wrong on one: ``make test-slurm``.

One run meets all faults, one after the other; then each test checks the outcome of one of them.
"""

from __future__ import annotations

import itertools
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from slurm_harness import Slurm, SlurmJob, Study, going_on_after, kill, wait_until

MINUTES = 60
FAULTS: dict[str, dict[str, object]] = {
    "list_trials": {"mem_mb": "100 if attempt == 1 else 4000"},
    "train_stage": {"runtime": 60, "slurm_extra": "'--signal=TERM@55'"},
}


@dataclass
class Outcome:
    """What happened."""

    study: Study
    reference: Study
    survivors: list[str] = field(default_factory=list)  # numbers of jobs that outlived the first main process
    after_restart: str = ""  # the log of the second main process until its first own job
    cancelled: str = ""  # number of the job that was cancelled
    lost: str = ""  # number of the job whose node went down under it
    returncode: int = -1
    jobs: list[SlurmJob] = field(default_factory=list)

    def of(self, rule: str) -> list[SlurmJob]:
        return [job for job in self.jobs if job.rule.startswith(f"rule_{rule}")]


@pytest.fixture(scope="module")
def outcome(slurm: Slurm, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    folder = tmp_path_factory.mktemp("study")
    study, reference = Study(folder / "slurm", slurm), Study(folder / "laptop", slurm)
    outcome = Outcome(study, reference)
    undisturbed = reference.start("workflow/profiles/laptop", "training", "--cores", "1")

    profile = study.write_profile(FAULTS)
    first = study.start(profile)
    running = lambda rule: slurm.jobs("RUNNING", rule)  # noqa: E731
    wait_until("audio is stored", 3 * MINUTES, lambda: running("store_audio"), study)
    kill(first)
    outcome.survivors = [job.number for job in running("store_audio")]
    assert outcome.survivors, "the jobs ended before the main process was killed"
    before = len(study.text())

    main = study.start(profile)
    try:
        wait_until("features are extracted", 10 * MINUTES, lambda: running("extract_features"), study)
        outcome.after_restart = study.text()[before:]
        outcome.cancelled = running("extract_features")[0].number
        slurm.call("scontrol", "update", "nodename=gpu1", "state=drain", "reason=test")
        slurm.call("scancel", outcome.cancelled)
        slurm.restart_controller(pause=6)
        live = "training/vocoder/vocoder/checkpoints/*/metrics.jsonl"
        learning = lambda: any(path.stat().st_size for path in study.results.glob(live))  # noqa: E731
        wait_until("the training learns", 15 * MINUTES, learning, study)
        slurm.meet_time_limit(running("train_stage")[0])
        wait_until("trials are scored", 15 * MINUTES, lambda: running("score_trials"), study)
        lost = running("score_trials")[0]
        outcome.lost = lost.number
        slurm.lose_node(lost.node)
        wait_until("its node is down", 5 * MINUTES, lambda: slurm.node_state(lost.node).startswith("DOWN"), study)
        slurm.return_node(lost.node)
        slurm.start_requeued_jobs()
        wait_until("the study has ended", 30 * MINUTES, lambda: main.poll() is not None, study)
        outcome.returncode = main.wait()
        outcome.jobs = slurm.jobs()
        assert undisturbed.wait(timeout=20 * MINUTES) == 0, reference.tail()
    finally:
        for process in (main, undisturbed):
            if process.poll() is None:
                kill(process)
    return outcome


def test_the_study_ends_well(outcome: Outcome) -> None:
    assert outcome.returncode == 0, outcome.study.tail()
    assert (outcome.study.results / "report" / "index.html").is_file()
    done = subprocess.run(
        ["bowerbird", "audit", "--root", str(outcome.study.results)],
        env=outcome.study.slurm.environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_its_artifacts_are_those_of_an_undisturbed_run_on_one_machine(outcome: Outcome) -> None:
    stages = ("corpus", "features", "training")
    expected, found = outcome.reference.artifacts(*stages), outcome.study.artifacts(*stages)
    assert sorted(expected.keys() - found.keys()) == []
    assert [name for name in expected if expected[name] != found[name]] == []
    assert "training/vocoder/vocoder/model.safetensors" in expected


def test_jobs_that_outlived_a_killed_main_process_are_ended_before_the_next_starts(outcome: Outcome) -> None:
    assert outcome.survivors
    assert "jobs of an earlier run still work" in outcome.after_restart
    assert all(f"\n{number} RUNNING" in outcome.after_restart for number in outcome.survivors)
    states = {job.number: job.state for job in outcome.jobs}
    assert all(states[number] in ("CANCELLED", "FAILED", "COMPLETED") for number in outcome.survivors)


def test_no_two_jobs_ever_wrote_the_same_files(outcome: Outcome) -> None:
    for rule in {job.rule for job in outcome.jobs}:
        ran = sorted(
            (job for job in outcome.of(rule.removeprefix("rule_")) if job.start != "N/A"), key=lambda j: j.start
        )
        same = [job for job in ran if job.rule == rule]
        assert all(earlier.end <= later.start for earlier, later in itertools.pairwise(same)), same


def test_a_cancelled_job_is_tried_again_and_not_on_the_drained_node(outcome: Outcome) -> None:
    job = next(job for job in outcome.jobs if job.number == outcome.cancelled)
    assert job.state in ("CANCELLED", "FAILED")
    tries = [other for other in outcome.jobs if other.rule == job.rule]
    assert tries[-1].state == "COMPLETED"
    later = [other for other in outcome.jobs if other.start > job.end and other.node.startswith("gpu")]  # whole seconds
    assert later and {other.node for other in later} == {"gpu2"}


def test_a_job_whose_node_goes_down_is_run_again(outcome: Outcome) -> None:
    """Slurm queues it again under its own number; Snakemake does not submit a second one beside it."""
    job = next(job for job in outcome.jobs if job.number == outcome.lost)
    assert [other.number for other in outcome.jobs if other.rule == job.rule] == [outcome.lost]
    assert job.state == "COMPLETED" and job.restarts == "1"


def test_a_job_out_of_memory_is_tried_again_with_more(outcome: Outcome) -> None:
    states = [job.state for job in outcome.of("list_trials")]
    assert len(states) >= 2
    assert states[-1] == "COMPLETED" and "COMPLETED" not in states[:-1]


def test_a_training_that_meets_its_time_limit_goes_on_from_where_it_stopped(outcome: Outcome) -> None:
    states = [job.state for job in outcome.of("train_stage")]
    assert states in (["FAILED", "COMPLETED"], ["TIMEOUT", "COMPLETED"])
    log = (outcome.study.results / "logs" / "training" / "vocoder-vocoder.log").read_text(encoding="utf-8")
    assert [0 < step < 500 for step in going_on_after(log)] == [True]
    failed = sorted(outcome.study.root.glob(".snakemake/slurm_logs/rule_train_stage/**/*.log"))
    assert any("stopped by a signal after step" in Path(path).read_text(encoding="utf-8") for path in failed)
