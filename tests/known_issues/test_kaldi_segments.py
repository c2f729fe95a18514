"""A Kaldi data directory with `segments` was refused: its utterances are now cut out of the recordings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from corpora import listed, noise, reasons

from bowerbird.artifacts.shards import Shards
from bowerbird.audio import float_to_int16
from bowerbird.config.sections.runtime import RuntimeConfig
from bowerbird.errors import BowerbirdError
from bowerbird.stages.corpus import checks as corpus_checks
from bowerbird.stages.corpus.spans import split_span
from bowerbird.stages.corpus.store import corpus_root, store_audio


def data_dir(root: Path, *segments: str) -> Path:
    root.mkdir()
    soundfile.write(root / "one.wav", noise(1, 8.0), 16000)
    soundfile.write(root / "two.flac", noise(2, 4.0, 24000), 24000)
    (root / "wav.scp").write_text(f"one {root / 'one.wav'}\ntwo two.flac\npiped cat x |\n")
    names = [line.split()[0] for line in segments]
    (root / "utt2spk").write_text("".join(f"{name} {name[0]}\n" for name in names))
    (root / "segments").write_text("".join(f"{line}\n" for line in segments))
    return root


def test_utterances_are_cut_out_of_recordings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    native = corpus_checks.read_native
    monkeypatch.setattr(corpus_checks, "read_native", lambda path: read.append(path.name) or native(path))
    root = data_dir(tmp_path / "k", "a1 one 0.5 2.25", "a2 one 2.25 4.0", "b1 two 1.5 -1", "b2 one 7 8.3")
    table, rejected, manifest = listed(tmp_path / "out", kind="kaldi", path=str(root))
    assert rejected.empty and sorted(read) == ["one.wav", "two.flac"]
    assert list(table["utt_id"]) == ["a1", "a2", "b1", "b2"]
    assert list(table["num_samples"]) == [28000, 28000, 60000, 16000]  # the last one ends with its recording
    assert list(table["session"]) == ["one", "one", "two", "one"]
    assert table.iloc[2]["path"] == "two.flac#t=1.5"
    assert corpus_root(manifest) / split_span(table.iloc[2]["path"])[0] == root / "two.flac"
    store_audio(manifest, tmp_path / "shard-0000.npy", 0, False, RuntimeConfig())
    audio, whole = Shards([tmp_path / "shard-0000.npy"], "num_samples"), soundfile.read(root / "one.wav")[0]
    assert np.array_equal(audio["a1"], float_to_int16(whole[8000:36000]))
    assert len(audio["b1"]) == 40000


def test_segments_that_cannot_be_cut_are_named(tmp_path: Path) -> None:
    root = data_dir(
        tmp_path / "k",
        "a0 one 0 1",
        "a1 one 2 1",
        "a2 one x 1",
        "a3 one 0 1 0",
        "a4 three 0 1",
        "a5 one 7 9",
        "a6 one 9 10",
        "a7 piped 0 1",
        "a8 one 0 0.1",
        "a9 one 0 1",
    )
    table, rejected, _ = listed(tmp_path / "out", kind="kaldi", path=str(root))
    assert list(table["utt_id"]) == ["a0"]
    assert dict(zip(rejected["utt_id"], rejected["reason"], strict=True)) == {
        **dict.fromkeys(["a1", "a2", "a3"], "unusable segment"),
        "a4": "unknown recording",
        **dict.fromkeys(["a5", "a6"], "segment outside the recording"),
        "a7": "command in wav.scp",
        "a8": "too short",
        "a9": "duplicate content",
    }
    assert (f"{root}/one.wav#t=7,9", ("segment outside the recording", "7 s to 9 s of 8.000 s")) in reasons(
        rejected
    ).items()


def test_a_recording_that_changed_is_told(tmp_path: Path) -> None:
    root = data_dir(tmp_path / "k", "a1 one 0 1", "a2 one 1 2")
    _, _, manifest = listed(tmp_path / "out", kind="kaldi", path=str(root))
    soundfile.write(root / "one.wav", noise(3, 8.0), 16000)
    with pytest.raises(BowerbirdError, match=r"^a1: .*one\.wav has changed since the manifest was made"):
        store_audio(manifest, tmp_path / "shard-0000.npy", 0, False, RuntimeConfig())
