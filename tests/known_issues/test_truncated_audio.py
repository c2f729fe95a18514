"""A WAV or MP3 that was cut short (a full disk, a broken download) was taken for a whole utterance of fewer words."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from corpora import listed, reasons, write

from bowerbird.stages.corpus.truncation import cut_flac, promised_samples


def cut(path: Path, share: float = 0.5) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def test_cut_files_are_refused_with_what_is_missing(tmp_path: Path) -> None:
    root = tmp_path / "c" / "s"
    write(root / "whole.wav", 0)
    cut(write(root / "a.wav", 1))
    cut(write(root / "b.flac", 2))
    cut(write(root / "c.mp3", 3))
    cut(write(root / "d.wav", 4, subtype="IMA_ADPCM"))
    cut(write(root / "e.wav", 5, format="RF64"))
    cut(write(root / "f.wav", 6, format="WAVEX"))
    cut(write(root / "g.wav", 7, endian="BIG"))
    (root / "h.wav").write_bytes((root / "whole.wav").read_bytes()[:44])
    table, rejected, _ = listed(tmp_path / "out", kind="folder", path=str(tmp_path / "c"))
    assert list(table["utt_id"]) == ["s-whole"]
    found = reasons(rejected)
    assert {reason for reason, _ in found.values()} == {"truncated"} and len(found) == 8
    assert found["s/a.wav"][1] == "header says 16000 samples, 7989 are there"
    assert found["s/h.wav"][1] == "header says 16000 samples, 0 are there"
    for name in ("b.flac", "c.mp3", "e.wav", "f.wav", "g.wav"):
        assert found[f"s/{name}"][1].startswith("header says 16000 samples, ")


@pytest.mark.parametrize("size", [0, 0x7FFFF000, 0xFFFFFFFF])
def test_a_header_written_to_a_pipe_promises_nothing(tmp_path: Path, size: int) -> None:
    path = write(tmp_path / "c" / "s" / "a.wav", 1)
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, data.index(b"data") + 4, size)
    path.write_bytes(data)
    assert promised_samples(path, 123) == 123
    if size:  # libsndfile reads no samples where the header says none
        table, _, _ = listed(tmp_path / "out", kind="folder", path=str(tmp_path / "c"))
        assert list(table["num_samples"]) == [16000]


def test_chunks_and_tags_around_the_audio_are_no_samples(tmp_path: Path) -> None:
    wav = write(tmp_path / "a.wav", 1)
    data = wav.read_bytes()
    wav.write_bytes(data[:12] + b"LIST" + struct.pack("<I", 5) + b"words\0" + data[12:] + b"id3 \4\0\0\0tags")
    assert promised_samples(wav, 16000) == 16000
    mp3 = write(tmp_path / "a.mp3", 1)
    mp3.write_bytes(b"ID3\4\0\0\0\0\1\0" + bytes(128) + mp3.read_bytes())
    assert promised_samples(mp3, 16000) == 16000 and promised_samples(mp3, 9000) == 16000


def test_an_mp3_without_a_count_promises_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp3", 1)
    path.write_bytes(path.read_bytes().replace(b"Xing", b"\0\0\0\0").replace(b"Info", b"\0\0\0\0"))
    assert promised_samples(path, 9000) == 9000


def test_a_flac_damaged_inside_is_not_called_truncated(tmp_path: Path) -> None:
    path = write(tmp_path / "a.flac", 1)
    data = bytearray(path.read_bytes())
    for place in range(len(data) // 3, len(data) // 3 + 300):
        data[place] ^= 255
    path.write_bytes(data)
    assert cut_flac(path) is None


def test_a_flac_written_to_a_pipe_is_refused_without_a_traceback(tmp_path: Path) -> None:
    root = tmp_path / "c" / "s"
    write(root / "whole.wav", 0)
    path = write(root / "a.flac", 1)
    data = bytearray(path.read_bytes())
    data[21:26] = bytes([data[21] & 0xF0, 0, 0, 0, 0])  # STREAMINFO's count
    path.write_bytes(data)
    _, rejected, _ = listed(tmp_path / "out", kind="folder", path=str(tmp_path / "c"))
    assert reasons(rejected)["s/a.flac"][0] == "unknown length"
