"""Parquet tables, and the ragged arrays they index.

A **shard** is a pair of files: ``shard-0003.npy`` holds the rows of many utterances end to end, ``shard-0003.parquet``
has one row an utterance with ``utt_id``, ``start`` and a length column (``frames`` or ``num_samples``). Arrays are read
memory-mapped: opening a shard of 10 GB costs nothing.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from bowerbird.artifacts import (
    IDENTITY_KEY,
    BowerbirdError,
    Identity,
    RunRecord,
    atomic_path,
    canonical_json,
    file_sha256,
)

MANIFEST = pa.schema(
    [
        ("utt_id", pa.string()),
        ("speaker", pa.string()),
        ("gender", pa.string()),  # "F", "M" or "" where unknown
        ("language", pa.string()),
        ("session", pa.string()),  # chapter, recording session or ""
        ("text", pa.string()),  # transcript or ""
        ("path", pa.string()),
        ("sample_rate", pa.int32()),  # of the file, Hz
        ("num_samples", pa.int64()),  # of the file, one channel
        ("duration_s", pa.float64()),
        ("split", pa.string()),  # train, valid, test
        ("shard", pa.int32()),
        ("sha256", pa.string()),  # of the file's bytes
    ]
)
REJECTED = pa.schema([("utt_id", pa.string()), ("path", pa.string()), ("reason", pa.string()), ("detail", pa.string())])
TRIALS = pa.schema(
    [
        ("trial_id", pa.string()),
        ("source_utt", pa.string()),
        ("source_speaker", pa.string()),
        ("source_gender", pa.string()),
        ("target_speaker", pa.string()),
        ("target_gender", pa.string()),
        ("reference_utts", pa.list_(pa.string())),  # what the system may hear of the target
        ("reference_s", pa.float64()),  # their total length, seconds
        ("heldout_utt", pa.string()),  # another utterance of the target, never a reference: the judge's comparison
        ("parallel_utt", pa.string()),  # the target speaking the source's text, or ""
        ("random_speaker_utt", pa.string()),  # an utterance of a third speaker: the lower anchor
        ("text", pa.string()),
        ("language", pa.string()),
        ("condition", pa.string()),
    ]
)


def write_table(
    path: str | os.PathLike[str],
    table: pa.Table | pd.DataFrame,
    identity: Identity,
    schema: pa.Schema | None = None,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write a Parquet table atomically with its identity (and ``extra`` deterministic facts) in its metadata."""
    if isinstance(table, pd.DataFrame):
        columns = schema.names if schema is not None else None
        table = pa.Table.from_pandas(table if columns is None else table[columns], schema=schema, preserve_index=False)
    record = {**identity.as_dict(), **(extra or {})}
    table = table.replace_schema_metadata({IDENTITY_KEY: canonical_json(record).encode()})
    with atomic_path(path, seal=True) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_table(path: str | os.PathLike[str], columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read a Parquet table as a DataFrame; strings are Python strings, list columns are lists."""
    if not Path(path).exists():
        raise BowerbirdError(f"{path}: no such table; run the stage that writes it first")
    try:
        table = pq.read_table(path, columns=list(columns) if columns else None)
    except (pa.ArrowInvalid, OSError) as error:
        raise BowerbirdError(f"{path}: not a readable Parquet file ({error}); delete it and run again") from error
    frame = table.to_pandas(types_mapper=None)
    for name in table.schema.names:
        if pa.types.is_list(table.schema.field(name).type):
            frame[name] = [list(item) if item is not None else [] for item in frame[name]]
    return frame


def read_identity(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The identity record (and extra facts) embedded in a Parquet table; {} if it has none."""
    metadata = pq.read_schema(path).metadata or {}
    return json.loads(metadata[IDENTITY_KEY]) if IDENTITY_KEY in metadata else {}


class ShardWriter:
    """Collects rows utterance by utterance and writes a shard whole.

    ``dtype`` of the array, ``length`` the name of the length column ("frames" or "num_samples"). Further columns are
    given per utterance. The array is streamed to a temporary file beside the target, so a shard larger than memory
    can be written.
    """

    def __init__(
        self, array_path: str | os.PathLike[str], dtype: str, row_shape: tuple[int, ...] = (), length: str = "frames"
    ) -> None:
        self.path = Path(array_path)
        self.dtype, self.row_shape, self.length = np.dtype(dtype), tuple(row_shape), length
        self.rows: list[dict[str, Any]] = []
        self.total = 0
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._atomic = atomic_path(self.path)
        self._temporary = self._atomic.__enter__()
        self._handle = open(self._temporary, "wb")  # noqa: SIM115 - closed by close() or abort()
        self._write_header(0)

    def _write_header(self, total: int) -> None:
        """A fixed 128-byte npy header, so it can be rewritten when the number of rows is known."""
        self._handle.seek(0)
        shape = (total, *self.row_shape)
        body = f"{{'descr': '{self.dtype.str}', 'fortran_order': False, 'shape': {shape}, }}"
        header = body.ljust(117).encode("latin1") + b"\n"
        if len(header) != 118:
            raise BowerbirdError(f"{self.path}: array header too long for shape {shape}")
        self._handle.write(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)

    def add(self, utt_id: str, array: np.ndarray, **columns: Any) -> None:
        """Append one utterance: ``array`` is ``(length, *row_shape)``."""
        if array.shape[1:] != self.row_shape:
            raise BowerbirdError(f"{self.path}: {utt_id} has rows of shape {array.shape[1:]}, not {self.row_shape}")
        self._handle.write(np.ascontiguousarray(array, dtype=self.dtype).tobytes())
        self.rows.append({"utt_id": utt_id, "start": self.total, self.length: len(array), **columns})
        self.total += len(array)

    def close(self, identity: Identity, record: RunRecord, extra: Mapping[str, Any] | None = None) -> None:
        """Finish both files; the index comes last, so an index on disk means the array is whole."""
        self._write_header(self.total)
        self._handle.flush()
        self._handle.close()
        facts = {"array_sha256": file_sha256(self._temporary), "total": self.total, **(extra or {})}
        index = self.path.with_suffix(".parquet")
        index.unlink(missing_ok=True)
        self._atomic.__exit__(None, None, None)
        record.write(self.path, identity)
        columns = ["utt_id", "start", self.length]
        frame = pd.DataFrame(self.rows) if self.rows else pd.DataFrame({name: [] for name in columns})
        types = {"utt_id": "str", "start": "int64", self.length: "int64"}
        write_table(index, frame.astype({k: v for k, v in types.items() if k in frame}), identity, extra=facts)

    def abort(self) -> None:
        """Remove the temporary file; nothing was written."""
        self._handle.close()
        self._temporary.unlink(missing_ok=True)

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if not self._handle.closed:
            self.abort()


class Shards:
    """Read access to all shards of one artifact: ``shards[utt_id]`` is a view into a memory-mapped array.

    ``paths`` are the ``.npy`` files in order. ``index`` is one DataFrame over all utterances with an extra column
    ``file`` (position in ``paths``).
    """

    def __init__(self, paths: Sequence[str | os.PathLike[str]], length: str = "frames") -> None:
        if not paths:
            raise BowerbirdError("no shards given: at least one .npy file is needed")
        self.paths, self.length = [Path(p) for p in paths], length
        self.arrays: list[np.ndarray] = []
        frames = []
        for number, path in enumerate(self.paths):
            index = read_table(path.with_suffix(".parquet"))
            index["file"] = number
            frames.append(index)
            self.arrays.append(open_array(path))
            expected = read_identity(path.with_suffix(".parquet")).get("total", len(self.arrays[-1]))
            if len(self.arrays[-1]) != expected:
                raise BowerbirdError(
                    f"{path}: has {len(self.arrays[-1])} rows, its index says {expected}; "
                    "delete both and run the stage again"
                )
        self.index = pd.concat(frames, ignore_index=True)
        self._where = {
            u: (f, s, n)
            for u, f, s, n in zip(
                self.index["utt_id"], self.index["file"], self.index["start"], self.index[length], strict=True
            )
        }

    def __getitem__(self, utt_id: str) -> np.ndarray:
        try:
            number, start, count = self._where[utt_id]
        except KeyError:
            raise BowerbirdError(f"{self.paths[0].parent}: no utterance {utt_id!r} in these shards") from None
        return self.arrays[number][start : start + count]

    def __contains__(self, utt_id: str) -> bool:
        return utt_id in self._where

    def __len__(self) -> int:
        return len(self._where)

    def __iter__(self) -> Iterator[str]:
        return iter(self._where)

    def lengths(self) -> dict[str, int]:
        """Length of each utterance, by id."""
        return {utt: place[2] for utt, place in self._where.items()}

    @property
    def row_shape(self) -> tuple[int, ...]:
        return self.arrays[0].shape[1:]


def open_array(path: str | os.PathLike[str]) -> np.ndarray:
    """Memory-map an ``.npy`` file read-only, or say plainly what is wrong with it."""
    try:
        with open(path, "rb") as handle:
            np.lib.format.read_magic(handle)
            shape, _, dtype = np.lib.format.read_array_header_1_0(handle)
        if 0 in shape:  # nothing to map
            return np.zeros(shape, dtype)
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        raise BowerbirdError(f"{path}: truncated or not an npy array ({error}); delete it and run again") from error
    except (OSError, EOFError) as error:
        raise BowerbirdError(f"{path}: cannot be read ({error}); run the stage that writes it") from error


def shard_paths(folder: str | os.PathLike[str]) -> list[Path]:
    """The shards in ``folder``, in order of their number."""
    found = sorted(p for p in Path(folder).glob("shard-*.npy") if re.fullmatch(r"shard-\d+\.npy", p.name))
    if not found:
        raise BowerbirdError(f"{folder}: no shard-NNNN.npy here; run the stage that writes them")
    return found
