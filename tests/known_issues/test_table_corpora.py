"""Tables: a mistyped column was ignored, absolute paths were refused, and the manifest knew where the corpus lay."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from corpora import listed, write

from bowerbird.artifacts.identity import run_record_path
from bowerbird.artifacts.shards import Shards
from bowerbird.config.loading import parse_config
from bowerbird.config.sections.runtime import RuntimeConfig
from bowerbird.errors import BowerbirdError
from bowerbird.stages.corpus.store import store_audio


def table_corpus(root: Path, *paths: str) -> Path:
    for number in range(2):
        write(root / f"{number}.wav", number)
    rows = [f"u{number}\ts\t{path}" for number, path in enumerate(paths or ("0.wav", "1.wav"))]
    (root / "utterances.tsv").write_text("\n".join(["utt_id\tspeaker\tpath", *rows]) + "\n")
    return root


def test_a_mistyped_column_names_the_nearest() -> None:
    with pytest.raises(BowerbirdError) as caught:
        parse_config({"corpus": {"columns": {"speakr": "client_id"}}})
    assert str(caught.value) == "configuration: corpus.columns.speakr: unknown column; did you mean 'speaker'?"


def test_absolute_paths_are_taken_and_relative_ones_stay_inside(tmp_path: Path) -> None:
    far = write(tmp_path / "far away" / "x.wav", 7)
    root = table_corpus(tmp_path / "t", "0.wav", str(far), "../far away/x.wav", "/nowhere/y.wav")
    table, rejected, manifest = listed(tmp_path / "out", path=str(root))
    assert table[["utt_id", "path"]].to_numpy().tolist() == [["u0", "0.wav"], ["u1", str(far)]]
    assert list(rejected["reason"]) == ["path outside the corpus", "missing file"]
    store_audio(manifest, tmp_path / "shard-0000.npy", 0, False, RuntimeConfig())
    assert len(Shards([tmp_path / "shard-0000.npy"], "num_samples")["u1"]) == 16000


def test_a_copy_in_another_place_is_the_same_corpus(tmp_path: Path) -> None:
    """All that comes after depends on the manifest's bytes: a study could not be made again elsewhere, byte for byte."""
    first = table_corpus(tmp_path / "first", "0.wav", "1.wav", "missing.wav", "broken.wav")
    (first / "broken.wav").write_text("RIFF, not really")
    second = Path(shutil.copytree(first, tmp_path / "below" / "second"))
    made = []
    for root in (first, second):
        _, _, manifest = listed(tmp_path / "out" / root.name, path=str(root))
        store_audio(manifest, manifest.parent / "shard-0000.npy", 0, False, RuntimeConfig())
        made.append({p.name: p.read_bytes() for p in manifest.parent.iterdir() if not p.name.endswith(".run.json")})
    assert made[0] == made[1] and len([name for name in made[0] if not name.startswith(".")]) == 4
    assert not any(str(tmp_path).encode() in data for data in made[0].values())


def test_a_corpus_of_other_audio_has_another_identity(tmp_path: Path) -> None:
    from bowerbird.artifacts.tables import read_identity

    root = table_corpus(tmp_path / "t")
    _, _, manifest = listed(tmp_path / "one", path=str(root))
    write(root / "1.wav", 9)
    _, _, other = listed(tmp_path / "two", path=str(root))
    assert read_identity(manifest)["inputs"] != read_identity(other)["inputs"]


def test_a_manifest_without_its_run_record_says_so(tmp_path: Path) -> None:
    _, _, manifest = listed(tmp_path / "out", path=str(table_corpus(tmp_path / "t")))
    run_record_path(manifest).unlink()
    with pytest.raises(BowerbirdError, match=r"manifest\.parquet\.run\.json: does not say where the corpus lies"):
        store_audio(manifest, tmp_path / "shard-0000.npy", 0, False, RuntimeConfig())
