"""Stage *training*."""

from __future__ import annotations

VERSION = 1


PREEMPTED = 75  # exit code (EX_TEMPFAIL): stopped by a signal, saved; run again
