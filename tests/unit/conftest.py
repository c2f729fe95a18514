"""Fixtures that several unit tests share."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile


@pytest.fixture(scope="module")
def spoken(librispeech_mini: Path) -> list[tuple[np.ndarray, str]]:
    """The three shortest test utterances with their texts."""

    with open(librispeech_mini / "utterances.tsv", newline="", encoding="utf-8") as handle:
        rows = [row for row in csv.DictReader(handle, delimiter="\t") if row["split"] == "test"]
    rows.sort(key=lambda row: soundfile.info(librispeech_mini / row["path"]).frames)
    return [(soundfile.read(librispeech_mini / r["path"], dtype="float32")[0], r["text"]) for r in rows[4:7]]
