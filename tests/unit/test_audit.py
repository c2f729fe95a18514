"""One flipped byte, one missing file, one leftover: the audit sees each, and calls a whole run whole."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bowerbird.artifacts.identity import Identity, RunRecord
from bowerbird.artifacts.shards import ShardWriter
from bowerbird.artifacts.tables import MANIFEST, write_table
from bowerbird.inspection.audit import audit_run
from bowerbird.inspection.integrity import check_run

IDENTITY = Identity("corpus", 1, {})


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with a manifest and a shard of audio and one of features."""
    row = dict.fromkeys(MANIFEST.names, "") | {
        "utt_id": "u",
        "sample_rate": 1,
        "num_samples": 1,
        "duration_s": 1.0,
        "shard": 0,
    }
    write_table(tmp_path / "corpus/manifest.parquet", pd.DataFrame([row]), IDENTITY, MANIFEST)
    for folder, dtype, shape in (("corpus/audio", "int16", ()), ("features/nano", "float16", (4,))):
        with ShardWriter(tmp_path / folder / "shard-0000.npy", dtype, shape) as writer:
            writer.add("u", np.ones((50, *shape)))
            writer.close(IDENTITY, RunRecord())
    return tmp_path


def states(root: Path) -> dict[str, str]:
    return {f.path: f.state for f in check_run(root) if f.state != "ok"}


def test_a_whole_run_is_in_order(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit_run(run) == 0
    assert "5 ok, 0 corrupt" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["corpus/audio/shard-0000.npy", "features/nano/shard-0000.npy"])
def test_one_flipped_byte_is_found(run: Path, name: str) -> None:
    data = bytearray((run / name).read_bytes())
    data[-3] ^= 1
    (run / name).write_bytes(data)
    assert states(run) == {name: "corrupt"}
    assert audit_run(run) == 1


def test_truncation_leftovers_and_strangers_are_found(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    features = run / "features/nano/shard-0000.npy"
    features.write_bytes(features.read_bytes()[:-9])
    (run / "corpus/audio/.tmp-1-ab-shard-0001.npy").write_bytes(b"half")
    np.save(run / "features/nano/shard-0001.npy", np.zeros((2, 4)))
    with ShardWriter(run / "features/other/shard-0000.npy", "float16", (4,)) as writer:
        writer.add("stranger", np.ones((5, 4)))
        writer.close(IDENTITY, RunRecord())
    expected = {
        "features/nano/shard-0000.npy": "corrupt",
        "corpus/audio/.tmp-1-ab-shard-0001.npy": "orphan",
        "features/nano/shard-0001.npy": "orphan",
        "features/other/shard-0000.npy": "stale",
    }
    assert states(run) == expected
    assert audit_run(run, as_json=True) == 1
    assert json.loads(capsys.readouterr().out)["counts"]["corrupt"] == 1


def test_values_that_are_not_finite_are_found(run: Path) -> None:
    with ShardWriter(run / "features/nano/shard-0000.npy", "float16", (4,)) as writer:
        writer.add("u", np.full((5, 4), np.nan))
        writer.close(IDENTITY, RunRecord())
    assert states(run) == {"features/nano/shard-0000.npy": "corrupt"}


def test_a_damaged_table_is_found(run: Path) -> None:
    path = run / "corpus/manifest.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    assert states(run)["corpus/manifest.parquet"] == "corrupt"
