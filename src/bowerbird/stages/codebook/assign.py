"""`assign-units`: the code of every frame."""

from __future__ import annotations

import typing
from pathlib import Path

import numpy as np
import torch

from bowerbird.artifacts import cache
from bowerbird.artifacts.codebook import Codebook
from bowerbird.artifacts.identity import Identity, RunRecord, input_digests
from bowerbird.artifacts.shards import Shards, ShardWriter
from bowerbird.config.sections.runtime import RuntimeConfig
from bowerbird.config.shard_names import index_path
from bowerbird.errors import BowerbirdError
from bowerbird.nn.device import pick_device
from bowerbird.nn.nearest import Metric, SearchPool
from bowerbird.stages.codebook import VERSION

FRAMES_AT_ONCE = 8192  # that are looked up


def assign_units(codebook: Path, features: Path, output: Path, assignment: Metric, runtime: RuntimeConfig) -> None:
    """Look up the code of every frame of one feature shard.

    Writes a uint16 shard whose rows are those of the feature shard. Of equally near codes the lowest is taken.
    """
    if assignment not in typing.get_args(Metric):
        raise BowerbirdError(f"assignment: {assignment}: unknown; use cosine or euclidean")
    device = pick_device(runtime.device)
    torch.set_num_threads(runtime.threads)
    book = Codebook.load(codebook)
    inputs = input_digests({"codebook": [codebook], "features": [features]})
    identity = Identity("codebook.units", VERSION, {"assignment": assignment}, inputs)
    outputs = [output, index_path(output)]
    record = RunRecord(device=str(device), dtype="float32")
    if cache.fetch(identity, outputs, record):
        return
    with ShardWriter(output, "uint16") as writer:
        shards = Shards([features])
        if shards.row_shape != book.centroids.shape[1:]:
            raise BowerbirdError(
                f"{codebook}: centroids of {book.centroids.shape[1]} dimensions, features of {shards.row_shape[0]}; "
                "fit the codebook on the same features"
            )
        pool = SearchPool(book.centroids, assignment, device)
        for utt_id in shards:
            writer.add(utt_id, _codes_of(np.asarray(shards[utt_id]), pool, f"{features}: {utt_id}"))
        writer.close(identity, record, extra={"num_codes": len(book.centroids)})
    cache.keep(identity, outputs)


def _codes_of(frames: np.ndarray, pool: SearchPool, name: str) -> np.ndarray:
    """Codes uint16 ``(T,)`` of frames ``(T, D)``; errors call the frames by ``name``."""
    codes = np.empty(len(frames), dtype=np.uint16)
    for start in range(0, len(frames), FRAMES_AT_ONCE):
        part = frames[start : start + FRAMES_AT_ONCE]
        if not np.isfinite(part).all():
            raise BowerbirdError(f"{name}: values that are not finite; extract the features again")
        codes[start : start + FRAMES_AT_ONCE] = pool.best(part)
    return codes
