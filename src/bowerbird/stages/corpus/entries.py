"""What a corpus lists: the utterances that its files name, and those that are set aside."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Refusal:
    """A file that is set aside, with the reason."""

    utt_id: str
    path: str
    reason: str
    detail: str = ""


@dataclass(frozen=True)
class CorpusEntry:
    """One utterance as its corpus lists it.

    ``path`` is relative to the corpus root, or absolute; it may end in a span (`bowerbird.stages.corpus.spans`).
    """

    utt_id: str
    speaker: str
    path: str
    gender: str = ""
    language: str = ""
    session: str = ""
    text: str = ""
    split: str = ""


Listing = tuple[Path, list[CorpusEntry], list[Refusal]]  # root folder, utterances, and what is set aside
