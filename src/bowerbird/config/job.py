"""One call of a stage command: what it writes, from what, with which parameters."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bowerbird.config.base import ModelReference


@dataclass(frozen=True)
class Job:
    """One call of a stage command.

    ``inputs`` are files by role, in the order that their digest is taken in; a role without files is empty. ``params`` is
    what the output depends on besides them, by the names that its record uses. ``models`` are its models by role: folders, or
    references to bundled models and to those of a hub. ``options`` is the part of the command line that carries the
    parameters. ``untracked`` roles are identified in the record by other means than a digest of their files (an encoder by
    the digest of its weights). ``folder`` is a folder whose other files the command writes too.
    """

    command: str
    stage: str
    variant: str
    outputs: Mapping[str, Path]
    inputs: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    models: Mapping[str, Path | ModelReference] = field(default_factory=dict)
    options: str = ""
    untracked: frozenset[str] = frozenset()
    folder: Path | None = None

    @property
    def rule(self) -> str:
        """The rule that runs the command."""
        return self.command.replace("-", "_")

    @property
    def files(self) -> list[Path]:
        """All input files, each once."""
        return list(dict.fromkeys(path for paths in self.inputs.values() for path in paths))

    @property
    def input_files(self) -> dict[str, list[str]]:
        """Input files as text by role; roles without files are left out."""
        return {role: [str(path) for path in paths] for role, paths in self.inputs.items() if paths}

    @property
    def input_options(self) -> str:
        """The inputs as command-line words: ``--features A B --models vocoder=FOLDER``.

        A model goes by its folder; the one that a stage starts from is among the options.
        """
        words: list[str] = []
        for role, paths in self.inputs.items():
            if paths and role not in self.models and role != "start":
                words += [f"--{role.replace('_', '-')}", *map(str, paths)]
        if self.models:
            words += ["--models", *(f"{role}={model}" for role, model in self.models.items())]
        return shlex.join(words)
