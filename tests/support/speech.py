"""A few speakers with speech-like audio, features and trials on disk, for conversion and evaluation."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file

from bowerbird.artifacts.files import write_json
from bowerbird.artifacts.identity import Identity, RunRecord
from bowerbird.artifacts.shards import ShardWriter
from bowerbird.artifacts.tables import MANIFEST, TRIALS, write_table
from bowerbird.systems.vocoder.network import build_generator

DIM = 16
TEXTS = ["the birch canoe slid on the smooth planks", "glue the sheet to the dark blue background"]
IDENTITY = Identity("fixture", 1, {})


@dataclass(frozen=True)
class Study:
    """Paths of a small study of three speakers, two utterances each, and three trials."""

    root: Path
    manifest: Path
    trials: Path
    audio: list[Path]
    features: list[Path]
    vocoder: Path
    waves: dict[str, np.ndarray]  # int16

    @property
    def models(self) -> list[str]:
        return [f"vocoder={self.vocoder}"]


def voice(pitch: float, seconds: float, seed: int) -> np.ndarray:
    """A gliding harmonic tone with pauses, int16 ``(samples,)``."""
    time = np.arange(int(16000 * seconds)) / 16000
    phase = 2 * np.pi * np.cumsum(pitch * 2 ** (np.sin(2 * np.pi * time + seed) / 6)) / 16000
    tone = sum(np.sin(n * phase) / n for n in range(1, 9)) * (np.sin(2 * np.pi * 1.5 * time) > -0.7)
    return np.round(4000 * tone).astype(np.int16)


def make_vocoder(folder: Path, dim: int = DIM) -> Path:
    """A vocoder with random weights."""
    torch.manual_seed(0)
    generator = build_generator("vocos-nano", dim)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(generator.state_dict(), folder / "model.safetensors")
    write_json(folder / "config.json", {"system": "vocoder", "generator": "vocos-nano", "input_dim": dim})
    return folder


def make_study(root: Path, split: str = "test") -> Study:
    """Write everything; all speakers are of one split."""
    rows, waves = [], {}
    for number, speaker in enumerate("abc"):
        for take in range(3):
            utt_id = f"{speaker}{take}"
            waves[utt_id] = voice(110 * 1.4**number, 1.2 + 0.2 * take, seed=take)
            rows.append(
                {
                    "utt_id": utt_id,
                    "speaker": speaker,
                    "gender": "FM"[number % 2],
                    "language": "en",
                    "session": "",
                    "text": TEXTS[take % 2],
                    "path": f"{utt_id}.wav",
                    "sample_rate": 16000,
                    "num_samples": len(waves[utt_id]),
                    "duration_s": len(waves[utt_id]) / 16000,
                    "split": split,
                    "shard": 0,
                    "sha256": "",
                }
            )
    manifest, audio, features = root / "manifest.parquet", root / "audio/shard-0000.npy", root / "f/shard-0000.npy"
    write_table(manifest, pd.DataFrame(rows), IDENTITY, MANIFEST)
    rng = np.random.default_rng(0)
    with ShardWriter(audio, "int16", (), "num_samples") as writer:
        for utt_id, wave in waves.items():
            writer.add(utt_id, wave)
        writer.close(IDENTITY, RunRecord())
    with ShardWriter(features, "float16", (DIM,)) as writer:
        for utt_id, wave in waves.items():
            writer.add(utt_id, rng.normal(size=((len(wave) - 80) // 320, DIM)).astype(np.float16))
        writer.close(IDENTITY, RunRecord())
    trials = write_trials(root / "trials.parquet", [("a0", "b"), ("b0", "c"), ("c0", "a")])
    return Study(root, manifest, trials, [audio], [features], make_vocoder(root / "vocoder"), waves)


def write_trials(path: Path, pairs: list[tuple[str, str]]) -> Path:
    """Trials (source utterance, target speaker) over the study's speakers."""
    rows = []
    for source, target in pairs:
        third = next(iter({"a", "b", "c"} - {source[0], target}))
        gender = dict(zip("abc", "FMF"))
        rows.append(
            {
                "trial_id": f"{source}-{target}",
                "source_utt": source,
                "source_speaker": source[0],
                "source_gender": gender[source[0]],
                "target_speaker": target,
                "target_gender": gender[target],
                "reference_utts": [f"{target}1"],
                "reference_s": 1.4,
                "prompt_s": 1.4,
                "heldout_utt": f"{target}2",
                "parallel_utt": f"{target}0",
                "random_speaker_utt": f"{third}1",
                "text": TEXTS[int(source[1]) % 2],
                "language": "en",
                "condition": "any",
            }
        )
    write_table(path, pd.DataFrame(rows), IDENTITY, TRIALS)
    return path


def run_record(path: Path) -> dict:
    """The run record beside an artifact."""
    return json.loads(path.with_name(path.name + ".run.json").read_text(encoding="utf-8"))
