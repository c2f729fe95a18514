"""Files that are written whole or not at all, and the digests that seal them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


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


def file_sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of the bytes of ``path``, in hex."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
