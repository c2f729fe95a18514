"""Names of the files of a shard: ``shard-0003.npy``, with its index and its companions beside it."""

from __future__ import annotations

import re
from pathlib import Path


def shard_name(number: int | str) -> str:
    """File name of a shard's array; ``number`` may be a wildcard of the workflow (``"{shard}"``)."""
    return f"shard-{number}.npy" if str(number).startswith("{") else f"shard-{int(number):04d}.npy"


def shard_number(array: Path) -> int | None:
    """The number in the name of a shard's array; None for every other name, those of its companions included."""
    found = re.fullmatch(r"shard-(\d+)\.npy", array.name)
    return int(found[1]) if found else None


def index_path(array: Path) -> Path:
    """The table that indexes an array or its companion: ``shard-0003.parquet`` beside it."""
    return array.with_name(array.name.split(".")[0] + ".parquet")


def array_path(file: Path) -> Path:
    """The array that an index or a companion belongs to: ``shard-0003.npy`` beside it."""
    return file.with_name(file.name.split(".")[0] + ".npy")


def companion_name(array: Path) -> str:
    """What a companion holds: ``distances`` for ``shard-0003.distances.npy``; empty for the array itself."""
    return array.name.split(".")[1] if array.name.count(".") == 2 else ""


def distances_path(pairs: Path) -> Path:
    """The companion with the distances of a shard of pairs: ``shard-0003.distances.npy`` beside it."""
    return pairs.with_name(f"{pairs.stem}.distances.npy")
