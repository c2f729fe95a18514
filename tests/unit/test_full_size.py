"""One training step at published size: shapes fit, every parameter gets a gradient, memory is bounded."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "full_size.py"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "million", "gib"), [("palindromic-converter", 77.68, 5), ("qrvc-resynthesis", 105.49, 6)]
)
def test_a_full_size_step_reaches_every_parameter(case: str, million: float, gib: float) -> None:
    """Forward, backward and optimizer of all updates on noise, batch of one; seen: 3.5 GiB for the converter."""
    command = [sys.executable, str(BENCHMARK), "--measure", case, "--batch", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["million"] == pytest.approx(million, abs=0.02)
    assert found["without_gradient"] == []
    assert found["gib"] < gib
