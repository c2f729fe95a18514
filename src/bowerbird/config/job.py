"""One call of a stage command: what it writes, from what, with which parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bowerbird.config.base import ModelReference


@dataclass(frozen=True)
class Job:
    """One call of a stage command.

    ``inputs`` are files by role, in the order that their digest is taken in; a role without files is empty. ``params`` is
    what the output depends on besides them, by the names that its record uses; ``models`` are the folders of its models by
    role, for those that lie on this machine. ``options`` is the part of the command line that carries the parameters.
    """

    command: str
    stage: str
    variant: str
    outputs: Mapping[str, Path]
    inputs: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    models: Mapping[str, Path | ModelReference] = field(default_factory=dict)
    options: str = ""

    @property
    def rule(self) -> str:
        """The rule that runs the command."""
        return self.command.replace("-", "_")

    @property
    def files(self) -> list[Path]:
        """All input files, each once."""
        return list(dict.fromkeys(path for paths in self.inputs.values() for path in paths))

    @property
    def model_options(self) -> str:
        """The models as command-line words, ``--models role=FOLDER ...``; "" without models."""
        words = [f"{role}={model}" for role, model in self.models.items()]
        return " ".join(["--models", *words]) if words else ""
