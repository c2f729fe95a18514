"""`assign-units`: the code of every frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from bowerbird.artifacts import cache
from bowerbird.artifacts.codebook import Codebook
from bowerbird.artifacts.identity import Identity, RunRecord, input_digests
from bowerbird.artifacts.shards import Shards, ShardWriter
from bowerbird.config.sections.runtime import RuntimeConfig
from bowerbird.errors import BowerbirdError
from bowerbird.nn.device import pick_device
from bowerbird.nn.nearest import Metric, Pool
from bowerbird.stages.codebook import VERSION

_CHUNK = 8192  # frames looked up at a time


def assign_units(codebook: Path, features: Path, output: Path, assignment: str, runtime: RuntimeConfig) -> None:
    """Look up the code of every frame of one feature shard.

    ``assignment`` "cosine" or "euclidean". Writes a uint16 shard whose rows are those of the feature shard; of equally
    near codes the lowest wins.
    """
    metric = _metric(assignment)
    device = pick_device(runtime.device)
    torch.set_num_threads(runtime.threads)
    book = Codebook.load(codebook)
    identity = Identity(
        "codebook.units",
        VERSION,
        {"assignment": metric},
        input_digests({"codebook": [codebook], "features": [features]}),
    )
    outputs = [output, output.with_suffix(".parquet")]
    record = RunRecord(device=str(device), dtype="float32")
    if cache.fetch(identity, outputs, record):
        return
    with ShardWriter(output, "uint16") as writer:
        shards = Shards([features])
        _same_dim(book, shards, codebook)
        pool = Pool(book.centroids, metric, device)
        for utt in shards:
            writer.add(utt, _lookup(pool, np.asarray(shards[utt]), f"{features}: {utt}"))
        writer.close(identity, record, extra={"num_codes": len(book.centroids)})
    cache.keep(identity, outputs)


def lookup_units(frames: np.ndarray, centroids: np.ndarray, assignment: str = "cosine") -> np.ndarray:
    """Codes uint16 ``(frames,)`` of features ``(frames, dim)``; what `assign_units` does to a shard."""
    return _lookup(Pool(np.asarray(centroids, dtype=np.float32), _metric(assignment)), np.asarray(frames), "features")


def _lookup(pool: Pool, frames: np.ndarray, where: str) -> np.ndarray:
    codes = np.empty(len(frames), dtype=np.uint16)
    for start in range(0, len(frames), _CHUNK):
        part = frames[start : start + _CHUNK]
        if not np.isfinite(part).all():
            raise BowerbirdError(f"{where}: values that are not finite; extract the features again")
        codes[start : start + _CHUNK] = pool.best(part)
    return codes


def _metric(assignment: str) -> Metric:
    if assignment not in ("cosine", "euclidean"):
        raise BowerbirdError(f"assignment: {assignment}: unknown; use cosine or euclidean")
    return assignment  # type: ignore[return-value]


def _same_dim(book: Codebook, shards: Shards, codebook: Path) -> None:
    if shards.row_shape != book.centroids.shape[1:]:
        raise BowerbirdError(
            f"{codebook}: centroids of {book.centroids.shape[1]} dimensions, features of "
            f"{shards.row_shape[0]}; fit the codebook on the same features"
        )
