"""An error of the operating system becomes one line with a hint; a mistake of the program stays an error of its own."""

from __future__ import annotations

import errno

import pytest
import torch

from bowerbird.cli import __main__ as cli
from bowerbird.cli import options
from bowerbird.cli.commands import Command
from bowerbird.errors import explain_fault


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/a/shard.npy"), "/a/shard.npy: no space left on the disk"),
        (OSError(errno.EROFS, "Read-only file system", "/a/b"), "/a/b: the file system is read-only"),
        (PermissionError(errno.EACCES, "Permission denied", "/a/b"), "/a/b: no permission"),
        (RuntimeError("Error writing: No space left on device"), "no space left on the disk"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "lower batch_size"),
        (MemoryError(), "out of memory; ask for more"),
    ],
)
def test_faults_of_the_machine_are_one_line(error: Exception, words: str) -> None:
    line = explain_fault(error)
    assert line is not None and words in line
    assert "\n" not in line


@pytest.mark.parametrize("error", [ValueError("shape"), FileNotFoundError(errno.ENOENT, "No such file"), KeyError("a")])
def test_mistakes_of_the_program_are_not_explained_away(error: Exception) -> None:
    assert explain_fault(error) is None


def test_a_gpu_out_of_memory_ends_a_command_with_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(files: list) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(Command, "load", lambda command: full)
    monkeypatch.setattr(options, "parse_call", lambda name, function, words, positional: {"files": []})
    assert cli.main(["config", "check"]) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("bowerbird config check: out of memory on the GPU (CUDA out of memory")
    assert "\n" not in printed[:-1]
