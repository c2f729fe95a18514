"""The recipe's transcripts: a run that was stopped goes on; what the table holds is whole."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from nano_recipe import import_script

transcribe = import_script("transcribe")


def test_a_stopped_transcription_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names, read = ("a", "b", "c"), []
    for name in names:
        soundfile.write(tmp_path / f"{name}.flac", np.zeros(160, np.int16), 16000)
    rows = [f"{name}\ttrain\t{name}.flac" for name in names]
    (tmp_path / "utterances.tsv").write_text("\n".join(["utt_id\tsplit\tpath", *rows]) + "\n")

    class Recognizer:
        """Stops at the third utterance of its life; quotes everything."""

        def transcribe(self, waves: list[np.ndarray], language: str) -> list[str]:
            read.append(len(waves[0]))
            if len(read) == 3:
                raise KeyboardInterrupt
            return [f'"{len(read)}", he said']

    table = tmp_path / "transcripts.tsv"
    words = ["transcribe.py", "--model", tmp_path, "--corpus", tmp_path, "--output", table]
    monkeypatch.setattr(sys, "argv", list(map(str, words)))
    monkeypatch.setattr(transcribe, "load_recognizer", lambda folder: Recognizer())
    with pytest.raises(KeyboardInterrupt):
        transcribe.main()
    assert not table.exists(), "it is there when it is whole"
    transcribe.main()
    assert len(read) == 4
    found = {row["utt_id"]: row["text"] for row in import_script("tables").read_table(table)}
    assert found == {"a": '"1", he said', "b": '"2", he said', "c": '"4", he said'}
