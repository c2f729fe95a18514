"""Stage *training*: one stage of one system, from shards to a model folder."""

from __future__ import annotations

VERSION = 2  # of the stage: raised when the same inputs give other weights
PREEMPTED = 75  # exit code (EX_TEMPFAIL): stopped by a signal, saved; run again
