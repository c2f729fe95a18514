"""`search-pairs`: the neighbors of every frame, donor by donor, so that a pool is prepared once for all who search it.

Letters: ``T`` frames of all pairs end to end, ``k`` neighbors, ``D`` feature dimension.
"""

from __future__ import annotations

import logging
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress

from bowerbird.artifacts import cache
from bowerbird.artifacts.files import atomic_path, file_sha256
from bowerbird.artifacts.identity import Identity, RunRecord, input_digests
from bowerbird.artifacts.shards import ShardWriter
from bowerbird.config.sections.pairs import PairsConfig
from bowerbird.config.sections.runtime import RuntimeConfig
from bowerbird.config.shard_names import distances_path, index_path
from bowerbird.nn.device import pick_device
from bowerbird.nn.keys import nearest_with_continuity
from bowerbird.nn.nearest import SearchPool
from bowerbird.stages.pairs import VERSION
from bowerbird.stages.pairs.plan import Pair, PairPlan, plan_pairs
from bowerbird.stages.pairs.pools import DonorPool
from bowerbird.stages.pairs.speech import KeyShards, PairableSpeech, hash_number

logger = logging.getLogger(__name__)

NO_FILES: list[Path] = []
FRAMES_AT_ONCE = 4096  # of several utterances, that are searched together


@dataclass(frozen=True)
class FoundNeighbors:
    """The neighbors of all pairs end to end, nearest first, and how many frames were searched for each pair."""

    rows: np.ndarray  # (T, k) int32, of the donor's feature shard
    distances: np.ndarray  # (T, k) float16, cosine
    pool_frames: list[int]


def search_pairs(
    manifest: Path,
    features: list[Path],
    output: Path,
    shard: int,
    options: PairsConfig,
    runtime: RuntimeConfig,
    search_keys: list[Path] = NO_FILES,
) -> None:
    """Find the neighbors of the train and valid utterances of one shard among the frames of donor speakers.

    They are looked for in the features, or in ``search_keys``, the shards of what `search` names. Writes int32 ``(T, k)`` rows of the donor's own feature shard, their cosine distances (float16) beside it in
    ``shard-NNNN.distances.npy``, and the index: one row per target utterance and donor.
    """
    device = pick_device(runtime.device)
    torch.set_num_threads(runtime.threads)
    params = {**options.model_dump(exclude={"features"}), "shard": shard}
    files = {"manifest": [manifest], "features": features, "search_keys": search_keys}
    identity = Identity("pairs", VERSION, params, input_digests(files))
    outputs = [output, distances_path(output), index_path(output)]
    record = RunRecord(device=str(device), dtype="float32")
    if cache.fetch(identity, outputs, record):
        return
    searched = KeyShards(search_keys, options.search) if options.search else None
    speech = PairableSpeech(manifest, features, searched)
    plan = plan_pairs(speech, shard, options)
    found = find_neighbors(speech, plan.pairs, options, device)
    stats = {"pairs": len(plan.pairs), **plan.counts}
    record.extra["facts"] = stats
    with ShardWriter(output, "int32", (options.k,)) as writer:
        _add_pairs(writer, speech, plan, found)
        index_path(output).unlink(missing_ok=True)  # the index comes last and stands for all
        with atomic_path(distances_path(output)) as temporary:
            with open(temporary, "wb") as handle:
                np.save(handle, found.distances, allow_pickle=False)
            digest = file_sha256(temporary)
        writer.close(identity, record, extra={"distances_sha256": digest, "facts": stats})
    cache.keep(identity, outputs)


def _add_pairs(writer: ShardWriter, speech: PairableSpeech, plan: PairPlan, found: FoundNeighbors) -> None:
    """Add each pair's rows, and what the index has of it, to a shard."""
    start = 0
    for pair, size in zip(plan.pairs, found.pool_frames, strict=True):
        rows = slice(start, start := start + pair.target.frames)
        writer.add(
            pair.target.utt_id,
            found.rows[rows],
            variant=pair.variant,
            speaker=pair.target.speaker,
            donor_speaker=pair.donor,
            donor_session=pair.session,
            donor_file=speech.by_speaker[pair.donor][0].file,
            pool_frames=size,
            prompt_utt=pair.prompt,
        )


def find_neighbors(
    speech: PairableSpeech, pairs: list[Pair], options: PairsConfig, device: torch.device
) -> FoundNeighbors:
    """The neighbors of every frame of the targets, in the order of ``pairs``."""
    starts = np.cumsum([0, *(pair.target.frames for pair in pairs)])
    rows = np.empty((starts[-1], options.k), dtype=np.int32)
    distances = np.empty((starts[-1], options.k), dtype=np.float16)
    pool_frames = [0] * len(pairs)
    groups: dict[tuple[int, str, str], list[int]] = defaultdict(list)
    for number, pair in enumerate(pairs):
        groups[speech.by_speaker[pair.donor][0].file, pair.donor, pair.session].append(number)
    is_alone = options.same_speaker or options.method != "nearest" or options.continuity > 0
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as progress:
        bar = progress.add_task("pairs", total=len(pairs))
        for done, (key, numbers) in enumerate(sorted(groups.items())):
            search = _DonorSearch(speech, key[1], key[2], options, device)
            for batch in _batches(numbers, pairs, alone=is_alone):
                near, far, size = search.find([pairs[number] for number in batch])
                begin = 0
                for number in batch:
                    part = slice(begin, begin := begin + pairs[number].target.frames)
                    rows[starts[number] : starts[number + 1]] = near[part]
                    distances[starts[number] : starts[number + 1]] = far[part]
                    pool_frames[number] = size
                progress.advance(bar, len(batch))
            if done % 50 == 49:
                logger.info("%d of %d donor pools searched", done + 1, len(groups))
    return FoundNeighbors(rows, distances, pool_frames)


def _batches(numbers: list[int], pairs: list[Pair], alone: bool) -> Iterator[list[int]]:
    """Numbers of pairs that are searched together: one at a time, or up to `FRAMES_AT_ONCE` frames."""
    batch: list[int] = []
    frames = 0
    for number in numbers:
        if batch and (alone or frames + pairs[number].target.frames > FRAMES_AT_ONCE):
            yield batch
            batch, frames = [], 0
        batch.append(number)
        frames += pairs[number].target.frames
    if batch:
        yield batch


class _DonorSearch:
    """A donor's frames, ready to be searched."""

    def __init__(
        self, speech: PairableSpeech, donor: str, session: str, options: PairsConfig, device: torch.device
    ) -> None:
        self.speech, self.options = speech, options
        self.pool = DonorPool(speech.by_speaker[donor], options, session)
        keys = [speech.key_rows(clip, options.context) for clip in self.pool.clips]
        self.vectors = SearchPool(np.concatenate(keys), "cosine", device)
        self.follows = np.concatenate([np.arange(len(rows)) > 0 for rows in keys])

    def find(self, pairs: list[Pair]) -> tuple[np.ndarray, np.ndarray, int]:
        """Rows of the donor's shard and distances, ``(T, k)`` of the pairs end to end; and the number of frames searched.

        With `same_speaker`, with `continuity`, and for the controls, ``pairs`` is one pair.
        """
        queries = np.concatenate([self.speech.key_rows(pair.target, self.options.context) for pair in pairs])
        allowed, k = self.pool.allowed_for(pairs[0].target), self.options.k
        size = len(self.pool.rows) if allowed is None else int(allowed.sum())
        if self.options.method == "random":
            members = np.arange(len(self.pool.rows)) if allowed is None else np.flatnonzero(allowed)
            places = members[random_members(len(queries), len(members), k, self._generator(pairs[0]))]
            scores = self.vectors.score(queries, places)
        else:
            places, scores = self._nearest(queries, allowed)
            if self.options.method == "shuffled":
                places = places[self._generator(pairs[0]).permutation(len(places))]
                scores = self.vectors.score(queries, places)
        return self.pool.rows[places], np.clip(1 - scores, 0, 2), size

    def _nearest(self, queries: np.ndarray, allowed: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Places in the pool and cosines, ``(T, k)``, as the options ask."""
        options = self.options
        if not options.continuity:
            return self.vectors.nearest(queries, options.k, allowed)
        return nearest_with_continuity(self.vectors, queries, options.k, options.continuity, self.follows, allowed)

    def _generator(self, pair: Pair) -> np.random.Generator:
        """The source of a pair's random choices."""
        seed = hash_number(self.options.seed, self.options.method, pair.target.utt_id, pair.variant)
        return np.random.Generator(np.random.PCG64(seed))


def random_members(frames: int, total: int, k: int, generator: np.random.Generator) -> np.ndarray:
    """A uniformly random set of ``k`` of ``total`` for each frame, int64 ``(frames, k)``: Floyd's algorithm, all at once."""
    chosen = np.empty((frames, k), dtype=np.int64)
    for step, last in enumerate(range(total - k, total)):
        drawn = generator.integers(0, last + 1, size=frames)
        taken = (chosen[:, :step] == drawn[:, None]).any(axis=1)
        chosen[:, step] = np.where(taken, last, drawn)
    return chosen
