"""Diagnostics of a variant of features, codebook or pairs: its statistics, its pictures, and frames to listen to.

A statistic stands beside what would be expected of sound data: without its chance level it tells nothing.

    result                      what is found, and how a frame is asked about
    features, codebook, pairs   what is measured of each kind
    sentences, panels           statistics as text, and as pictures
"""

from __future__ import annotations

from bowerbird.inspection.diagnostics.diagnose import diagnose
from bowerbird.inspection.diagnostics.result import KINDS, Diagnostics, Panel, split_frame, variant_of

__all__ = ["KINDS", "Diagnostics", "Panel", "diagnose", "split_frame", "variant_of"]
