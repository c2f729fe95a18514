"""Stage *corpus*: a corpus on disk as a manifest, audio shards at 16 kHz, and a list of trials.

Every refused file is named with its reason; splits are by speaker. Nothing depends on the order in which a disk lists its
files, nor on where the corpus lies: the root of its paths is in the manifest's run record, not in the manifest.

    readers, entries           layouts on disk, and what they list
    checks, truncation, spans  which files and segments can be used
    manifest, splits           `list-corpus`
    store                      `store-audio`
    trials, trial_rows         `list-trials`: drawn (draw_trials) or from a published list (lists)
"""

from __future__ import annotations

VERSION = 4
