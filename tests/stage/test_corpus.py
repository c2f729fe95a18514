"""Every layout is read, every bad file is named, and nothing depends on workers or on the order of a disk."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from bowerbird.artifacts.shards import Shards
from bowerbird.artifacts.tables import read_identity, read_table
from bowerbird.config.sections.corpus import CorpusConfig
from bowerbird.config.sections.runtime import RuntimeConfig
from bowerbird.errors import BowerbirdError
from bowerbird.stages.corpus.manifest import list_corpus
from bowerbird.stages.corpus.store import store_audio


def speech(seed: int, seconds: float = 1.0, rate: int = 16000, channels: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    tone = np.sin(2 * np.pi * (100 + 7 * seed) * np.arange(int(seconds * rate)) / rate)
    wave = 0.2 * tone[:, None] + 0.05 * rng.standard_normal((len(tone), channels))
    return wave.astype(np.float32)


def write(path: Path, wave: np.ndarray, rate: int = 16000, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave, rate, **options)
    return path


def run(tmp_path: Path, threads: int = 1, **options):
    manifest, rejected = tmp_path / "out" / "manifest.parquet", tmp_path / "out" / "rejected.parquet"
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    config = CorpusConfig(**{"num_shards": 1, "max_rejected_fraction": 1.0, **options})
    list_corpus(manifest, rejected, config, RuntimeConfig(threads=threads))
    return read_table(manifest), read_table(rejected), manifest


def reasons(rejected) -> dict[str, str]:
    return dict(zip(rejected["path"], rejected["reason"], strict=True))


def test_a_folder_tree_in_many_formats_with_odd_names(tmp_path: Path) -> None:
    root = tmp_path / "my corpus ü"
    for number, (name, rate, channels) in enumerate(
        [("a.wav", 16000, 1), ("b.flac", 44100, 2), ("c.ogg", 24000, 1), ("d.mp3", 22050, 1), ("é f.wav", 8000, 1)]
    ):
        write(root / "søren" / "day 1" / name, speech(number, rate=rate, channels=channels), rate)
    write(root / "søren" / "day 1" / "e.opus", speech(9, rate=48000), 48000, format="OGG", subtype="OPUS")
    table, rejected, manifest = run(tmp_path, kind="folder", path=str(root), test_speakers=0)
    assert len(table) == 6 and rejected.empty
    assert set(table["speaker"]) == {"søren"} and set(table["session"]) == {"day 1"}
    store_audio(manifest, tmp_path / "shard-0000.npy", 0, False, RuntimeConfig())
    for length in Shards([tmp_path / "shard-0000.npy"], length="num_samples").lengths().values():
        assert abs(length - 16000) < 2000  # one second at 16 kHz, whatever it was (mp3 and opus add padding)


def test_every_refusal_is_named(tmp_path: Path) -> None:
    root = tmp_path / "c" / "s"
    write(root / "good.wav", speech(1))
    write(root / "twin.wav", speech(1))
    write(root / "short.wav", speech(2, 0.2))
    write(root / "long.wav", speech(3, 3))
    write(root / "silent.wav", np.zeros(16000))
    write(root / "clipped.wav", np.sign(speech(4)))
    write(root / "nan.wav", np.full((16000, 1), np.nan, np.float32), subtype="FLOAT")
    (root / "empty.wav").write_bytes(b"")
    (root / "corrupt.flac").write_bytes(b"fLaC, not really")
    (root / "truncated.wav").write_bytes((root / "good.wav").read_bytes()[:20])
    table, rejected, _ = run(tmp_path, kind="folder", path=str(tmp_path / "c"), max_duration_s=2.0, test_speakers=0)
    assert list(table["utt_id"]) == ["s-good"]
    assert reasons(rejected) == {
        "s/twin.wav": "duplicate content",
        "s/short.wav": "too short",
        "s/long.wav": "too long",
        "s/silent.wav": "silent",
        "s/clipped.wav": "clipped",
        "s/nan.wav": "not finite",
        "s/empty.wav": "empty file",
        "s/corrupt.flac": "corrupt",
        "s/truncated.wav": "corrupt",
    }


def table_corpus(tmp_path: Path, header: str, *lines: str) -> Path:
    root = tmp_path / "t"
    for number, name in enumerate(("a", "b", "c")):
        write(root / f"{name}.wav", speech(number))
    (root / "utterances.tsv").write_text("\n".join([header, *lines]) + "\n")
    return root


def test_a_table_refuses_ids_paths_and_texts(tmp_path: Path) -> None:
    root = table_corpus(
        tmp_path,
        "utt_id\tspeaker\tpath\ttext",
        "1\ts\ta.wav\thello",
        "1\ts\tb.wav\thello",
        "2\ts\tmissing.wav\thello",
        "3\ts\t../out.wav\thello",
        "4\ts\tc.wav\t",
        "5\t\tc.wav\thello",
    )
    table, rejected, _ = run(tmp_path, path=str(root), require_text=True, test_speakers=0)
    assert list(table["utt_id"]) == ["1"]
    assert dict(zip(rejected["utt_id"], rejected["reason"], strict=True)) == {
        "1": "duplicate id",
        "2": "missing file",
        "3": "path outside the corpus",
        "4": "missing transcript",
        "5": "incomplete row",
    }


def test_wrong_columns_name_the_nearest(tmp_path: Path) -> None:
    root = table_corpus(tmp_path, "utt\tspeaker\tpath", "1\ts\ta.wav")
    with pytest.raises(BowerbirdError, match=r"no column 'utt_id' .*it has: utt, speaker, path"):
        run(tmp_path, path=str(root))
    table, _, _ = run(tmp_path, path=str(root), columns={"utt_id": "utt"}, test_speakers=0)
    assert list(table["utt_id"]) == ["1"]


def test_too_many_refusals_stop_with_the_counts(tmp_path: Path) -> None:
    root = table_corpus(tmp_path, "utt_id\tspeaker\tpath", "1\ts\ta.wav", "2\ts\tx.wav")
    with pytest.raises(BowerbirdError, match=r"1 of 2 files were refused \(1 missing file\)"):
        run(tmp_path, path=str(root), max_rejected_fraction=0.1)
    assert len(read_table(tmp_path / "out" / "rejected.parquet")) == 1  # the table is there to look at


def test_kaldi_commands_are_never_run(tmp_path: Path) -> None:
    root = tmp_path / "k"
    write(root / "a.wav", speech(1))
    (root / "wav.scp").write_text(f"u1 {root / 'a.wav'}\nu2 touch {tmp_path / 'ran'} |\nu3 {root / 'a.wav'}\n")
    (root / "utt2spk").write_text("u1 s1\nu2 s1\n")
    (root / "text").write_text("u1 HELLO THERE\n")
    (root / "spk2gender").write_text("s1 f\n")
    table, rejected, _ = run(tmp_path, kind="kaldi", path=str(root), test_speakers=0)
    assert table.iloc[0][["utt_id", "speaker", "gender", "text"]].tolist() == ["u1", "s1", "F", "HELLO THERE"]
    assert set(rejected["reason"]) == {"command in wav.scp", "unknown speaker"}
    assert not (tmp_path / "ran").exists()


def test_librispeech(tmp_path: Path) -> None:
    root = tmp_path / "LibriSpeech"
    write(root / "test-clean/61/70968/61-70968-0000.flac", speech(1))
    write(root / "train-clean-100/103/1240/103-1240-0000.flac", speech(2))
    (root / "test-clean/61/70968/61-70968.trans.txt").write_text("61-70968-0000 HE BEGAN\n")
    (root / "SPEAKERS.TXT").write_text("; comment\n61   | M | test-clean       | 8.08  | Paul\n103 | F | x | 1 | y\n")
    table, _, _ = run(tmp_path, kind="librispeech", path=str(root))
    columns = ["utt_id", "speaker", "gender", "session", "text", "split"]
    assert table[columns].to_numpy().tolist() == [
        ["103-1240-0000", "103", "F", "1240", "", "train"],
        ["61-70968-0000", "61", "M", "70968", "HE BEGAN", "test"],
    ]


def test_libritts(tmp_path: Path) -> None:
    root = tmp_path / "LibriTTS_R"
    path = write(root / "dev-clean/84/121123/84_121123_000007_000001.wav", speech(1, rate=24000), 24000)
    path.with_name(f"{path.stem}.normalized.txt").write_text("Go! Do you hear?")
    (root / "speakers.tsv").write_text("READER\tGENDER\n84\tF\n")
    table, _, _ = run(tmp_path, kind="libritts", path=str(root))
    assert table.iloc[0][["speaker", "gender", "session", "text", "split", "sample_rate"]].tolist() == [
        "84",
        "F",
        "121123",
        "Go! Do you hear?",
        "valid",
        24000,
    ]


def test_vctk_takes_one_microphone(tmp_path: Path) -> None:
    root = tmp_path / "VCTK"
    for mic in (1, 2):
        write(root / f"wav48_silence_trimmed/p225/p225_001_mic{mic}.flac", speech(mic, rate=48000), 48000)
    (root / "txt/p225").mkdir(parents=True)
    (root / "txt/p225/p225_001.txt").write_text("Please call Stella.\n")
    (root / "speaker-info.txt").write_text("ID  AGE  GENDER  ACCENTS\np225  23  F    English\n")
    for mic in ("mic1", "mic2"):
        table, _, _ = run(tmp_path, kind="vctk", path=str(root), microphone=mic, test_speakers=0)
        assert len(table) == 1 and table.iloc[0]["path"].endswith(f"{mic}.flac")
    assert table.iloc[0][["utt_id", "gender", "text"]].tolist() == ["p225_001", "F", "Please call Stella."]


def test_mls(tmp_path: Path) -> None:
    root = tmp_path / "mls_polish"
    write(root / "dev/audio/6892/10350/6892_10350_000001.flac", speech(1))
    (root / "dev/transcripts.txt").write_text("6892_10350_000001\tjak to jest\n")
    (root / "metainfo.txt").write_text(" SPEAKER   |   GENDER   | PARTITION\n 6892  | F | dev\n")
    table, _, _ = run(tmp_path, kind="mls", path=str(root))
    assert table.iloc[0][["speaker", "gender", "language", "session", "text", "split"]].tolist() == [
        "6892",
        "F",
        "pl",
        "10350",
        "jak to jest",
        "valid",
    ]


def many_speakers(tmp_path: Path, speakers: int = 12, each: int = 8) -> Path:
    root = tmp_path / "many"
    for s in range(speakers):
        for n in range(each):
            write(root / f"s{s:02d}" / f"{n}.wav", speech(100 * s + n, 0.6 + 0.1 * (s % 3)))
    return root


def test_workers_change_no_byte(tmp_path: Path) -> None:
    root = many_speakers(tmp_path)
    outputs = []
    for threads in (1, 2):
        _, _, manifest = run(tmp_path, threads=threads, kind="folder", path=str(root), num_shards=3)
        outputs.append(manifest.read_bytes())
    assert outputs[0] == outputs[1]


def test_splits_and_shards_hold_whole_speakers(tmp_path: Path) -> None:
    root = many_speakers(tmp_path)
    options = {"kind": "folder", "path": str(root), "num_shards": 3, "test_speakers": 0.25, "valid_speakers": 0.25}
    table, _, manifest = run(tmp_path, **options)
    for column in ("split", "shard"):
        assert (table.groupby("speaker")[column].nunique() == 1).all()
    assert table.groupby("split")["speaker"].nunique().to_dict() == {"test": 3, "train": 6, "valid": 3}
    seconds = table.groupby("shard")["duration_s"].sum()
    assert seconds.max() / seconds.min() < 1.2
    assert read_identity(manifest)["leaks"] == {"speakers": 0, "sessions": 0, "sentences": 0}
    other, _, _ = run(tmp_path, **options, split_seed=1)
    assert list(other["split"]) != list(table["split"])


def test_a_leak_is_counted(tmp_path: Path) -> None:
    root = table_corpus(
        tmp_path, "utt_id\tspeaker\tpath\ttext\tsplit", "1\ts\ta.wav\tHi.\ttrain", "2\ts\tb.wav\thi.\ttest"
    )
    _, _, manifest = run(tmp_path, path=str(root))
    assert read_identity(manifest)["leaks"] == {"speakers": 1, "sessions": 0, "sentences": 1}


def test_an_id_that_is_no_file_name_is_refused(tmp_path: Path) -> None:
    root = table_corpus(tmp_path, "utt_id\tspeaker\tpath", "../1\ts\ta.wav", "2\ts\tb.wav")
    _, rejected, _ = run(tmp_path, path=str(root), test_speakers=0)
    assert rejected[["utt_id", "reason"]].to_numpy().tolist() == [["../1", "unusable id"]]


def test_a_file_changed_after_listing_is_told(tmp_path: Path) -> None:
    root = table_corpus(tmp_path, "utt_id\tspeaker\tpath", "1\ts\ta.wav")
    _, _, manifest = run(tmp_path, path=str(root), test_speakers=0)
    write(root / "a.wav", speech(77))
    with pytest.raises(BowerbirdError, match=r"a\.wav has changed since the manifest was made"):
        store_audio(manifest, tmp_path / "shard-0000.npy", 0, False, RuntimeConfig())


def test_more_shards_than_speakers_is_an_error(tmp_path: Path) -> None:
    root = table_corpus(tmp_path, "utt_id\tspeaker\tpath", "1\ts\ta.wav")
    with pytest.raises(BowerbirdError, match="num_shards = 2: there are only 1 speakers"):
        run(tmp_path, path=str(root), num_shards=2)


def test_audio_keeps_its_level_and_may_lose_its_silence(tmp_path: Path) -> None:
    demo = Path(__file__).resolve().parents[2] / "src/bowerbird/assets/demo/slt/slt_001.ogg"
    wave, rate = soundfile.read(demo, dtype="float32")
    silence = np.zeros(rate, np.float32)
    write(tmp_path / "c/s/a.wav", np.concatenate([silence, wave, silence]), rate)
    _, _, manifest = run(tmp_path, kind="folder", path=str(tmp_path / "c"), test_speakers=0)
    kept, cut = tmp_path / "kept/shard-0000.npy", tmp_path / "cut/shard-0000.npy"
    store_audio(manifest, kept, 0, False, RuntimeConfig())
    store_audio(manifest, cut, 0, True, RuntimeConfig())
    samples, trimmed = np.load(kept), np.load(cut)
    assert abs(int(np.abs(samples).max()) - int(np.abs(wave).max() * 32768)) <= 2
    assert 1.2 * rate < len(samples) - len(trimmed) < 2.6 * rate


def test_librispeech_mini(librispeech_mini: Path, tmp_path: Path) -> None:
    table, rejected, _ = run(tmp_path, path=str(librispeech_mini), num_shards=4)
    assert table.groupby("split")["speaker"].nunique().to_dict() == {"test": 7, "train": 251}
    assert len(table) == 321 and rejected.empty
