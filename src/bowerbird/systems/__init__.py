"""Systems by name: one file a paper, imported only when it is asked for."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bowerbird.artifacts import BowerbirdError

if TYPE_CHECKING:
    import torch

    from bowerbird.systems.base import System

# system -> (module below bowerbird.systems, class)
SYSTEMS: dict[str, tuple[str, str]] = {
    "knnvc": ("knnvc", "KnnVC"),
    "palindromic": ("palindromic", "Palindromic"),
    "qrvc": ("qrvc", "QrVC"),
    "stepback": ("stepback", "Stepback"),
    "takin": ("takin", "TakinVC"),
    "vocoder": ("vocoder", "VocoderSystem"),
    "anchor": ("anchor", "Anchor"),
}


def system_class(name: str) -> type[System]:
    """The class behind ``experiment.system``."""
    if name not in SYSTEMS:
        raise BowerbirdError(f"system: {name!r}: no such system; known: {', '.join(sorted(SYSTEMS))}")
    module, attribute = SYSTEMS[name]
    return getattr(importlib.import_module(f"bowerbird.systems.{module}"), attribute)


def load_system(experiment: Any, models: dict[str, Path], device: torch.device | str = "cpu") -> System:
    """The system of ``experiment``, ready to convert, with its ``models`` (role -> folder or file) on ``device``."""
    return system_class(experiment.system).load(experiment, models, device)
