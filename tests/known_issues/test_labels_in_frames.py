"""Phone labels given in frames were read as seconds: a whole utterance became silence, and training looked well.

The trainer of the nano encoder now refuses labels whose phones end before they start (a start and a *duration* in frames).
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from nano_recipe import import_script

encoder_batches = import_script("encoder_batches")


def write_labels(folder: Path, phones: list) -> None:
    soundfile.write(folder / "u.flac", np.zeros(16000, np.int16), 16000)
    (folder / "u.json").write_text(json.dumps({"phones": phones}))


def test_labels_in_frames_are_refused(tmp_path: Path) -> None:
    write_labels(tmp_path, [["SIL", 0, 44], ["HH", 44, 7], ["IY", 51, 9], ["T", 60, 5], ["UH", 65, 8], ["K", 73, 9]])
    with pytest.raises((ValueError, SystemExit, RuntimeError)) as caught:
        encoder_batches.load_speech(tmp_path, {})
    assert "start_s, end_s" in str(caught.value)


def test_labels_in_seconds_are_read(tmp_path: Path) -> None:
    times = [["SIL", 0.0, 0.1], ["HH", 0.1, 0.2], ["IY", 0.2, 0.4], ["T", 0.4, 0.5], ["UH", 0.5, 0.7], ["K", 0.7, 1.0]]
    write_labels(tmp_path, times)
    known: dict = {}
    encoder_batches.load_speech(tmp_path, known)
    assert len(known["u"].phones) == 6
