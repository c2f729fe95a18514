"""Kill it anywhere, run it again: the same artifacts, byte for byte, as one undisturbed run."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import numpy as np
import pytest

KILLS = 10


def kill_after(workspace, seconds: float, whole_group: bool) -> bool:
    """Start the run, kill -9 it after ``seconds``; False if it had ended by then.

    ``whole_group`` kills the jobs with it (a power cut); otherwise only the main process dies and its jobs run on.
    """
    with open(workspace.root / "log.txt", "ab") as log:
        process = subprocess.Popen(
            workspace.command(),
            cwd=workspace.root,
            env=workspace.environment(),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            process.wait(timeout=seconds)
            return False
        except subprocess.TimeoutExpired:
            if whole_group:
                os.killpg(process.pid, signal.SIGKILL)
            else:
                os.kill(process.pid, signal.SIGKILL)
            process.wait()
            return True


@pytest.mark.slow
def test_ten_kills_change_no_byte(finished, workspace) -> None:
    """Ten kill -9 at random moments of the tiny run (one of them leaves the jobs alive), then the rest undisturbed."""
    rng = np.random.default_rng(20261121)
    killed = 0
    for number in range(KILLS):
        killed += kill_after(workspace, float(rng.uniform(4, 16)), whole_group=number != KILLS // 2)
    done = workspace.run()
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert killed >= KILLS - 2, f"only {killed} of {KILLS} kills hit a living run"
    expected, found = finished.artifacts(), workspace.artifacts()
    assert sorted(found) == sorted(expected)
    assert [name for name in expected if expected[name] != found[name]] == []
    assert len(expected) > 30


@pytest.mark.slow
def test_a_second_run_waits_for_the_first(finished) -> None:
    """Two runs never write in one folder: the second says what it waits for."""
    import fcntl

    with open(finished.root / "results" / ".lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        process = subprocess.Popen(
            finished.command("--dry-run"),
            cwd=finished.root,
            env=finished.environment(),
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        assert "in use by another run" in process.stderr.readline()
        time.sleep(1)
        assert process.poll() is None
        fcntl.flock(handle, fcntl.LOCK_UN)
        process.communicate(timeout=120)
        assert process.returncode == 0
