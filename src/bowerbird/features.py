"""Stage *features*: one layer of a self-supervised encoder, 50 frames a second, float16 on disk."""

from __future__ import annotations

import contextlib
import logging
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from bowerbird.artifacts import BowerbirdError, Identity, RunRecord, atomic_path, inputs_digest
from bowerbird.audio import SAMPLE_RATE, int16_to_float
from bowerbird.config import FeaturesConfig, RuntimeConfig
from bowerbird.encoders.selfsupervised import FeatureExtractor
from bowerbird.tables import Shards, ShardWriter

VERSION = 1
logger = logging.getLogger(__name__)
CHUNK_S = 120.0  # audio between two records of progress, seconds


def extract_features(audio: Path, output: Path, options: FeaturesConfig, runtime: RuntimeConfig) -> None:
    """Features of one audio shard: a float16 array (frames, dim) and an index with utt_id, start, frames, num_samples.

    A job that is killed goes on where it stopped: finished parts lie in a hidden folder beside the output until the
    shard is whole. On the CPU utterances go through one by one (batches bring nothing there), so the bytes depend on
    nothing but the parameters; on a GPU they are batched by length and agree with that within 1e-4.
    """
    device = resolve_device(runtime.device)
    extractor = FeatureExtractor(options, device)
    shards = Shards([audio], length="num_samples")
    params = {**options.model_dump(exclude={"revision"}), "weights_sha256": extractor.weights}
    identity = Identity("features", VERSION, params, {"audio": inputs_digest([audio])})
    parts = output.parent / f".partial-{output.stem}-{identity.hash}"
    record = RunRecord(device=str(device), dtype=options.precision)
    audio_s = sum(shards.lengths().values()) / SAMPLE_RATE
    with ShardWriter(output, "float16", (extractor.dim,)) as writer:
        for names, features in finished_parts(extractor, shards, parts, runtime):
            for utt_id, array in zip(names, features, strict=True):
                writer.add(utt_id, array, num_samples=len(shards[utt_id]))
        record.extra = {"encoder": extractor.describe(), "audio_s": round(audio_s, 1)}
        writer.close(identity, record, extra={"dim": extractor.dim, "encoder": extractor.describe()})
    shutil.rmtree(parts, ignore_errors=True)
    logger.info("%s: %d utterances, %.0f s of speech", output, len(shards), audio_s)


def resolve_device(name: str) -> torch.device:
    """``auto`` is a GPU where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise BowerbirdError(f"runtime.device = {name!r}: there is no GPU here; use auto or cpu")
    return torch.device(name)


def finished_parts(
    extractor: FeatureExtractor, shards: Shards, folder: Path, runtime: RuntimeConfig
) -> Iterator[tuple[list[str], list[np.ndarray]]]:
    """Part by part, in the shard's order: read back where it was done before, computed and kept where not."""
    chunks = list(split_into_chunks(shards))
    with tqdm(total=len(shards), unit="utt", disable=not sys.stderr.isatty(), desc="features") as bar:
        for number, names in enumerate(chunks):
            path = folder / f"part-{number:05d}.npz"
            features = read_part(path, names)
            if features is None:
                features = compute(extractor, shards, names, runtime)
                with atomic_path(path) as temporary:
                    np.savez(temporary, *features)
                if number % 10 == 9:
                    logger.info("features: part %d of %d", number + 1, len(chunks))
            bar.update(len(names))
            yield names, features


def read_part(path: Path, names: list[str]) -> list[np.ndarray] | None:
    """A finished part from disk; None if it is not there or not whole."""
    if not path.exists():
        return None
    with contextlib.suppress(OSError, ValueError, KeyError, EOFError), np.load(path, allow_pickle=False) as stored:
        return [stored[f"arr_{i}"] for i in range(len(names))]
    return None


def split_into_chunks(shards: Shards) -> Iterator[list[str]]:
    """Utterance ids in order, about `CHUNK_S` seconds a chunk."""
    chunk: list[str] = []
    seconds = 0.0
    for utt_id, samples in shards.lengths().items():
        chunk.append(utt_id)
        seconds += samples / SAMPLE_RATE
        if seconds >= CHUNK_S:
            yield chunk
            chunk, seconds = [], 0.0
    if chunk:
        yield chunk


def compute(extractor: FeatureExtractor, shards: Shards, names: list[str], runtime: RuntimeConfig) -> list[np.ndarray]:
    """Features of some utterances, in their order, whatever the batches they went through in.

    On the CPU `threads` utterances are under way at a time, each on one thread: with more, sums would be taken in another
    order, and the bytes would depend on the number of threads.
    """

    def extract(batch: list[str]) -> list[np.ndarray]:
        waves = [torch.from_numpy(int16_to_float(shards[utt_id])) for utt_id in batch]
        try:
            return extractor.extract_batch(waves)
        except BowerbirdError as error:
            raise BowerbirdError(f"{', '.join(batch[:3])}{' ...' if len(batch) > 3 else ''}: {error}") from error

    groups = list(batches(names, shards.lengths(), extractor.device, runtime.batch_s))
    workers = runtime.threads if extractor.device.type == "cpu" else 1
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        done = list(pool.map(extract, groups))
    results = {name: array for group, arrays in zip(groups, done, strict=True) for name, array in zip(group, arrays)}
    return [results[utt_id] for utt_id in names]


def batches(names: list[str], lengths: dict[str, int], device: torch.device, batch_s: float) -> Iterator[list[str]]:
    """On a GPU, utterances of similar length, at most ``batch_s`` seconds with padding; on the CPU one by one."""
    if device.type == "cpu":
        yield from ([name] for name in names)
        return
    batch: list[str] = []
    for name in sorted(names, key=lambda n: (-lengths[n], n)):  # longest first: the first of a batch sets its width
        if batch and (len(batch) + 1) * lengths[batch[0]] > batch_s * SAMPLE_RATE:
            yield batch
            batch = []
        batch.append(name)
    if batch:
        yield batch
