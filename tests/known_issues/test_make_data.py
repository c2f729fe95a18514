"""`make run DATA=/path` passed `--config corpus.path=...`, which Snakemake refuses: only top-level keys are taken there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_data_reaches_the_corpus_and_only_the_path_changes(tmp_path: Path) -> None:
    recipe = subprocess.run(
        ["make", "-n", "-o", ".venv/.ready", "plan", "PRESET=librispeech", "DATA=/some where/LibriSpeech"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    command = next(line for line in recipe.splitlines() if "workflow/run" in line).strip().lstrip("@")
    for name in ("Snakefile", "rules", "workflow", "config.yaml"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    text = done.stdout + done.stderr
    assert done.returncode == 0, text[-2000:]
    assert "--kind librispeech --path '/some where/LibriSpeech'" in text
