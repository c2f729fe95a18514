"""Stage *report*."""

from __future__ import annotations

VERSION = 5
