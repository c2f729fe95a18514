"""The store of artifacts that studies share: found by identity, checked by digest, never trusted, never in the way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bowerbird.artifacts import cache as store
from bowerbird.artifacts.identity import Identity, RunRecord, run_record_path
from bowerbird.artifacts.shards import ShardWriter
from bowerbird.errors import BowerbirdError

IDENTITY = Identity("features", 1, {"layer": 3}, {"audio": "abc"})


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    folder.mkdir()
    monkeypatch.setenv(store.VARIABLE, str(folder))
    return folder


def shard(folder: Path, number: int = 0) -> list[Path]:
    """A shard of this identity, made."""
    path = folder / f"shard-{number:04d}.npy"
    with ShardWriter(path, "float16", (4,)) as writer:
        writer.add("u", np.arange(40).reshape(10, 4))
        writer.close(IDENTITY, RunRecord())
    return [path, path.with_suffix(".parquet")]


def places(folder: Path) -> list[Path]:
    return [folder / "shard-0007.npy", folder / "shard-0007.parquet"]


def test_what_one_study_made_another_finds_with_the_same_bytes(cache: Path, tmp_path: Path) -> None:
    made = shard(tmp_path / "a")
    store.keep(IDENTITY, made)
    found = places(tmp_path / "b")
    assert store.fetch(IDENTITY, found, RunRecord())
    assert [p.read_bytes() for p in found] == [p.read_bytes() for p in made]
    assert "fetched" in run_record_path(found[0]).read_text()
    made[0].unlink()  # neither depends on the other
    assert found[0].exists() and not found[0].is_symlink() and found[0].stat().st_nlink == 1


@pytest.mark.parametrize(
    "other",
    [
        Identity("features", 2, {"layer": 3}, {"audio": "abc"}),
        Identity("features", 1, {"layer": 2}, {"audio": "abc"}),
        Identity("features", 1, {"layer": 3}, {"audio": "abd"}),
    ],
    ids=["version", "parameters", "input"],
)
def test_another_identity_finds_nothing(cache: Path, tmp_path: Path, other: Identity) -> None:
    store.keep(IDENTITY, shard(tmp_path / "a"))
    assert not store.fetch(other, places(tmp_path / "b"), RunRecord())
    assert not list((tmp_path).glob("b/*"))


@pytest.mark.parametrize("damage", ["flipped", "missing", "half listed"])
def test_a_damaged_entry_is_not_taken_and_goes(cache: Path, tmp_path: Path, damage: str) -> None:
    made = shard(tmp_path / "a")
    store.keep(IDENTITY, made)
    entry = next(cache.rglob("npy"))
    if damage == "missing":
        entry.unlink()
    elif damage == "flipped":
        data = bytearray(entry.read_bytes())
        data[-1] ^= 1
        entry.write_bytes(data)
    else:
        listed = entry.with_name("sha256")
        listed.write_text(listed.read_text().splitlines()[0] + "\n")
    found = places(tmp_path / "b")
    assert not store.fetch(IDENTITY, found, RunRecord())
    assert not any(path.exists() for path in found)
    if damage != "half listed":
        store.keep(IDENTITY, made)  # made again, it is kept again
        assert store.fetch(IDENTITY, found, RunRecord())


def test_without_a_store_nothing_is_kept_and_a_wrong_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(store.VARIABLE, raising=False)
    store.keep(IDENTITY, shard(tmp_path / "a"))
    assert not store.fetch(IDENTITY, places(tmp_path / "b"), RunRecord())
    monkeypatch.setenv(store.VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(BowerbirdError, match=r"nowhere: no such folder; create it"):
        store.fetch(IDENTITY, places(tmp_path / "b"), RunRecord())
