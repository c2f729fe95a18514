"""A run whose artifacts are empty and whose records are those of a real one: for what reads records and not contents."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from safetensors.numpy import save_file

from bowerbird.artifacts.files import write_text
from bowerbird.artifacts.identity import IDENTITY_KEY, Identity, input_digests, stable_hash
from bowerbird.artifacts.tables import write_table
from bowerbird.artifacts.versions import stage_version
from bowerbird.config.graph import Graph
from bowerbird.config.job import Job
from bowerbird.config.loading import dump_config, parse_config

# Two of everything, so that an option that names one of them can name the other.
STUDY: dict[str, Any] = {
    "run": "recorded",
    "corpus": {"num_shards": 2},
    "features": {
        "nano": {},
        "nano-l2": {"layer": 2},
        "mel": {"encoder": "log-mel"},
        "magnitude": {"encoder": "log-magnitude"},
        "world": {"encoder": "world"},
        "world-short": {"encoder": "world", "overlap_s": 1.0},
        "phones": {"kind": "phonetic", "encoder": "bundled:nano-phones"},
        "phones-short": {"kind": "phonetic", "encoder": "bundled:nano-phones", "max_window_s": 9.0},
        "ppg": {"kind": "phonetic", "encoder": "trained:takin-ppg"},
        "voice": {"kind": "speaker", "encoder": "ge2e"},
        "voice-short": {"kind": "speaker", "encoder": "ge2e", "max_window_s": 4.0},
    },
    "codebook": {"k256": {}, "k32": {"num_codes": 32}},
    "pairs": {"knn4": {}, "knn8": {"k": 8}},
    "experiments": {
        "vocoder": {"system": "vocoder", "size": "nano"},
        "vocoder-other": {"system": "vocoder", "size": "nano", "vocoder": {"seed": 1}},
        "vocoder-mel": {"system": "vocoder", "size": "nano", "features": "mel"},
        "knnvc": {"system": "knnvc", "features": "world", "vocoder": "bundled:world"},
        "world": {"system": "world"},
        "world-twin": {"system": "world", "vocoder": {"seed": 1}},
        "palindromic": {"system": "palindromic", "size": "nano"},
        "palindromic-twin": {"system": "palindromic", "size": "nano", "revocoder": {"seed": 1}},
        "qrvc": {"system": "qrvc", "size": "nano"},
        "qrvc-twin": {"system": "qrvc", "size": "nano", "resynthesis": {"seed": 1}},
        "stepback": {"system": "stepback", "size": "nano"},
        "stepback-twin": {"system": "stepback", "size": "nano", "dual_flow": {"seed": 1}},
        "takin": {"system": "takin", "size": "nano", "content_training": "codec"},
        "takin-twin": {"system": "takin", "size": "nano", "content_training": "codec", "flow": {"seed": 1}},
        "takin-ppg": {"system": "takin", "size": "nano", "recognizer": "trained", "phones": "ppg"},
        "anchor": {"system": "anchor"},
    },
}


def record_run(root: Path, values: Mapping[str, Any] = STUDY) -> Graph:
    """Write the configuration and an empty artifact with a true record for every output of every job; in their order."""
    config = parse_config({**values, "results": str(root.parent), "run": root.name})
    root.mkdir(parents=True, exist_ok=True)
    write_text(root / "config.yaml", dump_config(config))
    graph = Graph.of_run(root)
    for job in graph.jobs():
        identity = identity_of(job)
        for path in sorted(job.outputs.values(), key=lambda path: path.suffix == ".parquet"):
            _write(path, identity)
    return graph


def identity_of(job: Job) -> Identity:
    """What a job records: its parameters, and digests of its inputs."""
    tracked = {role: files for role, files in job.inputs.items() if role not in job.untracked}
    weights = {"weights_sha256": stable_hash(job.options)} if "encoder" in job.untracked else {}
    return Identity(job.stage, stage_version(job.stage), {**job.params, **weights}, input_digests(tracked))


def _write(path: Path, identity: Identity) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        write_table(path, pa.table({"utt_id": [path.stem]}), identity)
    elif path.suffix == ".npy":
        np.save(path, np.zeros(1, np.float16))
    elif path.suffix == ".safetensors":
        save_file({"empty": np.zeros(1, np.float32)}, path, metadata={IDENTITY_KEY.decode(): identity.to_json()})
    else:
        path.write_text("{}\n", encoding="utf-8")


def with_option(values: Mapping[str, Any], experiment: str, path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """``values`` with one option of an experiment changed: ("converter", "layers")."""
    experiments = {**values["experiments"]}
    changed: Any = {path[-1]: value}
    for key in reversed(path[:-1]):
        changed = {key: changed}
    own = experiments[experiment]
    experiments[experiment] = {
        **own,
        **{
            key: {**own.get(key, {}), **item} if isinstance(item, dict) and key != "reuse" else item
            for key, item in changed.items()
        },
    }
    return {**values, "experiments": experiments}
