"""The codebook on disk: ``centroids.safetensors``."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from bowerbird.artifacts.files import atomic_path
from bowerbird.artifacts.identity import IDENTITY_KEY, Identity, canonical_json
from bowerbird.errors import BowerbirdError


@dataclass(frozen=True)
class Codebook:
    """Centroids ``(K, dim)`` float32, their sizes and inertia on the sample, and the statistics of the fit."""

    centroids: np.ndarray
    sizes: np.ndarray
    inertia_per_cluster: np.ndarray
    stats: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def load(cls, path: str | Path) -> Codebook:
        """Read ``centroids.safetensors``."""
        if not Path(path).exists():
            raise BowerbirdError(f"{path}: no such codebook; run fit-codebook first")
        try:
            with safe_open(path, framework="np") as file:
                tensors = {name: file.get_tensor(name) for name in ("centroids", "sizes", "inertia_per_cluster")}
                record = json.loads((file.metadata() or {}).get(IDENTITY_KEY.decode(), "{}"))
        except (SafetensorError, OSError) as error:
            raise BowerbirdError(f"{path}: not a codebook ({error}); delete it and run fit-codebook again") from error
        return cls(**tensors, stats=record.get("facts", {}))

    def save(self, path: str | Path, identity: Identity) -> None:
        """Write atomically; the same codebook gives the same bytes."""
        tensors = {"centroids": self.centroids, "sizes": self.sizes, "inertia_per_cluster": self.inertia_per_cluster}
        metadata = {IDENTITY_KEY.decode(): canonical_json({**identity.as_dict(), "facts": self.stats})}
        with atomic_path(path, seal=True) as temporary:
            save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, temporary, metadata)
