"""Benchmarks and studies are commands that nothing imports: each one can be loaded, and a small one of training runs."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STUDIES = ROOT / "workflow" / "studies"
SCRIPTS = sorted([*(ROOT / "benchmarks").glob("*.py"), *STUDIES.glob("*.py")])


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_can_be_loaded_and_says_what_it_prints(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(script.parent))
    names = runpy.run_path(str(script))
    if "main" in names:
        header = names["__doc__"]
        assert f"python {script.relative_to(ROOT)}" in header and "Prints" in header
        assert header.splitlines()[0].endswith("?"), "the question comes first"


@pytest.mark.slow
def test_both_recipes_are_trained_and_counted() -> None:
    sizes = ["--channels", "16", "--latent", "8", "--conv-bank-size", "2", "--conv-bank-channels", "4"]
    steps = ["--preparation-steps", "2", "--classifier-steps", "2", "--joint-steps", "12", "--most-steps", "12"]
    command = [sys.executable, str(STUDIES / "stepback_cost.py"), *sizes, *steps]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = re.findall(r"^ +0 (\w+) +(\w+) +(\d+)", done.stdout, flags=re.M)
    joint = [
        (recipe, part, steps)
        for recipe in ("2018", "stepback")
        for part, steps in (("classifier", "2"), ("joint", "12"))
    ]
    assert rows == [("both", "preparation", "2"), *joint]
    ratios = dict(re.findall(r"ratio of (\w+) \(stepback / 2018\), whole: ([\d.]+)", done.stdout))
    assert float(ratios["steps"]) == 1.0 and float(ratios["flops"]) > 1.0
