"""`extract-features`: an encoder over one audio shard, part by part.

Letters: ``T`` frames, ``D`` feature dimension.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import sys
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from bowerbird.artifacts import cache
from bowerbird.artifacts.files import atomic_path
from bowerbird.artifacts.identity import Identity, RunRecord, input_digests
from bowerbird.artifacts.shards import Shards, ShardWriter
from bowerbird.audio import SAMPLE_RATE, int16_to_float
from bowerbird.config.sections.features import FeaturesConfig
from bowerbird.config.sections.runtime import RuntimeConfig
from bowerbird.config.shard_names import index_path
from bowerbird.encoders.extractors import FeatureExtractor, SpeakerEmbeddingExtractor, open_extractor
from bowerbird.nn.device import pick_device
from bowerbird.stages.features import VERSION

logger = logging.getLogger(__name__)

PART_S = 300.0  # speech in one part, seconds: at most so much is extracted again after a kill
Extractor = FeatureExtractor | SpeakerEmbeddingExtractor


def extract_features(audio: Path, output: Path, options: FeaturesConfig, runtime: RuntimeConfig) -> None:
    """Extract the features of one audio shard.

    Writes a float16 array ``(T, D)`` and an index with utt_id, start, frames and num_samples. A job that was killed resumes:
    finished parts lie in a hidden folder beside the output until the shard is whole. On the CPU utterances are encoded one by
    one (batches bring nothing there), so the bytes depend on nothing but the parameters; on a GPU they are batched by length
    and agree with those within a tolerance.
    """
    device = pick_device(runtime.device)
    extractor = open_extractor(options, device, key=f"features.{output.parent.name}", batch_s=runtime.batch_s)
    shards = Shards([audio], length="num_samples")
    identity = Identity("features", VERSION, extractor.identity_params(), input_digests({"audio": [audio]}))
    parts = output.parent / f".partial-{output.stem}-{identity.hash}"
    record = RunRecord(device=str(device), dtype=options.precision)
    outputs = [output, index_path(output)]
    if cache.fetch(identity, outputs, record):
        return
    lengths = shards.lengths()
    audio_s = sum(lengths.values()) / SAMPLE_RATE
    with ShardWriter(output, "float16", (extractor.dim,)) as writer:
        for utt_id, features in features_by_parts(extractor, shards, parts, runtime):
            writer.add(utt_id, features, num_samples=lengths[utt_id])
        record.extra = {
            "encoder": extractor.describe(),
            "audio_s": round(audio_s, 1),
            "padded_to_one_frame": [utt_id for utt_id, count in lengths.items() if count < extractor.shortest],
        }
        writer.close(identity, record, extra={"dim": extractor.dim, "encoder": extractor.describe()})
    cache.keep(identity, outputs)
    for folder in output.parent.glob(f".partial-{output.stem}-*"):  # those of parameters that were given up too
        shutil.rmtree(folder, ignore_errors=True)
    logger.info("%s: %d utterances, %.0f s of speech", output, len(shards), audio_s)


def features_by_parts(
    extractor: Extractor, shards: Shards, folder: Path, runtime: RuntimeConfig
) -> Iterator[tuple[str, np.ndarray]]:
    """(utterance, features ``(T, D)``) in the shard's order.

    Parts that lie in ``folder`` from a run before are read; the others are extracted and kept there.
    """
    parts = list(split_into_parts(shards))
    with tqdm(total=len(shards), unit="utt", disable=not sys.stderr.isatty(), desc="features") as bar:
        for number, names in enumerate(parts):
            path = folder / f"part-{number:05d}.npz"
            features = read_part(path, names, extractor.dim)
            if features is None:
                features = extract_part(extractor, shards, names, runtime.threads)
                write_part(path, names, features)
            bar.update(len(names))
            if number % 10 == 9:
                logger.info("features: part %d of %d", number + 1, len(parts))
            yield from zip(names, features, strict=True)


def write_part(path: Path, names: list[str], features: list[np.ndarray]) -> None:
    """Keep the features ``(T, D)`` of some utterances until the shard is whole."""
    with atomic_path(path) as temporary:
        np.savez(temporary, names=np.array(names), frames=[len(f) for f in features], features=np.concatenate(features))


def read_part(path: Path, names: list[str], dim: int) -> list[np.ndarray] | None:
    """Features ``(T, D)`` of each utterance of a part; None if it is not there, not whole, or not of these utterances."""
    if not path.exists():
        return None
    with (
        contextlib.suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile),
        np.load(path, allow_pickle=False) as part,
    ):
        features, frames = part["features"], part["frames"]
        if list(part["names"]) == names and features.shape == (frames.sum(), dim) and features.dtype == np.float16:
            return np.split(features, np.cumsum(frames)[:-1])
    logger.warning("%s: damaged; extracted again", path)
    return None


def split_into_parts(shards: Shards) -> Iterator[list[str]]:
    """Ids of the utterances of each part, in order: `PART_S` seconds of speech, and the rest of its last utterance."""
    part: list[str] = []
    seconds = 0.0
    for utt_id, samples in shards.lengths().items():
        part.append(utt_id)
        seconds += samples / SAMPLE_RATE
        if seconds >= PART_S:
            yield part
            part, seconds = [], 0.0
    if part:
        yield part


def extract_part(extractor: Extractor, shards: Shards, names: list[str], threads: int) -> list[np.ndarray]:
    """Features ``(T, D)`` float16 of some utterances, in their order.

    On the CPU ``threads`` utterances are encoded at a time, each on one thread: with more, sums would be taken in another
    order, and the bytes would depend on the number of threads.
    """

    def extract(group: list[str]) -> list[np.ndarray]:
        return extractor.extract_batch([torch.from_numpy(int16_to_float(shards[name])) for name in group], group)

    if extractor.device.type != "cpu":
        return extract(names)
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        return [features for (features,) in pool.map(extract, ([name] for name in names))]
