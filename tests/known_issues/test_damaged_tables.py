"""One flipped byte can make a Parquet file ask for what Arrow has not implemented: that was a traceback of the audit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from bowerbird.artifacts.identity import Identity, RunRecord
from bowerbird.artifacts.shards import ShardWriter
from bowerbird.artifacts.tables import read_identity, read_table, write_table
from bowerbird.errors import BowerbirdError
from bowerbird.inspection import integrity

IDENTITY = Identity("fixture", 1, {})


def refuse(*_: object, **__: object) -> None:
    raise pa.ArrowNotImplementedError("Integers with more than 64 bits not implemented")


def test_it_is_a_line_that_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "table.parquet"
    write_table(path, pd.DataFrame({"utt_id": ["a"]}), IDENTITY)
    for name, read in (("read_schema", read_identity), ("read_table", read_table)):
        monkeypatch.setattr(f"bowerbird.artifacts.tables.pq.{name}", refuse)
        with pytest.raises(BowerbirdError, match=r"table\.parquet: not a readable Parquet file \(Integers"):
            read(path)


def test_the_audit_finds_it_in_tables_and_in_the_index_of_arrays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, array = tmp_path / "table.parquet", tmp_path / "shard-0000.npy"
    write_table(table, pd.DataFrame({"utt_id": ["a"]}), IDENTITY)
    with ShardWriter(array, "float16", (2,)) as writer:
        writer.add("a", np.zeros((3, 2)))
        writer.close(IDENTITY, RunRecord())
    assert integrity.check_array(array, "array", {}).state == "ok"
    monkeypatch.setattr("bowerbird.artifacts.tables.pq.read_schema", refuse)
    for finding in (integrity.check_array(array, "array", {}), integrity.check_table(table, "table")):
        assert finding.state == "corrupt" and "Integers with more than 64 bits" in finding.detail
