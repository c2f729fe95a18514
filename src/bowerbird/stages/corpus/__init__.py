"""Stage *corpus*: a folder of speech becomes a manifest, audio shards at 16 kHz, and a list of trials.

Every refused file is named with its reason; splits are by speaker; nothing depends on the order a disk lists its files
in, nor on where the corpus lies: the root of its paths is in the manifest's run record, not in the manifest.
"""

from __future__ import annotations

VERSION = 3
