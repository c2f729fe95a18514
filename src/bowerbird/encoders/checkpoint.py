"""The one door to pretrained weights."""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from bowerbird.artifacts.files import file_sha256
from bowerbird.config.paths import bundled
from bowerbird.errors import BowerbirdError

logger = logging.getLogger(__name__)

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")


@dataclass(frozen=True)
class Checkpoint:
    """The files of one model. It is loaded from ``folder``, so what is hashed is what runs."""

    name: str  # hub id, bundled:NAME, or the name of a local directory
    revision: str  # commit of a hub id, else ""
    folder: Path
    weights: tuple[Path, ...]

    @property
    def safetensors(self) -> bool:
        return self.weights[0].suffix == ".safetensors"

    @property
    def weights_sha256(self) -> str:
        """SHA-256 of the weights file; of the list of hashes where there are several."""
        digests = [_sha256(path, path.stat().st_mtime_ns) for path in self.weights]
        return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()

    @property
    def config_sha256(self) -> str:
        return file_sha256(self.folder / "config.json")


@functools.cache
def _sha256(path: Path, modified: int) -> str:
    """Weights of a gigabyte take seconds to read: a file is hashed once, and again only after a change."""
    return file_sha256(path)


def find_checkpoint(spec: str, revision: str = "", key: str = "features") -> Checkpoint:
    """Find ``spec``: bundled:NAME, a local directory, or a hub id (in the cache, or downloaded)."""
    source = Path(bundled(spec)).expanduser()
    if source.is_dir():
        if not (source / "config.json").is_file():
            raise BowerbirdError(
                f"{key}.encoder: {spec}: no config.json in this directory; is it a transformers model?"
            )
        name = spec if spec.startswith("bundled:") else source.resolve().name
        return Checkpoint(name, "", source, weight_files(source, spec, key))
    if spec.startswith((".", "/", "~")) or spec.count("/") > 1:
        raise BowerbirdError(f"{key}.encoder: {spec}: no such directory")
    if not revision:
        logger.warning("%s.encoder: %s without `revision`: the hub may change it; pin its commit", key, spec)
    folder = _snapshot(spec, revision, key)
    return Checkpoint(spec, folder.name, folder, weight_files(folder, spec, key))


def _snapshot(spec: str, revision: str, key: str) -> Path:
    """The folder of a hub id in the local cache with its config and weights, safetensors where it has them."""
    from huggingface_hub import hf_hub_download, snapshot_download

    try:
        config = Path(hf_hub_download(spec, "config.json", revision=revision or None))
        for patterns in (("model*.safetensors", "model.safetensors.index.json"), ("pytorch_model*.bin*",)):
            folder = Path(snapshot_download(spec, revision=config.parent.name, allow_patterns=list(patterns)))
            if any((folder / name).exists() for name in WEIGHTS):
                break
    except (OSError, ValueError) as error:
        offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0") else ""
        raise BowerbirdError(
            f"{key}.encoder: {spec}: no such directory here, nor in the hub's cache, and the hub did not give it"
            f"{offline}: {str(error).strip().splitlines()[0]}; give a directory with config.json and "
            "model.safetensors, or fetch it where there is a network"
        ) from None
    return folder


def weight_files(folder: Path, spec: str, key: str) -> tuple[Path, ...]:
    """The weights in ``folder``, safetensors before anything else; all of them where they are in several files."""
    for name in WEIGHTS:
        path = folder / name
        if not path.is_file():
            continue
        parts = sorted(set(json.loads(path.read_text())["weight_map"].values())) if path.suffix == ".json" else [name]
        absent = [part for part in parts if not (folder / part).is_file()]
        if absent:
            raise BowerbirdError(f"{key}.encoder: {spec}: {name} names {absent[0]}, which is not there")
        return tuple(folder / part for part in parts)
    raise BowerbirdError(f"{key}.encoder: {spec}: no weights there; looked for {', '.join(WEIGHTS)}")
