"""Shards: the arrays of many utterances end to end in one ``.npy``, memory-mapped, with a Parquet index of who lies where.

``shard-0000.npy`` holds rows ``(frames, ...)`` or samples ``(samples,)``; ``shard-0000.parquet`` beside it one row per
utterance with its offset and length, and the identity of both files.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bowerbird.artifacts.files import atomic_path, file_sha256
from bowerbird.artifacts.identity import Identity, RunRecord
from bowerbird.artifacts.tables import read_identity, read_table, write_table
from bowerbird.config.shard_names import index_path, shard_number
from bowerbird.errors import BowerbirdError


def shard_numbers(paths: Sequence[Path]) -> list[int]:
    """The number in each ``shard-NNNN.npy``; positions where the files are named otherwise."""
    found = [number for path in paths if (number := shard_number(path)) is not None]
    return found if len(found) == len(paths) else list(range(len(paths)))


def parameters_of(array: Path) -> dict[str, Any]:
    """The parameters of the stage that wrote an array, from its index; {} where the index has none."""
    return read_identity(index_path(array)).get("params", {})


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
        stats = {"array_sha256": file_sha256(self._temporary), "total": self.total, **(extra or {})}
        index = index_path(self.path)
        index.unlink(missing_ok=True)
        self._atomic.__exit__(None, None, None)
        record.write(self.path, identity)
        columns = ["utt_id", "start", self.length]
        frame = pd.DataFrame(self.rows) if self.rows else pd.DataFrame({name: [] for name in columns})
        types = {"utt_id": "str", "start": "int64", self.length: "int64"}
        write_table(index, frame.astype({k: v for k, v in types.items() if k in frame}), identity, extra=stats)

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

    ``paths`` are the ``.npy`` files in order, ``by_number`` their arrays by the number in the file's name. ``index`` is one
    DataFrame over all utterances with an extra column ``file`` (position in ``paths``).
    """

    def __init__(self, paths: Sequence[str | os.PathLike[str]], length: str = "frames") -> None:
        if not paths:
            raise BowerbirdError("no shards given: at least one .npy file is needed")
        self.paths, self.length = [Path(p) for p in paths], length
        self.arrays: list[np.ndarray] = []
        frames = []
        for number, path in enumerate(self.paths):
            index = read_table(index_path(path))
            index["file"] = number
            frames.append(index)
            self.arrays.append(open_array(path))
            expected = read_identity(index_path(path)).get("total", len(self.arrays[-1]))
            if len(self.arrays[-1]) != expected:
                raise BowerbirdError(
                    f"{path}: has {len(self.arrays[-1])} rows, its index says {expected}; "
                    "delete both and run the stage again"
                )
        self.by_number = dict(zip(shard_numbers(self.paths), self.arrays, strict=True))
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
        """Shape of one row, ``(D,)`` of features."""
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
    found = sorted(p for p in Path(folder).glob("shard-*.npy") if shard_number(p) is not None)
    if not found:
        raise BowerbirdError(f"{folder}: no shard-NNNN.npy here; run the stage that writes them")
    return found


def open_spaces(paths: Sequence[Path], names: Iterable[str]) -> dict[str, Shards]:
    """The shards of several variants of features by name, in the order of ``names``: a variant's name is that of its folder."""
    folders: dict[str, list[Path]] = {name: [] for name in names}
    for path in map(Path, paths):
        if path.parent.name not in folders:
            raise BowerbirdError(f"{path}: of none of the features {', '.join(folders)}; give the shards of those")
        folders[path.parent.name].append(path)
    for name, found in folders.items():
        if not found:
            raise BowerbirdError(f"search: {name}: no shards of these features are given; give all of them")
    return {name: Shards(found) for name, found in folders.items()}
