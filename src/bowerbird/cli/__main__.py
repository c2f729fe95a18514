"""The console script: ``bowerbird COMMAND ...``."""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence

from bowerbird.cli.commands import COMMANDS, overview, split_command
from bowerbird.errors import BowerbirdError, explain_fault


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code (1: an error the user can act on, 75: preempted, run again)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        print(overview())
        return 0
    if words[0] == "--version":
        print(importlib.metadata.version("bowerbird"))
        return 0
    name, rest = split_command(words)
    if not name:
        return _unknown(words)
    _limit_threads(rest)
    _start_logging()
    try:
        from bowerbird.cli.options import parse_call  # it loads the configuration's models, which --help does not need

        command = COMMANDS[name]
        function = command.load()
        call = parse_call(name, function, rest, command.positional)
        threading.excepthook = _thread_stopped
        with _sigterm_raises():
            result = function(**call)
    except BowerbirdError as error:
        print(f"bowerbird {name}: {error}", file=sys.stderr)
        return 1
    except Exception as error:
        line = explain_fault(error)
        if line is None:
            raise
        print(f"bowerbird {name}: {line}", file=sys.stderr)
        return 1
    return result if isinstance(result, int) else 0


def _unknown(words: list[str]) -> int:
    from bowerbird.config.messages import nearest

    given = " ".join(words[:2]) if any(name.startswith(f"{words[0]} ") for name in COMMANDS) else words[0]
    print(f"bowerbird: {given!r}: no such command{nearest(given, COMMANDS)}", file=sys.stderr)
    return 2


def _start_logging() -> None:
    logging.basicConfig(
        level=os.environ.get("BOWERBIRD_LOG", "INFO").upper(),
        stream=sys.stderr,
        format="%(asctime)s %(levelname).1s %(name)s: %(message)s",
        datefmt="%H:%M:%S",
    )
    for noisy in ("httpx", "matplotlib", "numba", "fsspec", "urllib3", "filelock"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _thread_stopped(arguments: threading.ExceptHookArgs) -> None:
    """One line for a thread of a library that an operating-system error ends (TensorBoard's writer on a full disk)."""
    line = explain_fault(arguments.exc_value) if arguments.exc_value else None
    if line is None:
        threading.__excepthook__(arguments)
    else:
        logging.getLogger(__name__).error("%s: %s", getattr(arguments.thread, "name", "a thread"), line)


@contextlib.contextmanager
def _sigterm_raises() -> Iterator[None]:
    """SIGTERM ends the command by an exception, so that temporary files are removed (training saves instead)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _limit_threads(words: Sequence[str]) -> None:
    """Numerical libraries read these when they are first imported, so ``--threads`` must reach them before."""
    threads = words[words.index("--threads") + 1] if "--threads" in words[:-1] else "1"
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = threads
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


if __name__ == "__main__":
    sys.exit(main())
