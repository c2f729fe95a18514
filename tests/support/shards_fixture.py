"""A corpus of a few speakers in memory: a manifest and feature shards, without audio or models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from bowerbird.artifacts.identity import Identity, RunRecord
from bowerbird.artifacts.shards import ShardWriter
from bowerbird.artifacts.tables import MANIFEST, write_table
from bowerbird.config.sections.runtime import RuntimeConfig

CPU = RuntimeConfig(device="cpu", threads=1)


@dataclass(frozen=True)
class TinyCorpus:
    """``manifest`` and ``features`` on disk, and ``frames[utt_id]`` as they were written, float16 ``(frames, dim)``."""

    root: Path
    manifest: Path
    features: list[Path]
    table: pd.DataFrame
    frames: dict[str, np.ndarray]

    def row(self, utt_id: str) -> pd.Series:
        return self.table.set_index("utt_id").loc[utt_id]

    def of_speaker(self, speaker: str) -> list[str]:
        return sorted(self.table.loc[self.table["speaker"] == speaker, "utt_id"])


def tiny_corpus(
    root: Path,
    speakers: int = 6,
    utterances: int = 4,
    seconds: float = 2.0,
    dim: int = 16,
    shards: int = 2,
    splits: tuple[str, ...] = ("train", "train", "train", "valid", "valid", "test"),
    sessions: int = 2,
    phones: int = 8,
    seed: int = 0,
) -> TinyCorpus:
    """Write a corpus whose frames are phone center + speaker offset + noise, so retrieval and units mean something.

    Speaker ``n`` has split ``splits[n % len(splits)]``, gender F for even n, language "en" for the first half of
    speakers and "de" for the rest, and lies in shard ``n % shards``. Utterance lengths differ.
    """
    rng = np.random.default_rng(seed)
    centres = 4 * rng.standard_normal((phones, dim))
    rows, frames = [], {}
    for number in range(speakers):
        offset = 0.5 * rng.standard_normal(dim)
        for take in range(utterances):
            utt_id, count = f"spk{number}-{take:02d}", int(50 * seconds) + 3 * number + take
            said = np.repeat(rng.integers(phones, size=count // 4 + 1), 4)[:count]
            frames[utt_id] = (centres[said] + offset + 0.3 * rng.standard_normal((count, dim))).astype(np.float16)
            samples = count * 320 + 80
            rows.append(
                {
                    "utt_id": utt_id,
                    "speaker": f"spk{number}",
                    "gender": "FM"[number % 2],
                    "language": "en" if number < speakers / 2 else "de",
                    "session": f"s{take % sessions}",
                    "text": f"utterance {take} of speaker {number}",
                    "path": f"{utt_id}.wav",
                    "sample_rate": 16000,
                    "num_samples": samples,
                    "duration_s": samples / 16000,
                    "split": splits[number % len(splits)],
                    "shard": number % shards,
                    "sha256": f"{number:02d}{take:02d}" * 16,
                }
            )
    return write_corpus(root, pd.DataFrame(rows), frames)


def write_corpus(root: Path, table: pd.DataFrame, frames: dict[str, np.ndarray]) -> TinyCorpus:
    """Write a manifest and the feature shards it names (rows with NaN and the like included, as given)."""
    identity = Identity("fixture", 1, {})
    manifest = root / "corpus" / "manifest.parquet"
    write_table(manifest, table, identity, schema=MANIFEST)
    paths = []
    for number, part in sorted(table.groupby("shard")):
        path = root / "features" / "tiny" / f"shard-{number:04d}.npy"
        dim = next(iter(frames.values())).shape[1]
        with ShardWriter(path, "float16", (dim,)) as writer:
            for utt_id in sorted(part["utt_id"]):
                writer.add(utt_id, frames[utt_id], num_samples=int(part.set_index("utt_id").loc[utt_id, "num_samples"]))
            writer.close(identity, RunRecord())
        paths.append(path)
    return TinyCorpus(root, manifest, paths, table, frames)
