"""Stage *features*: an encoder over the audio shards, float16 on disk; 50 frames per second, or one row per utterance."""

from __future__ import annotations

VERSION = 1
