"""Numbers and names as a page shows them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

from bowerbird.metrics.registry import NO_VALUE


def number(value: float | None, digits: int = 3) -> str:
    """A number with ``digits`` significant digits and its thousands apart; a dash where there is no value."""
    if value is None or not math.isfinite(value):
        return NO_VALUE
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}".replace(",", "\u202f")
    if abs(value) >= 10**digits:
        return f"{value:,.0f}".replace(",", "\u202f")
    places = max(0, digits - 1 - (math.floor(math.log10(abs(value))) if abs(value) >= 1e-4 else -4))
    return f"{value:.{min(places, 6)}f}"


def duration(seconds: float | None) -> str:
    """Seconds as ``7.1 s``, ``3 min 20 s`` or ``5 h 03 min``; a dash where there is no value."""
    if seconds is None or not math.isfinite(seconds):
        return NO_VALUE
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min {rest:02d} s"


def size(mebibytes: float) -> str:
    """Mebibytes as ``240 KiB``, ``12.3 MiB`` or ``1.2 GiB``."""
    if mebibytes < 1:
        return f"{mebibytes * 1024:.0f} KiB"
    return f"{mebibytes:.1f} MiB" if mebibytes < 1024 else f"{mebibytes / 1024:.1f} GiB"


def words(name: str) -> str:
    """A name with spaces in the place of underscores."""
    return name.replace("_", " ")


def slug(name: str) -> str:
    """A name that is safe in a file's name, in a link and as an id of the page."""
    return re.sub(r"[^A-Za-z0-9-]+", "-", name).strip("-") or "x"


FILTERS: dict[str, Callable[..., Any]] = {
    "number": number,
    "duration": duration,
    "size": size,
    "words": words,
    "slug": slug,
}  # of the templates
