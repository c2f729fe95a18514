"""Stage *features*: one layer of a self-supervised encoder, 50 frames a second, float16 on disk."""

from __future__ import annotations

VERSION = 1
