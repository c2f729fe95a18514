"""A folder of labeled speech, as `make_speech`, `make_robot_speech` and `label_speech` write it and `train_encoder` reads it.

``NAME.flac`` is an utterance at 16 kHz, ``NAME.json`` beside it says what is spoken and when ({"text": ..., "phones":
[[phone, start_s, end_s], ...]}), and ``utterances.tsv`` lists all of them. The table is written last: where it is, the
folder is whole. A run that was stopped before goes on after the last utterance that is there.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tables import UTTERANCES, write_table

Times = Sequence[tuple[str, float, float]]  # of phones: name, start and end in seconds


def write_label(path: Path, text: str, phones: Times, speaker: str = "") -> None:
    """Write the label of one utterance to ``path`` (NAME.json)."""
    named = {"speaker": speaker} if speaker else {}
    path.write_text(json.dumps({"text": text, **named, "phones": phones}))


def list_labels(folder: Path) -> int:
    """Write the table over the labels in ``folder``; returns how many there are."""
    rows = [(path.stem, json.loads(path.read_text())["text"]) for path in sorted(folder.glob("*.json"))]
    write_table(folder / UTTERANCES, ("utt_id", "text"), rows)
    return len(rows)
