"""Parts of recordings: ``calls/a.wav#t=1.5,4`` in a manifest is from 1.5 s to 4 s of that file.

Letter: ``N`` samples.
"""

from __future__ import annotations

import re

import numpy as np

SPAN = re.compile(r"(?P<file>.+)#t=(?P<start>\d+(?:\.\d+)?)(?:,(?P<end>\d+(?:\.\d+)?))?")
Span = tuple[float, float | None]  # start and end in seconds; None is the end of the file
WHOLE: Span = (0.0, None)


def split_span(path: str) -> tuple[str, Span]:
    """The file of a manifest path, and the span of it."""
    match = SPAN.fullmatch(path)
    if match is None:
        return path, WHOLE
    return match["file"], (float(match["start"]), float(match["end"]) if match["end"] else None)


def cut_span(wave: np.ndarray, rate: int, span: Span) -> np.ndarray:
    """The samples of a span of ``wave (N,)`` at ``rate`` Hz; one that ends past the recording ends with it."""
    start, end = span
    return wave[round(start * rate) : None if end is None else round(end * rate)]
