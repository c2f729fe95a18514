"""Artifacts on disk: written whole or not at all, and each says what it is.

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
import secrets
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

IDENTITY_KEY = b"bowerbird"
_LIBRARIES = ("bowerbird", "numpy", "torch", "torchaudio", "transformers", "faiss-cpu", "pyarrow", "soundfile", "soxr")


class BowerbirdError(Exception):
    """An error the user can act on: shown as one line (what, which value, a hint), never as a traceback."""


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str], seal: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success fsync it and rename it to ``path``, otherwise remove it.

    The temporary name keeps the suffix of ``path`` (writers choose a format by it) and starts with ``.tmp-``. With
    ``seal`` its digest is written beside it (`write_seal`), where no other record holds it.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.parent / f".tmp-{os.getpid()}-{secrets.token_hex(4)}-{final.name}"
    try:
        yield temporary
        with open(temporary, "rb+") as handle:
            os.fsync(handle.fileno())
        if seal:
            write_seal(final, {final.name: file_sha256(temporary)})
        os.replace(temporary, final)
        _fsync_directory(final.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _fsync_directory(folder: Path) -> None:
    """Make a rename in ``folder`` durable; file systems that cannot sync a directory are left alone."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


SEAL = ".sha256"  # ends the name of a hidden file beside a sealed artifact; no pattern for artifacts matches it


def seal_path(artifact: str | os.PathLike[str]) -> Path:
    """Where the digests of ``artifact`` (and of what belongs to it) lie: ``cd folder && sha256sum -c .*.sha256``."""
    path = Path(artifact)
    return path.with_name(f".{path.name}{SEAL}")


def write_seal(artifact: str | os.PathLike[str], digests: Mapping[str, str]) -> None:
    """Record SHA-256 digests by path from the artifact's folder, as ``sha256sum`` writes them."""
    write_text(seal_path(artifact), "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items())))


def read_seal(seal: Path) -> dict[str, str]:
    """Digests by path from the seal's folder."""
    lines = seal.read_text(encoding="utf-8", errors="replace").splitlines()
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def write_text(path: str | os.PathLike[str], text: str, seal: bool = False) -> None:
    """Write UTF-8 ``text`` to ``path`` atomically."""
    with atomic_path(path, seal) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike[str], value: Any, seal: bool = False) -> None:
    """Write ``value`` as indented JSON with sorted keys to ``path`` atomically."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n", seal)


def canonical_json(value: Any) -> str:
    """JSON that is the same for equal values: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def stable_hash(value: Any) -> str:
    """First 16 hex digits of the SHA-256 of ``canonical_json(value)``."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:16]


def file_sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of the bytes of ``path``, in hex."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


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
        return stable_hash(dict(self.params))

    @property
    def hash(self) -> str:
        """One name for the whole recipe: stage, version, parameters and inputs."""
        return stable_hash(self.as_dict())

    def as_dict(self) -> dict[str, Any]:
        return {
            "stage": self.stage,
            "version": self.version,
            "params": dict(self.params),
            "params_hash": self.params_hash,
            "inputs": dict(self.inputs),
        }

    def to_json(self) -> str:
        return canonical_json(self.as_dict())


def inputs_digest(paths: list[Path] | list[str]) -> str:
    """One digest for a list of input files, by the order given.

    A ``.npy`` shard is not read: its index (the ``.parquet`` beside it) records the array's SHA-256, so the digest of
    the index stands for both.
    """
    digests = []
    for path in map(Path, paths):
        beside = path.with_suffix(".parquet")
        digests.append(file_sha256(beside if path.suffix == ".npy" and beside.exists() else path))
    return stable_hash(digests)


class RunRecord:
    """Measures one stage run (``with RunRecord() as record``) and writes ``<artifact>.run.json`` beside an artifact."""

    def __init__(self, device: str = "cpu", dtype: str = "") -> None:
        self.device, self.dtype = device, dtype
        self.extra: dict[str, Any] = {}
        self._start = time.perf_counter()
        self._started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())

    def __enter__(self) -> RunRecord:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def as_dict(self) -> dict[str, Any]:
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
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return ""
    try:
        command = ["git", "-C", str(root), "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def as_plain(value: Any) -> Any:
    """Dataclasses, mappings and sequences as plain JSON values."""
    if hasattr(value, "__dataclass_fields__"):
        return as_plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): as_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return value
