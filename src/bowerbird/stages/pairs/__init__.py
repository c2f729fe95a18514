"""Stage *pairs*: synthetic training pairs by retrieval, each frame of a target utterance with its k nearest frames of a donor.

The mean of what was retrieved has the target's words in the donor's voice (kNN-VC, Baas et al. 2023), frame by frame in time
with the target: parallel data that nobody recorded. Pairs are stored as *indices*; `bowerbird.artifacts.pairs.PairShards`
gathers the features.

    speech        utterances by speaker, with their frames
    pools         what is searched of a donor
    plan          the donor of each target utterance, and the prompt
    search        the neighbors
    frame_codes   a unit or a phone per frame
    quality       how good the pairs are, beside a random control
"""

from __future__ import annotations

VERSION = 2
