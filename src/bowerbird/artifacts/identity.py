"""What an artifact says of itself: what determined its bytes, and how it was made.

Two records go with every artifact:

* its **identity** (stage, version, parameters, digests of its inputs) is written *into* the file, and depends on
  nothing but what determines the bytes: the same study made twice gives the same files, byte for byte;
* its **run record** (when, where, how long, library versions, git revision, peak memory) lies beside it as
  ``<name>.run.json`` and is never part of a comparison.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import platform
import resource
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bowerbird.artifacts.files import file_sha256, write_json
from bowerbird.config.shard_names import index_path

IDENTITY_KEY = b"bowerbird"
_LIBRARIES = ("bowerbird", "numpy", "torch", "torchaudio", "transformers", "faiss-cpu", "pyarrow", "soundfile", "soxr")


def canonical_json(value: Any) -> str:
    """JSON that is the same for equal values: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def stable_hash(value: Any) -> str:
    """First 16 hex digits of the SHA-256 of ``canonical_json(value)``."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Identity:
    """What determines the bytes of an artifact.

    ``inputs`` maps a role ("manifest", "features") to the digest of what was read in that role (`inputs_digest`).
    """

    stage: str
    version: int
    params: Mapping[str, Any]
    inputs: Mapping[str, str] = field(default_factory=dict)

    @property
    def params_hash(self) -> str:
        """Hash of the parameters alone."""
        return stable_hash(dict(self.params))

    @property
    def hash(self) -> str:
        """One name for the whole recipe: stage, version, parameters and inputs."""
        return stable_hash(self.as_dict())

    def as_dict(self) -> dict[str, Any]:
        """The identity as JSON values."""
        return {
            "stage": self.stage,
            "version": self.version,
            "params": dict(self.params),
            "params_hash": self.params_hash,
            "inputs": dict(self.inputs),
        }

    def to_json(self) -> str:
        """The identity as canonical JSON, which artifacts carry."""
        return canonical_json(self.as_dict())


def inputs_digest(paths: list[Path] | list[str]) -> str:
    """One digest for a list of input files, by the order given.

    A ``.npy`` shard is not read: its index (the ``.parquet`` beside it) records the array's SHA-256, so the digest of
    the index stands for both.
    """
    digests = []
    for path in map(Path, paths):
        beside = index_path(path)
        digests.append(file_sha256(beside if path.suffix == ".npy" and beside.exists() else path))
    return stable_hash(digests)


def input_digests(files: Mapping[str, Sequence[Path]]) -> dict[str, str]:
    """The inputs of an `Identity`: one digest for the files of each role, in their order; roles without files are left out."""
    return {role: inputs_digest(list(paths)) for role, paths in files.items() if paths}


class RunRecord:
    """Measures one stage run from its creation on, and writes ``<artifact>.run.json`` beside an artifact."""

    def __init__(self, device: str = "cpu", dtype: str = "") -> None:
        self.device, self.dtype = device, dtype
        self.extra: dict[str, Any] = {}
        self._start = time.perf_counter()
        self._started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())

    def as_dict(self) -> dict[str, Any]:
        """The record as JSON values, up to now."""
        return {
            "started": self._started,
            "seconds": round(time.perf_counter() - self._start, 3),
            "peak_memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
            "host": platform.node(),
            "python": platform.python_version(),
            "device": self.device,
            "dtype": self.dtype,
            "git_revision": git_revision(),
            "libraries": library_versions(),
            **self.extra,
        }

    def write(self, artifact: str | os.PathLike[str], identity: Identity | None = None) -> None:
        """Write the record beside ``artifact`` (call it before the artifact itself is renamed into place)."""
        record = self.as_dict()
        if identity is not None:
            record["identity"] = identity.as_dict()
        record["digest"] = record_digest(record)
        write_json(run_record_path(artifact), record)


def run_record_path(artifact: str | os.PathLike[str]) -> Path:
    """Where the run record of ``artifact`` lies."""
    path = Path(artifact)
    return path.with_name(path.name + ".run.json")


def record_digest(record: Mapping[str, Any]) -> str:
    """Digest of a run record's content, without the digest it carries itself."""
    body = {key: value for key, value in record.items() if key != "digest"}
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:16]


def library_versions() -> dict[str, str]:
    """Installed versions of the libraries whose version can change results."""
    versions = {}
    for name in _LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def git_revision() -> str:
    """Commit of the checkout this package runs from, ``+`` where it has uncommitted changes; "" outside one."""
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists():
        return ""
    try:
        command = ["git", "-C", str(root), "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
