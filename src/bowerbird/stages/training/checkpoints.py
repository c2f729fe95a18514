"""Checkpoints: ``checkpoints/<recipe hash>/step-00000500/`` with ``tensors.safetensors`` and ``state.json``.

A checkpoint is written to a temporary folder and renamed, and its ``state.json`` holds digests of everything, so one
that was cut short or damaged is recognized and the one before it is taken.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from bowerbird.artifacts.files import file_sha256, write_json
from bowerbird.artifacts.identity import stable_hash

logger = logging.getLogger(__name__)

TEMPORARY = ".tmp-"  # begins the name of a checkpoint that is being written


@dataclass(frozen=True)
class TrainingState:
    """Everything that training needs to go on after ``step``."""

    step: int
    tensors: dict[str, Tensor]
    metrics: dict[str, Any]  # of the metrics logger, JSON values


class Checkpoints:
    """The checkpoints of one recipe."""

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder, self.keep = folder, keep

    def save(self, state: TrainingState) -> None:
        """Write a checkpoint whole or not at all; then remove all but the last ``keep`` up to its step."""
        final = self.folder / f"step-{state.step:08d}"
        temporary = self.folder / f"{TEMPORARY}{os.getpid()}-{final.name}"
        temporary.mkdir(parents=True, exist_ok=True)
        try:
            tensors = temporary / "tensors.safetensors"
            save_file({name: t.detach().cpu().clone() for name, t in state.tensors.items()}, tensors)
            _sync(tensors)
            body = {"step": state.step, "state": state.metrics, "tensors_sha256": file_sha256(tensors)}
            write_json(temporary / "state.json", {**body, "digest": stable_hash(body)})
            shutil.rmtree(final, ignore_errors=True)
            os.replace(temporary, final)
            _sync(self.folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        for older in [step for step in self.steps() if step <= state.step][: -self.keep]:
            shutil.rmtree(self.folder / f"step-{older:08d}", ignore_errors=True)

    def steps(self) -> list[int]:
        """Steps that have a checkpoint, sound or not, in order."""
        return sorted(int(p.name.removeprefix("step-")) for p in self.folder.glob("step-[0-9]*"))

    def latest(self, at_most: int) -> TrainingState | None:
        """The state in the last sound checkpoint up to step ``at_most``; None where there is none."""
        for step in reversed([step for step in self.steps() if step <= at_most]):
            path = self.folder / f"step-{step:08d}"
            try:
                return _load(path)
            except Exception as error:  # whatever is wrong with it, the one before is tried
                logger.warning("%s: damaged or incomplete checkpoint (%s); going back to the one before", path, error)
        return None

    def clean(self) -> None:
        """Remove what a killed process left half written."""
        for left in self.folder.glob(f"{TEMPORARY}*"):
            shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)


def _load(path: Path) -> TrainingState:
    """The state in a checkpoint; a ValueError where it does not agree with its digests."""
    content = json.loads((path / "state.json").read_text(encoding="utf-8"))
    digest = content.pop("digest")
    if digest != stable_hash(content):
        raise ValueError("state.json does not agree with its digest")
    tensors = path / "tensors.safetensors"
    if file_sha256(tensors) != content["tensors_sha256"]:
        raise ValueError("tensors.safetensors does not agree with its digest")
    return TrainingState(content["step"], load_file(tensors), content["state"])


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The state of an optimizer as tensors named ``<parameter number>/<name>``."""
    state: Mapping[int, Mapping[str, Any]] = optimizer.state_dict()["state"]
    return {
        f"{number}/{name}": torch.as_tensor(value)
        for number, values in state.items()
        for name, value in values.items()
        if value is not None
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` gave; hyper-parameters stay as the optimizer was made."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        number, name = key.split("/", 1)
        state.setdefault(int(number), {})[name] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
