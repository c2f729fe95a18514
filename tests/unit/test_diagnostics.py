"""Diagnostics of features, pairs and codebooks: planted defects are found, sound data is not accused, the page is safe."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bowerbird.artifacts.files import write_text
from bowerbird.artifacts.identity import Identity, RunRecord
from bowerbird.artifacts.shards import ShardWriter
from bowerbird.artifacts.tables import MANIFEST, write_table
from bowerbird.config.loading import dump_config, parse_config
from bowerbird.errors import BowerbirdError
from bowerbird.inspection.diagnostics import split_frame, variant_of
from bowerbird.inspection.show import show_artifact
from bowerbird.inspection.statistics import (
    FrameSample,
    Hubs,
    measure_drift,
    measure_hubs,
    measure_spread,
    measure_use_drift,
    nearest_speakers,
    speaker_accuracy_of_units,
)

RNG = np.random.default_rng(7)


@pytest.fixture(autouse=True)
def _same_numbers_for_each_test() -> None:
    global RNG
    RNG = np.random.default_rng(7)


def test_spread_sees_dead_dimensions_and_collapse() -> None:
    sound = RNG.normal(size=(4000, 16)).astype(np.float32)
    assert measure_spread(sound).num_dead == 0
    assert measure_spread(sound).effective_rank == pytest.approx(16, rel=0.02)
    dead = sound.copy()
    dead[:, [3, 9]] = 2.5
    assert measure_spread(dead).num_dead == 2
    line = RNG.normal(size=(4000, 1)) @ RNG.normal(size=(1, 16)) + 0.01 * sound
    assert measure_spread(line).effective_rank == pytest.approx(1, abs=0.05)
    assert measure_spread(line).num_directions(0.9) == 1
    assert measure_spread(np.ones((50, 4), np.float32)).effective_rank == 0.0


def shards(speakers: int = 16, frames: int = 200, dim: int = 6) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values, shard and speaker of frames of speakers who differ, dealt to two shards."""
    voices = RNG.normal(size=(speakers, dim))
    values = np.concatenate([voice + RNG.normal(size=(frames, dim)) for voice in voices])
    who = np.repeat(np.array([f"s{number}" for number in range(speakers)], dtype=object), frames)
    return values, np.repeat(np.arange(speakers) % 2, frames), who


def test_drift_beyond_what_speakers_explain_is_named() -> None:
    values, file, who = shards()
    sound = measure_drift(values, file, who, values.std(axis=0))
    assert sound is not None and sound.suspects == []
    shifted = values + 3.0 * (file == 1)[:, None]
    found = measure_drift(shifted, file, who, values.std(axis=0))
    assert found is not None and 1 in found.suspects and found.distances[1] > 2
    assert measure_drift(values, np.zeros_like(file), who, values.std(axis=0)) is None


def test_drift_in_the_use_of_codes_is_named() -> None:
    _, file, who = shards(speakers=16)
    codes = RNG.integers(0, 8, len(file))
    sound = measure_use_drift(codes, 16, file, who)
    assert sound is not None and sound.distances.max() < 0.1
    found = measure_use_drift(np.where(file == 1, 8 + codes, codes), 16, file, who)
    assert found is not None and found.suspects and found.distances.min() > 0.5


def test_hubs_are_found_and_an_utterance_is_not_its_own_neighbor() -> None:
    values = RNG.normal(size=(600, 300)).astype(np.float32)
    values += 1.0  # all lie on one side of the origin ...
    values[5] = 1.0  # ... and this frame in the middle of them
    utt_ids = np.array([f"u{number // 3}" for number in range(600)], dtype=object)
    places = np.arange(600)
    hubs = measure_hubs(FrameSample(values, 0 * places, places, utt_ids, utt_ids))
    assert hubs.top(1)[0] == 5 and hubs.times[5] > 50
    assert hubs.skewness > 2
    assert hubs.times.sum() == 4 * 600
    two = np.array(["a"] * 3 + ["b"] * 3, dtype=object)
    same = FrameSample(np.ones((6, 3), np.float32), np.zeros(6), np.arange(6), two, two)
    assert measure_hubs(same, k=3).times.sum() == 18  # three of the other utterance for each, none of its own
    assert Hubs(np.array([2, 2, 2]), 4).skewness == 0.0


def test_leakage_is_near_chance_without_speakers_and_near_one_with() -> None:
    values, _, who = shards(speakers=4)
    assert (nearest_speakers(values, who, values + 0.0) == who).mean() > 0.7
    assert (nearest_speakers(values, who, RNG.normal(size=values.shape)) == who).mean() < 0.5
    fitting = np.arange(len(who)) % 3 < 2
    blind = speaker_accuracy_of_units(RNG.integers(0, 8, len(who)), who, fitting)
    telling = speaker_accuracy_of_units(np.unique(who.astype(str), return_inverse=True)[1], who, fitting)
    assert abs(blind.accuracy - 0.25) < 0.1 and telling.accuracy == 1.0
    assert telling.chance_level == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize("frame", ["", "utt", "utt:", ":3", "utt:-1", "utt:x", "utt:1.5"])
def test_a_frame_that_is_none_is_one_line(frame: str) -> None:
    with pytest.raises(BowerbirdError, match="UTTERANCE:NUMBER"):
        split_frame(frame)


def test_a_frame_may_have_a_colon_in_its_utterance() -> None:
    assert split_frame("a:b:12") == ("a:b", 12)


def test_variants_are_told_by_their_path(tmp_path: Path) -> None:
    assert variant_of(tmp_path / "features" / "nano" / "shard-0000.npy", tmp_path) == ("features", "nano")
    assert variant_of(tmp_path / "codebook" / "k32", tmp_path) == ("codebook", "k32")
    assert variant_of(tmp_path / "conversion" / "knnvc" / "a.flac", tmp_path) == ("", "")


EVIL = "<img src=x onerror=alert(1)>"
IDENTITY = Identity("features", 1, {"note": EVIL})


@pytest.fixture
def features(tmp_path: Path) -> Path:
    """Features of four speakers in two shards, one dimension of them dead, with names that are hostile."""
    root, rng = tmp_path / "results" / "fake", np.random.default_rng(1)
    study = {"run": "fake", "corpus": {"num_shards": 2}, "features": {"nano": {}, "lost": {}}}
    write_text(root / "config.yaml", dump_config(parse_config(study)))
    rows = []
    for shard in range(2):
        with (
            ShardWriter(root / f"corpus/audio/shard-{shard:04d}.npy", "int16", (), "num_samples") as audio,
            ShardWriter(root / f"features/nano/shard-{shard:04d}.npy", "float16", (5,)) as writer,
        ):
            for speaker in (2 * shard, 2 * shard + 1):
                for take in range(3):
                    utt_id = f"{EVIL} {speaker}-{take}"
                    values = rng.normal(size=(120, 5)) + speaker
                    values[:, 2] = 0.0
                    writer.add(utt_id, values)
                    audio.add(utt_id, rng.integers(-900, 900, 120 * 320 + 80))
                    rows.append(
                        dict.fromkeys(MANIFEST.names, "")
                        | {
                            "utt_id": utt_id,
                            "speaker": f"{EVIL} {speaker}",
                            "sample_rate": 16000,
                            "num_samples": 38480,
                            "duration_s": 2.405,
                            "shard": shard,
                            "split": "train",
                        }
                    )
            audio.close(Identity("corpus", 1, {}), RunRecord())
            writer.close(IDENTITY, RunRecord())
    write_table(root / "corpus/manifest.parquet", pd.DataFrame(rows), Identity("corpus", 1, {}), MANIFEST)
    return root / "features" / "nano"


@pytest.mark.slow
def test_the_page_shows_numbers_pictures_and_players_and_escapes_every_name(
    features: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page"
    show_artifact(features, page, f"{EVIL} 0-1:60", neighbors=3)
    said = capsys.readouterr().out
    assert "dead       1 of 5 dimensions never change" in said
    assert "of 4 speakers " in said and "% from a frame (chance level " in said and "drift " in said and "hubs " in said
    assert len([line for line in said.splitlines() if line.startswith(("  0.", "  1."))]) == 3
    html = (page / "index.html").read_text(encoding="utf-8")
    assert "<img src=x" not in html and html.count("&lt;img src=x") > 10
    assert html.count("<audio ") == 1 + 3 + 6 and html.count("<svg ") == 5
    assert "mathdefault" not in html
    links = [part.split('"')[0] for part in html.split(' src="')[1:]]
    assert len(links) == 2 * 10 and all((page / link).is_file() for link in links)
    assert "http://" not in html.replace("http://www.w3.org/", "") and "https://" not in html
    show_artifact(features / "shard-0001.npy", page)  # again, over its own
    assert (page / "index.html").is_file() and sorted(p.name for p in page.iterdir()) == ["assets", "index.html"]


def test_the_page_replaces_nobody_elses_folder(features: Path, tmp_path: Path) -> None:
    (tmp_path / "mine" / "assets").mkdir(parents=True)
    (tmp_path / "mine" / "assets" / "thesis.txt").write_text("mine")
    with pytest.raises(BowerbirdError, match="not of `bowerbird show`"):
        show_artifact(features, tmp_path / "mine")
    assert (tmp_path / "mine" / "assets" / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("frame", "words"),
    [("nobody:3", "no such utterance"), (f"{EVIL} 0-0:120", "its frames are 0 to 119"), ("3", "UTTERANCE:NUMBER")],
)
def test_a_frame_that_is_not_there_is_one_line(features: Path, frame: str, words: str) -> None:
    with pytest.raises(BowerbirdError, match=words) as error:
        show_artifact(features, None, frame)
    assert "\n" not in str(error.value)


def test_what_has_no_diagnostics_takes_no_page(features: Path, tmp_path: Path) -> None:
    with pytest.raises(BowerbirdError, match="--frame and --output are for features, codebook, pairs"):
        show_artifact(features.parents[1] / "corpus" / "manifest.parquet", tmp_path / "page")
    with pytest.raises(BowerbirdError, match="no such variant of features"):
        show_artifact(features.rename(features.with_name("renamed")))
    with pytest.raises(BowerbirdError, match="no such file"):
        show_artifact(features.parents[1] / "corpus")
