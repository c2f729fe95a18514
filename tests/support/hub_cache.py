"""A model hub without a network: its local cache, filled by hand."""

from __future__ import annotations

import shutil
from pathlib import Path

import huggingface_hub.constants
import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def use_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make ``folder`` the hub's cache, and the hub unreachable."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder))
    return folder


def add_to_cache(cache: Path, hub_id: str, source: Path, *names: str, commit: str = COMMIT) -> Path:
    """Put files of ``source`` (all, if none are named) into the cache as what ``main`` of a repository is at ``commit``."""
    model = cache / f"models--{hub_id.replace('/', '--')}"
    snapshot = model / "snapshots" / commit
    snapshot.mkdir(parents=True, exist_ok=True)
    for name in names or [path.name for path in source.iterdir()]:
        shutil.copyfile(source / name, snapshot / name)
    (model / "refs").mkdir(exist_ok=True)
    (model / "refs/main").write_text(commit)
    return snapshot
