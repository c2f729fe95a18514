"""What a tree of folders held and the reader passed over: linked speakers, files above the speakers, odd names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from corpora import listed, reasons, write

from bowerbird.config.sections.corpus import CorpusConfig
from bowerbird.errors import BowerbirdError
from bowerbird.stages.corpus.readers import read_entries


def test_linked_speakers_are_read_and_loops_are_not(tmp_path: Path) -> None:
    root = tmp_path / "c"
    write(root / "real" / "a.wav", 1)
    write(tmp_path / "elsewhere" / "day" / "b.wav", 2)
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "real" / "up").symlink_to(root)  # the tree inside itself
    (root / "real" / "out").symlink_to(tmp_path)  # and what the tree lies in
    (root / "real" / "self").symlink_to("self")
    (tmp_path / "elsewhere" / "day" / "again").symlink_to(tmp_path / "elsewhere")
    table, rejected, _ = listed(tmp_path / "out", kind="folder", path=str(root))
    assert table[["utt_id", "path"]].to_numpy().tolist() == [
        ["linked-day-b", "linked/day/b.wav"],
        ["real-a", "real/a.wav"],
    ]
    assert rejected.empty


def test_transcripts_in_linked_folders_are_read(tmp_path: Path) -> None:
    chapter = tmp_path / "disk2" / "61" / "70968"
    write(chapter / "61-70968-0000.flac", 1)
    (chapter / "61-70968.trans.txt").write_text("61-70968-0000 HE BEGAN\n")
    (tmp_path / "L").mkdir()
    (tmp_path / "L" / "test-clean").symlink_to(tmp_path / "disk2")
    table, _, _ = listed(tmp_path / "out", kind="librispeech", path=str(tmp_path / "L"))
    assert table[["speaker", "text", "split"]].to_numpy().tolist() == [["61", "HE BEGAN", "test"]]


def test_files_above_the_speakers_are_named(tmp_path: Path) -> None:
    write(tmp_path / "c" / "s" / "a.wav", 1)
    write(tmp_path / "c" / "stray.wav", 2)
    table, rejected, _ = listed(tmp_path / "out", kind="folder", path=str(tmp_path / "c"))
    assert list(table["utt_id"]) == ["s-a"]
    assert reasons(rejected) == {"stray.wav": ("lies above the speaker folders", "expected speaker/.../name.wav")}


def test_names_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "c" / "s" / "a.wav", 1)
    latin = os.fsencode(tmp_path / "c" / "s") + b"/caf\xe9.wav"
    try:
        os.link(tmp_path / "c" / "s" / "a.wav", latin)
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    table, rejected, _ = listed(tmp_path / "out", kind="folder", path=str(tmp_path / "c"))
    assert list(table["utt_id"]) == ["s-a"]
    assert rejected[["utt_id", "path", "reason"]].to_numpy().tolist() == [
        [r"s-caf\xe9", r"s/caf\xe9.wav", "name is not UTF-8"]
    ]
    with pytest.raises(BowerbirdError, match=r"corpus\.path: .*c\\xe9: its name is not UTF-8"):
        os.mkdir(os.fsencode(tmp_path) + b"/c\xe9")
        listed(tmp_path / "out", kind="folder", path=os.fsdecode(os.fsencode(tmp_path) + b"/c\xe9"))


def test_a_text_file_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", 1)
    (tmp_path / "wav.scp").write_bytes(b"caf\xe9 a.wav\n")
    (tmp_path / "utt2spk").write_text("u s\n")
    with pytest.raises(BowerbirdError, match=r"wav\.scp: not readable as UTF-8 text"):
        listed(tmp_path / "out", kind="kaldi", path=str(tmp_path))


@pytest.mark.parametrize(
    ("place", "language"),
    [("mls_polish", "pl"), ("mls_polish_opus", "pl"), ("data", "sv"), ("mls_klingon", "sv"), ("both/mls_french", "fr")],
)
def test_mls_has_the_language_of_its_own_folder(tmp_path: Path, place: str, language: str) -> None:
    """Folders further up were looked at too: /data/english/mls_polish was English, or Polish, by the order of a list."""
    corpus = tmp_path / "german" / place
    write(corpus / "dev" / "audio" / "1" / "2" / "1_2_000001.flac", 1)
    root = corpus.parent if "/" in place else corpus
    _, entries, _ = read_entries(CorpusConfig(kind="mls", path=str(root), language="sv"))
    assert [entry.language for entry in entries] == [language]
