"""What diagnostics find, and the ways to name a variant and a frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bowerbird.errors import BowerbirdError
from bowerbird.inspection.statistics import NeighborFrame

KINDS = ("features", "codebook", "pairs")


@dataclass(frozen=True)
class Panel:
    """A picture: ``draw`` draws it on matplotlib axes."""

    draw: Callable[[Any], None]
    caption: str


@dataclass
class Diagnostics:
    """What was found in one variant. ``stats`` are sentences by heading; ``hubs`` are frames with how often each is retrieved.

    ``asked`` is the frame whose ``neighbors`` were looked up, None where none was; ``asked_note`` says what they are.
    """

    kind: str
    name: str
    stats: dict[str, str] = field(default_factory=dict)
    panels: list[Panel] = field(default_factory=list)
    hubs: list[tuple[NeighborFrame, int]] = field(default_factory=list)
    asked: NeighborFrame | None = None
    asked_note: str = ""
    neighbors: list[NeighborFrame] = field(default_factory=list)


def split_frame(frame: str) -> tuple[str, int]:
    """Utterance and number of ``UTTERANCE:NUMBER``; an error, in the words of ``--frame``, where it is not of that form."""
    utt_id, _, number = frame.rpartition(":")
    if not utt_id or not number.isdecimal():
        raise BowerbirdError(f"--frame: {frame!r}: give an utterance and a frame of it, 20 ms each: UTTERANCE:NUMBER")
    return utt_id, int(number)


def variant_of(path: Path, root: Path) -> tuple[str, str]:
    """(kind, variant) of a path of features, codebook or pairs below ``root``; ("", "") of any other."""
    parts = path.relative_to(root).parts
    return (parts[0], parts[1]) if len(parts) > 1 and parts[0] in KINDS else ("", "")
