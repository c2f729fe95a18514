"""The neighbours of every frame, donor by donor, so that a pool is prepared once for all who ask for it."""

from __future__ import annotations

import logging
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress

from bowerbird.artifacts import cache
from bowerbird.artifacts.files import atomic_path, file_sha256
from bowerbird.artifacts.identity import Identity, RunRecord, inputs_digest
from bowerbird.artifacts.pairs import distances_path
from bowerbird.artifacts.shards import ShardWriter
from bowerbird.config.sections.pairs import PairsConfig
from bowerbird.config.sections.runtime import RuntimeConfig
from bowerbird.errors import BowerbirdError
from bowerbird.nn.device import pick_device
from bowerbird.nn.nearest import Pool
from bowerbird.stages.pairs.plan import Clip, Pair, Speech, hashed, plan_pairs, pool_clips

logger = logging.getLogger(__name__)


_BATCH = 4096  # frames of several utterances searched at a time


def search_pairs(
    manifest: Path, features: list[Path], output: Path, shard: int, options: PairsConfig, runtime: RuntimeConfig
) -> None:
    """Find the neighbours of the train and valid utterances of one shard among the frames of donor speakers.

    Writes int32 ``(frames, k)`` rows of the donor's own feature shard, their cosine distances (float16) beside it in
    ``shard-NNNN.distances.npy``, and the index: one row a target utterance and donor.
    """
    from bowerbird.stages.pairs import VERSION

    device = pick_device(runtime.device)
    torch.set_num_threads(runtime.threads)
    params = {**options.model_dump(exclude={"features"}), "shard": shard}
    inputs = {"manifest": inputs_digest([manifest]), "features": inputs_digest(features)}
    identity = Identity("pairs", VERSION, params, inputs)
    outputs = [output, distances_path(output), output.with_suffix(".parquet")]
    with RunRecord(device=str(device), dtype="float32") as record:
        if cache.fetch(identity, outputs, record):
            return
        speech = Speech(manifest, features)
        plan = plan_pairs(speech, shard, options)
        found, distances, pool_frames = _search(speech, plan.pairs, options, device)
        counts = {"pairs": len(plan.pairs), **plan.counts}
        record.extra["facts"] = counts
        with ShardWriter(output, "int32", (options.k,)) as writer:
            start = 0
            for pair, size in zip(plan.pairs, pool_frames, strict=True):
                rows = slice(start, start := start + pair.target.frames)
                writer.add(
                    pair.target.utt_id,
                    found[rows],
                    variant=pair.variant,
                    speaker=pair.target.speaker,
                    donor_speaker=pair.donor,
                    donor_session=pair.session,
                    donor_file=speech.by_speaker[pair.donor][0].file,
                    pool_frames=size,
                    prompt_utt=pair.prompt,
                )
            output.with_suffix(".parquet").unlink(missing_ok=True)  # the index comes last and stands for all
            with atomic_path(distances_path(output)) as temporary:
                with open(temporary, "wb") as handle:
                    np.save(handle, distances, allow_pickle=False)
                digest = file_sha256(temporary)
            writer.close(identity, record, extra={"distances_sha256": digest, "facts": counts})
        cache.keep(identity, outputs)


def _search(
    speech: Speech, pairs: list[Pair], options: PairsConfig, device: torch.device
) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Neighbours int32 and distances float16 ``(frames, k)`` of all pairs end to end, and each pair's pool size."""
    starts = np.cumsum([0, *(pair.target.frames for pair in pairs)])
    found = np.empty((starts[-1], options.k), dtype=np.int32)
    distances = np.empty((starts[-1], options.k), dtype=np.float16)
    pool_frames = [0] * len(pairs)
    groups: dict[tuple[int, str, str], list[int]] = defaultdict(list)
    for number, pair in enumerate(pairs):
        groups[speech.by_speaker[pair.donor][0].file, pair.donor, pair.session].append(number)
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as progress:
        bar = progress.add_task("pairs", total=len(pairs))
        for done, (file, donor, session) in enumerate(sorted(groups)):
            numbers = groups[file, donor, session]
            pool = _DonorPool(speech, donor, session, options, device)
            for batch in _batches(numbers, pairs, alone=options.same_speaker or options.method != "nearest"):
                near, far, size = pool.search([pairs[number] for number in batch])
                begin = 0
                for number in batch:
                    rows = slice(begin, begin := begin + pairs[number].target.frames)
                    found[starts[number] : starts[number + 1]] = near[rows]
                    distances[starts[number] : starts[number + 1]] = far[rows]
                    pool_frames[number] = size
                progress.advance(bar, len(batch))
            if done % 50 == 49:
                logger.info("%d of %d donor pools searched", done + 1, len(groups))
    return found, distances, pool_frames


def _batches(numbers: list[int], pairs: list[Pair], alone: bool) -> list[list[int]]:
    """Pairs searched together: one at a time, or up to `_BATCH` frames."""
    if alone:
        return [[number] for number in numbers]
    batches: list[list[int]] = [[]]
    frames = 0
    for number in numbers:
        if batches[-1] and frames + pairs[number].target.frames > _BATCH:
            batches.append([])
            frames = 0
        batches[-1].append(number)
        frames += pairs[number].target.frames
    return batches


class _DonorPool:
    """A donor's frames, ready to be searched."""

    def __init__(self, speech: Speech, donor: str, session: str, options: PairsConfig, device: torch.device) -> None:
        self.speech, self.session, self.options = speech, session, options
        self.all = speech.by_speaker[donor]
        # with same_speaker each target leaves itself out, so the pool holds everything and each search masks it
        limit = options.model_copy(update={"max_pool_s": 0.0}) if options.same_speaker else options
        self.clips = pool_clips(self.all, limit, session)
        self.rows = np.concatenate([np.arange(clip.start, clip.start + clip.frames) for clip in self.clips])
        self.pool = Pool(np.concatenate([_finite(speech, clip) for clip in self.clips]), "cosine", device)

    def search(self, pairs: list[Pair]) -> tuple[np.ndarray, np.ndarray, int]:
        """Rows of the donor's shard and distances, ``(frames of all pairs, k)``; and how many frames were searched."""
        queries = np.concatenate([_finite(self.speech, pair.target) for pair in pairs])
        allowed = self._without(pairs[0].target) if self.options.same_speaker else None
        size = len(self.rows) if allowed is None else int(allowed.sum())
        if self.options.method == "random":
            members = np.arange(len(self.rows)) if allowed is None else np.flatnonzero(allowed)
            places = members[random_members(len(queries), len(members), self.options.k, self._rng(pairs[0]))]
            scores = self.pool.score(queries, places)
        else:
            places, scores = self.pool.nearest(queries, self.options.k, allowed)
            if self.options.method == "shuffled":
                places = places[self._rng(pairs[0]).permutation(len(places))]
                scores = self.pool.score(queries, places)
        return self.rows[places], np.clip(1 - scores, 0, 2), size

    def _without(self, target: Clip) -> np.ndarray:
        """Which pool frames ``target`` may use, bool ``(pool,)``."""
        kept = {clip.utt_id for clip in pool_clips(self.all, self.options, self.session, without=target.utt_id)}
        return np.concatenate([np.full(clip.frames, clip.utt_id in kept) for clip in self.clips])

    def _rng(self, pair: Pair) -> np.random.Generator:
        return np.random.Generator(
            np.random.PCG64(hashed(self.options.seed, self.options.method, pair.target.utt_id, pair.variant))
        )


def random_members(frames: int, total: int, k: int, rng: np.random.Generator) -> np.ndarray:
    """A uniformly random set of ``k`` of ``total`` for each frame, ``(frames, k)``: Floyd's algorithm, all at once."""
    chosen = np.empty((frames, k), dtype=np.int64)
    for step, last in enumerate(range(total - k, total)):
        drawn = rng.integers(0, last + 1, size=frames)
        taken = (chosen[:, :step] == drawn[:, None]).any(axis=1)
        chosen[:, step] = np.where(taken, last, drawn)
    return chosen


def _finite(speech: Speech, clip: Clip) -> np.ndarray:
    rows = np.asarray(speech.rows(clip))
    if not np.isfinite(rows).all():
        raise BowerbirdError(f"features: {clip.utt_id}: values that are not finite; extract the features again")
    return rows
