"""The fault matrix (docs/faults.md): each fault, in each stage, ends with the right artifact or one clear line.

The stages' own commands are taken from a finished run and run again, one by one, in a copy of it.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from stage_commands import RULES, Stage


def forget(stage: Stage) -> None:
    """Remove what the command wrote, so that it writes again, and checkpoints, so that it trains."""
    shutil.rmtree(stage.output.parent / "checkpoints", ignore_errors=True)
    for path in stage.output.parent.glob("*.flac"):
        path.unlink()
    stage.output.unlink()


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
def test_sigterm_leaves_nothing_half_written_and_the_next_run_is_right(stage, rule: str) -> None:
    job = stage(rule)
    expected = job.written()
    forget(job)
    process = job.start()
    started = time.monotonic()
    while not job.litter() and process.is_running() and time.monotonic() - started < 30:
        time.sleep(0.002)  # until it writes something
    process.send_signal(signal.SIGTERM)
    code, errors = process.finish()
    assert code in (0, 75, 143, -signal.SIGTERM), errors
    assert job.litter() == []
    code, errors = job.run()
    assert code == 0, errors
    assert job.written() == expected


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
def test_a_full_disk_is_one_line_and_the_next_run_is_right(stage, rule: str) -> None:
    """No file may grow beyond one block, which is what a full disk does to a writer: an error in the middle."""
    job = stage(rule)
    expected = job.written()
    forget(job)
    code, errors = job.run(most_bytes=512)
    if code != 0:
        last = errors.strip().splitlines()[-1]
        assert last.startswith(f"bowerbird {job.name}: "), errors[-2000:]
        assert re.search(r"larger than a file may be|File too large|space", last)
        assert "Traceback" not in errors
    assert job.litter() == []
    code, errors = job.run()
    assert code == 0, errors
    assert job.written() == expected


def small_disk(folder: Path) -> bool:
    """Mount a disk of 64 kB at ``folder``, where this user may."""
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(folder)], capture_output=True)
    return done.returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["store_audio", "extract_features", "search_pairs", "train_stage", "convert_trials"])
def test_a_disk_that_is_full_says_so(stage, tmp_path: Path, rule: str) -> None:
    job, disk = stage(rule), tmp_path / "disk"
    if not small_disk(disk):
        pytest.skip("this user may not mount a small disk; the limit on file sizes above stands for it")
    try:
        code, errors = job.with_options(output=str(disk / job.output.name)).run()
        left = [p for p in disk.rglob("*") if p.name.startswith(".tmp-")]
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    assert code == 1, errors[-2000:]
    assert "no space left" in errors and "Traceback" not in errors
    assert left == []


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["truncated", "deleted", "emptied"])
@pytest.mark.parametrize("rule", ["fit_codebook", "search_pairs", "train_stage", "convert_trials"])
def test_a_damaged_shard_is_named(stage, rule: str, damage: str) -> None:
    job = stage(rule)
    shard = job.option("--features")
    if rule == "train_stage":
        shutil.rmtree(job.output.parent / "checkpoints")
    if damage == "deleted":
        shard.unlink()
    else:
        os.truncate(shard, shard.stat().st_size // 2 if damage == "truncated" else 0)
    code, errors = job.run()
    assert code == 1, errors
    assert shard.name in errors and "run" in errors.strip().splitlines()[-1]
    assert "Traceback" not in errors


@pytest.mark.slow
def test_a_clock_set_back_changes_no_byte(stage) -> None:
    """Files dated tomorrow: the command itself looks at no date; and Snakemake plans nothing but what follows."""
    job = stage("assign_units")
    expected = job.written()
    for path in (job.root / "results").rglob("*.parquet"):
        os.utime(path, (time.time() + 86400,) * 2)
    forget(job)
    assert job.run()[0] == 0
    assert job.written() == expected


@pytest.mark.slow
def test_a_read_only_results_folder_is_one_line(stage, tmp_path: Path) -> None:
    job, folder = stage("list_trials"), tmp_path / "read-only"
    folder.mkdir()
    folder.chmod(0o555)
    if os.access(folder, os.W_OK):  # root writes anywhere: a file system that is read-only stops it too
        if not small_disk(folder):
            pytest.skip("this user is root and may not mount: nothing is read-only to it")
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    try:
        code, errors = job.with_options(output=str(folder / "trials.parquet")).run()
    finally:
        subprocess.run(["umount", str(folder)], capture_output=True)
    assert code == 1
    assert re.search(r"read-only|no permission", errors) and "Traceback" not in errors


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["missing", "truncated", "no configuration"])
def test_an_unreadable_model_is_named(stage, tmp_path: Path, damage: str) -> None:
    from bowerbird.config.paths import bundled

    job, model = stage("extract_features"), tmp_path / "model"
    if damage != "missing":
        shutil.copytree(bundled("bundled:nano-encoder"), model)
    if damage == "truncated":
        os.truncate(model / "model.safetensors", 1000)
    elif damage == "no configuration":
        (model / "config.json").unlink()
    code, errors = job.with_options(encoder=str(model)).run()
    assert code == 1, errors
    assert str(model) in errors.strip().splitlines()[-1] and "Traceback" not in errors


@pytest.mark.slow
def test_a_killed_worker_of_several_ends_the_training_and_the_next_run_goes_on(stage) -> None:
    job = stage("train_stage")
    forget(job)
    launch = "-m torch.distributed.run --standalone --nproc-per-node 2 -m bowerbird.cli".split()
    command = [sys.executable, *launch, *job.words]
    options = {"cwd": job.root, "env": job.environment, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, start_new_session=True, **options)
    children = f"/proc/{process.pid}/task/{process.pid}/children"
    started = time.monotonic()
    while not list(job.output.parent.glob("checkpoints/*/step-*")) and time.monotonic() - started < 120:
        assert process.poll() is None, process.communicate()[1][-2000:]
        time.sleep(0.02)
    os.kill(int(Path(children).read_text().split()[-1]), signal.SIGKILL)
    process.communicate(timeout=120)
    assert process.returncode != 0
    assert not job.output.exists()
    done = subprocess.run(command, timeout=300, **options)
    assert done.returncode == 0, done.stderr[-2000:]
    assert job.output.is_file()


@pytest.mark.slow
def test_a_configuration_changed_in_the_middle_remakes_what_it_changed(finished, workspace) -> None:
    """Stopped after the features, another codebook asked for, gone on: the codebook is of the new size, features stay."""
    done = workspace.run("features")
    assert done.returncode == 0, done.stderr[-3000:]
    features = {p: p.stat().st_mtime_ns for p in workspace.results.glob("features/nano/*.npy")}
    overlay = workspace.overlay({"codebook": {"k32": {"num_codes": 8}}})
    done = subprocess.run(
        [str(workspace.root / "workflow" / "run"), f"tiny {overlay}", "codebook"],
        cwd=workspace.root,
        env=workspace.environment(),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    units = np.load(workspace.results / "codebook" / "k32" / "units" / "shard-0000.npy")
    assert units.max() < 8
    assert {p: p.stat().st_mtime_ns for p in features} == features
