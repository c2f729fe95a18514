"""`fit-codebook`: K centroids on a sample of training frames."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from bowerbird.artifacts import cache
from bowerbird.artifacts.codebook import Codebook
from bowerbird.artifacts.identity import Identity, RunRecord, input_digests
from bowerbird.artifacts.shards import Shards
from bowerbird.artifacts.tables import read_table, write_table
from bowerbird.config.sections.codebook import CodebookConfig
from bowerbird.config.sections.runtime import RuntimeConfig
from bowerbird.nn.device import pick_device
from bowerbird.stages.codebook import VERSION
from bowerbird.stages.codebook.kmeans import fit_kmeans
from bowerbird.stages.codebook.sample import draw_sample, gather_frames

logger = logging.getLogger(__name__)


def fit_codebook(
    manifest: Path, features: list[Path], output: Path, options: CodebookConfig, runtime: RuntimeConfig
) -> None:
    """Fit K centroids on frames drawn from the training split.

    Writes ``output`` (centroids.safetensors: centroids ``(K, D)`` float32, sizes ``(K,)`` int64, inertia_per_cluster
    ``(K,)`` float32, identity and stats in the metadata) and ``sample.parquet`` beside it: the frames it was fitted on.
    """
    device = pick_device(runtime.device)
    torch.set_num_threads(runtime.threads)
    params = options.model_dump(exclude={"features", "assignment"})
    identity = Identity("codebook", VERSION, params, input_digests({"manifest": [manifest], "features": features}))
    sample_path = output.with_name("sample.parquet")
    record = RunRecord(device=str(device), dtype="float32")
    if cache.fetch(identity, [sample_path, output], record):
        record.write(output, identity)
        return
    shards = Shards(features)
    sample = draw_sample(read_table(manifest, ["utt_id", "split"]), shards, options.sample_frames, options.seed)
    frames = gather_frames(shards, sample)
    fit = fit_kmeans(frames, options, device)
    stats = fit.stats()
    record.extra["facts"] = stats
    write_table(sample_path, sample, identity)
    record.write(sample_path, identity)
    record.write(output, identity)
    Codebook(fit.centroids, fit.sizes, fit.inertia_per_cluster, stats).save(output, identity)
    cache.keep(identity, [sample_path, output])
    logger.info(
        "%d codes on %d frames: inertia %.4g per frame, perplexity %.1f",
        options.num_codes,
        len(frames),
        stats["inertia"] / len(frames),
        stats["perplexity"],
    )
