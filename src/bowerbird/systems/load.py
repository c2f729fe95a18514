"""A system by its options: its package is imported when it is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path

import torch

from bowerbird.config.systems.base import ExperimentBase
from bowerbird.systems.base import System


def load_system(experiment: ExperimentBase, models: Mapping[str, Path], device: torch.device | str = "cpu") -> System:
    """The system of ``experiment``, ready to convert, with its ``models`` (folders by role) on ``device``."""
    module = importlib.import_module(f"{experiment.package()}.system")
    return module.SYSTEM.load(experiment, models, torch.device(device))
