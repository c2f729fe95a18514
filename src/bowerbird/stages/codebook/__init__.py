"""Stage *codebook*."""

from __future__ import annotations

VERSION = 1
