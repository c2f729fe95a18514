"""The private Slurm that the tests of this folder share."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
from slurm_harness import CLUSTER, Slurm


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    folder = tmp_path_factory.mktemp("slurm")
    done = subprocess.run([str(CLUSTER), "up", str(folder)], capture_output=True, text=True, timeout=180)
    if done.returncode == 3:
        pytest.skip(done.stderr.strip())
    try:
        assert done.returncode == 0, done.stderr
        yield Slurm(folder)
    finally:
        subprocess.run([str(CLUSTER), "down", str(folder)], timeout=180, check=False)
