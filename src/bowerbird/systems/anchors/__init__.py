"""Anchors: bounds that are scored like a system, by the same code, on the same trials. Nothing is converted or trained.

    ground-truth     the source itself: the best intelligibility, prosody and quality; no conversion at all
    heldout-target   the target's held-out utterance: the best similarity; it has other words than the source
    random-speaker   an utterance of a third speaker: the similarity of two different speakers

The anchor of a vocoder, copy synthesis of the source, is the system ``vocoder``.
"""
