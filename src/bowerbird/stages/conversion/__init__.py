"""Stage *conversion*."""

from __future__ import annotations

VERSION = 2  # of the stage: raised when the same trial gives other bytes
