"""Errors that a user can act on, and one-line messages for faults of the operating system."""

from __future__ import annotations

import errno


class BowerbirdError(Exception):
    """An error the user can act on: shown as one line (what, which value, a hint), never as a traceback."""


_HINTS = {
    errno.ENOSPC: "no space left on the disk; nothing half-written is left, free some space and run again",
    errno.EDQUOT: "the quota is used up; nothing half-written is left, free some space and run again",
    errno.EFBIG: "larger than a file may be here (ulimit -f, or the file system); raise it, or use more shards",
    errno.EROFS: "the file system is read-only; write elsewhere (results: in the configuration, or BOWERBIRD_RESULTS)",
    errno.EACCES: "no permission; look at its owner and mode, or write elsewhere",
    errno.EPERM: "not permitted; look at its owner and mode, or write elsewhere",
    errno.ESTALE: "the shared file system lost it (stale handle); run again",
    errno.EIO: "the disk reports an error in reading or writing; look at the machine's log before running again",
    errno.EMFILE: "too many open files (ulimit -n); raise it, or use fewer shards",
}


_IN_TEXT = {"No space left on device": errno.ENOSPC, "Read-only file system": errno.EROFS, "Disk quota": errno.EDQUOT}


def explain_fault(error: BaseException) -> str | None:
    """One line for a fault of the machine, naming the file where it is known; None for any other error."""
    if type(error).__name__ == "OutOfMemoryError":  # torch's, without importing it
        return (
            f"out of memory on the GPU ({str(error).splitlines()[0]}); lower batch_size or raise accumulate (training), "
            "lower runtime.batch_s (features), or take a larger GPU; checkpoints are kept, run again"
        )
    if isinstance(error, MemoryError):
        return "out of memory; ask for more (mem_mb in the profile), or use more shards"
    number = error.errno if isinstance(error, OSError) else None
    if number not in _HINTS:
        number = next((code for words, code in _IN_TEXT.items() if words in str(error)), None)
    if number is None:
        return None
    name = getattr(error, "filename", None)
    return f"{f'{name}: ' if name else ''}{_HINTS[number]} ({' '.join(str(error).split())})"
