"""Stage *conversion*."""

from __future__ import annotations

VERSION = 1  # of the stage: raised when the same trial gives other bytes
