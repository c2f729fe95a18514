"""Synthetic training pairs by retrieval: each frame of a target utterance with its k nearest frames of a donor speaker.

Averaging what was retrieved says the target's words in the donor's voice (kNN-VC, Baas et al. 2023), frame by frame in
time with the target: parallel data that nobody recorded. Pairs are stored as *indices*; `PairShards.retrieved`
gathers the features.

    plan      who is paired with whom: donors, pools, prompts
    search    the neighbours
    quality   how good the pairs are, against a random control
"""

from __future__ import annotations

VERSION = 2
