"""kill -9 in every stage, in the middle of its work: nothing but a hidden leftover, and the next run gives the same bytes."""

from __future__ import annotations

import shutil
import signal
import time
from pathlib import Path

import pytest
from stage_commands import RULES, Stage
from test_faults import forget

from bowerbird.inspection.integrity import check_run


def begun(job: Stage) -> bool:
    """Something is half-written: a temporary file, a part that the stage keeps, or a checkpoint."""
    folder = job.output.parent
    return bool(job.litter() or any(folder.glob("*.flac")) or any(folder.glob("checkpoints/*/step-*")))


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
def test_kill_9_leaves_no_half_artifact_and_the_next_run_is_right(stage, rule: str) -> None:
    job = stage(rule)
    expected = job.written()
    forget(job)
    process = job.start()
    started = time.monotonic()
    while not begun(job) and process.is_running() and time.monotonic() - started < 60:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    code, _ = process.finish()
    assert code in (0, -signal.SIGKILL)
    if code:
        assert not job.output.exists() or job.output.read_bytes() == expected[str(job.output)]
    left = {str(path.relative_to(run_of(job))) for path in job.litter() if path.is_file()}
    orphans = {finding.path for finding in check_run(run_of(job)) if finding.state == "orphan"}
    assert {path for path in left if not {"checkpoints", "tensorboard"} & set(Path(path).parts)} <= orphans
    for path in job.litter():  # what workflow/run removes before it starts
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    code, errors = job.run()
    assert code == 0, errors
    assert job.written() == expected


def run_of(job: Stage) -> Path:
    return job.root / "results" / "tiny"
