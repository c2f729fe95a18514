"""Small corpora on disk for the tests here, and what the stage makes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import soundfile

from bowerbird.artifacts.tables import read_table
from bowerbird.config.sections.corpus import CorpusConfig
from bowerbird.config.sections.runtime import RuntimeConfig
from bowerbird.stages.corpus.manifest import list_corpus


def noise(seed: int, seconds: float = 1.0, rate: int = 16000) -> np.ndarray:
    """Float32 ``(samples,)`` that no check refuses."""
    return (0.1 * np.random.default_rng(seed).standard_normal(int(seconds * rate))).astype(np.float32)


def write(path: Path, seed: int, **options) -> Path:
    """A second of noise at 16 kHz in the format of the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, noise(seed), 16000, **options)
    return path


def listed(out: Path, **options) -> tuple[pd.DataFrame, pd.DataFrame, Path]:
    """Manifest, refusals, and the manifest's path; any share of refusals goes."""
    config = CorpusConfig(**{"num_shards": 1, "max_rejected_fraction": 1.0, "test_speakers": 0.0, **options})
    manifest, rejected = out / "manifest.parquet", out / "rejected.parquet"
    list_corpus(manifest, rejected, config, RuntimeConfig())
    return read_table(manifest), read_table(rejected), manifest


def reasons(rejected: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """Path -> (reason, detail)."""
    return {r["path"]: (r["reason"], r["detail"]) for r in rejected.to_dict("records")}
