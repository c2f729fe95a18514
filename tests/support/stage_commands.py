"""The stages' own commands, taken from a finished run, to be run one by one in a copy of it.

Each runs in a process of its own, forked from one that has imported every stage: what takes seconds is done once.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import resource
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.context import ForkServerContext
from multiprocessing.forkserver import ensure_running
from pathlib import Path

from bowerbird.cli.commands import STAGE_COMMANDS

RULES = tuple(name.replace("-", "_") for name in STAGE_COMMANDS)


@functools.cache
def _forks() -> ForkServerContext:
    """Processes of this context are forked from one that has imported ``preload_stages``."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["preload_stages"])
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *([before] if before else [])])
    try:
        ensure_running()
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
    return context


def _run(words: Sequence[str], root: Path, environment: Mapping[str, str], errors, most_bytes: int | None) -> None:
    """In the new process: the command, its standard error going to the pipe ``errors``."""
    from bowerbird.cli.__main__ import main

    assert "preload_stages" in sys.modules
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(root)
    os.dup2(errors.fileno(), 2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if most_bytes is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that a write fails instead
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
    sys.exit(main(words))


class Running:
    """A command at work."""

    def __init__(self, *arguments) -> None:
        words, root, environment, most_bytes = arguments
        ours, theirs = _forks().Pipe(duplex=False)
        self.process = _forks().Process(target=_run, args=(words, root, environment, theirs, most_bytes))
        self.process.start()
        theirs.close()
        self._errors = bytearray()
        self._reader = threading.Thread(target=self._read, args=(ours,))
        self._reader.start()

    def _read(self, pipe) -> None:
        with pipe:
            while part := os.read(pipe.fileno(), 65536):
                self._errors += part

    def is_running(self) -> bool:
        return self.process.is_alive()

    def send_signal(self, number: int) -> None:
        if self.process.is_alive():
            os.kill(self.process.pid, number)

    def finish(self, seconds: float = 300) -> tuple[int, str]:
        """Exit code (the negative number of a signal) and standard error, once it has ended."""
        self.process.join(seconds)
        assert not self.process.is_alive(), f"still running after {seconds:g} s: {self._errors[-2000:]!r}"
        self._reader.join(10)
        return self.process.exitcode, self._errors.decode(errors="replace")


@dataclass(frozen=True)
class Stage:
    """One command of a finished run, in a copy of that run; its first word is the stage command."""

    root: Path
    environment: dict[str, str]
    words: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.words[0]

    def start(self, most_bytes: int | None = None) -> Running:
        """Start it; ``most_bytes`` is the size that no file may exceed."""
        return Running(self.words, self.root, self.environment, most_bytes)

    def run(self, most_bytes: int | None = None) -> tuple[int, str]:
        return self.start(most_bytes).finish()

    def option(self, name: str) -> Path:
        return self.root / self.words[self.words.index(name) + 1]

    @property
    def output(self) -> Path:
        return self.option("--manifest" if self.name == "list-corpus" else "--output")

    def with_options(self, **values: str) -> Stage:
        words = list(self.words)
        for name, value in values.items():
            words[words.index(f"--{name.replace('_', '-')}") + 1] = value
        return replace(self, words=tuple(words))

    def written(self) -> dict[str, bytes]:
        """What lies in the output's folder: artifacts, not what tells of a run."""
        told = {"checkpoints", "tensorboard"}
        files = [p for p in sorted(self.output.parent.rglob("*")) if p.is_file() and not told & set(p.parts)]
        return {str(p): p.read_bytes() for p in files if not p.name.endswith(".run.json") and p.name != "index.html"}

    def litter(self) -> list[Path]:
        return sorted(self.output.parent.rglob(".tmp-*"))
