"""Artifacts are written whole or not at all, and say what they are."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from bowerbird.artifacts.files import atomic_path, file_sha256
from bowerbird.artifacts.identity import Identity, RunRecord, inputs_digest, stable_hash
from bowerbird.artifacts.shards import Shards, ShardWriter
from bowerbird.artifacts.tables import read_identity, read_table, write_table
from bowerbird.errors import BowerbirdError

IDENTITY = Identity("features", 1, {"layer": 6})


def write_shard(path: Path, rows: dict[str, np.ndarray]) -> None:
    with ShardWriter(path, "float16", (3,)) as writer:
        for utt_id, array in rows.items():
            writer.add(utt_id, array)
        writer.close(IDENTITY, RunRecord())


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_kill_in_the_middle_of_a_shard_leaves_no_shard(tmp_path: Path) -> None:
    code = f"""
        import numpy as np, os, signal
        from bowerbird.artifacts.shards import ShardWriter
        writer = ShardWriter({str(tmp_path / "shard-0000.npy")!r}, "float16", (3,))
        writer.add("a", np.ones((1000, 3)))
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], env=os.environ)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "shard-0000.npy").exists() and not (tmp_path / "shard-0000.parquet").exists()


def test_shards_give_back_what_was_written(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = {f"u{n}": rng.standard_normal((n + 1, 3)).astype(np.float16) for n in range(5)}
    write_shard(tmp_path / "shard-0000.npy", rows)
    shards = Shards([tmp_path / "shard-0000.npy"])
    assert len(shards) == 5 and shards.row_shape == (3,)
    for utt_id, array in rows.items():
        np.testing.assert_array_equal(shards[utt_id], array)
    assert np.load(tmp_path / "shard-0000.npy").shape == (15, 3)


def test_an_empty_shard_can_be_read(tmp_path: Path) -> None:
    write_shard(tmp_path / "shard-0000.npy", {})
    assert len(Shards([tmp_path / "shard-0000.npy"])) == 0


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_shard(tmp_path / name / "shard-0000.npy", {"u": np.ones((4, 3))})
    for suffix in (".npy", ".parquet"):
        assert file_sha256(tmp_path / f"a/shard-0000{suffix}") == file_sha256(tmp_path / f"b/shard-0000{suffix}")


def test_a_truncated_shard_is_named(tmp_path: Path) -> None:
    path = tmp_path / "shard-0000.npy"
    write_shard(path, {"u": np.ones((4, 3))})
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(BowerbirdError, match=r"shard-0000\.npy: truncated"):
        Shards([path])


def test_identity_is_embedded_and_depends_on_parameters_only(tmp_path: Path) -> None:
    import pandas as pd

    write_table(tmp_path / "t.parquet", pd.DataFrame({"a": [1]}), IDENTITY, extra={"rows": 1})
    record = read_identity(tmp_path / "t.parquet")
    assert record["stage"] == "features" and record["params"] == {"layer": 6} and record["rows"] == 1
    assert IDENTITY.hash == Identity("features", 1, {"layer": 6}).hash != Identity("features", 2, {"layer": 6}).hash
    assert read_table(tmp_path / "t.parquet")["a"].tolist() == [1]


def test_inputs_digest_stands_for_the_array_without_reading_it(tmp_path: Path) -> None:
    path = tmp_path / "shard-0000.npy"
    write_shard(path, {"u": np.ones((4, 3))})
    one = inputs_digest([path])
    write_shard(path, {"u": np.zeros((4, 3))})
    assert inputs_digest([path]) != one


def test_stable_hash_ignores_the_order_of_keys() -> None:
    assert (
        stable_hash({"a": 1, "b": [1, 2]}) == stable_hash({"b": [1, 2], "a": 1}) != stable_hash({"a": 1, "b": [2, 1]})
    )
