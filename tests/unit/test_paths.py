"""What a list of a corpus or of trials may name: docs/cluster.md, "Files that lists name"."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from bowerbird.config.sections.corpus import CorpusConfig
from bowerbird.config.sections.trials import TrialsConfig
from bowerbird.errors import BowerbirdError
from bowerbird.stages.corpus.lists import read_trials
from bowerbird.stages.corpus.readers import read_entries


@pytest.mark.parametrize(
    ("path", "refused"),
    [
        ("a.wav", False),
        ("below/a.wav", False),
        ("/data/a.wav", False),
        ("../a.wav", True),
        ("below/../../a.wav", True),
        ("", True),
    ],
)
def test_a_tables_relative_paths_stay_below_it(tmp_path: Path, path: str, refused: bool) -> None:
    (tmp_path / "utterances.tsv").write_text(f"utt_id\tspeaker\tpath\nu\ts\t{path}\nv\ts\tok.wav\n")
    _, entries, refusals = read_entries(CorpusConfig(kind="table", path=str(tmp_path)))
    assert [entry.utt_id for entry in entries] == (["v"] if refused else ["u", "v"])
    assert [refusal.reason for refusal in refusals] == (["path outside the corpus"] if refused else [])


@pytest.mark.parametrize("place", ["/data/a.wav", "below/a.wav", "../wav/a.wav"])
def test_a_kaldi_directory_may_name_files_anywhere_and_commands_nowhere(tmp_path: Path, place: str) -> None:
    (tmp_path / "wav.scp").write_text(f"u {place}\nv touch {tmp_path}/ran |\n")
    (tmp_path / "utt2spk").write_text("u s\nv s\n")
    _, entries, refusals = read_entries(CorpusConfig(kind="kaldi", path=str(tmp_path)))
    assert [entry.path for entry in entries] == [place]
    assert [(refusal.utt_id, refusal.reason) for refusal in refusals] == [("v", "command in wav.scp")]
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("utt_id", ["../u", "a/b", "/abs", ".hidden", ".."])
def test_ids_that_would_leave_the_results_are_refused(tmp_path: Path, utt_id: str) -> None:
    (tmp_path / "utterances.tsv").write_text(f"utt_id\tspeaker\tpath\n{utt_id}\ts\ta.wav\nv\ts\tok.wav\n")
    _, entries, refusals = read_entries(CorpusConfig(kind="table", path=str(tmp_path)))
    assert [entry.utt_id for entry in entries] == ["v"]
    assert [refusal.reason for refusal in refusals] == ["unusable id"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("t|/etc/passwd|b0.wav", "no such utterance in the manifest"),
        ("t|a0.wav|../../b0.flac.txt", "no such utterance in the manifest"),
        ("../t|a0.wav|b0.wav", "a trial's name becomes a file"),
        ("a/t|a0.wav|b0.wav", "a trial's name becomes a file"),
        (".t/../../t|a0.wav|b0.wav", "a trial's name becomes a file"),
    ],
)
def test_a_list_of_trials_names_utterances_not_files(tmp_path: Path, line: str, words: str) -> None:
    rows = [
        {
            "utt_id": f"{s}{n}",
            "speaker": s,
            "path": f"{s}{n}.wav",
            "gender": "",
            "text": "",
            "language": "en",
            "duration_s": 2.0,
        }
        for s in "abc"
        for n in range(3)
    ]
    (tmp_path / "list.txt").write_text(line + "\n")
    with pytest.raises(BowerbirdError, match=words):
        read_trials(pd.DataFrame(rows), TrialsConfig(file=str(tmp_path / "list.txt")))
