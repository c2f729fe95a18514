"""Conversion: retrieval as in the paper, files that say what they are, kills, failures, loudness."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from speech import DIM, Study, make_study, make_vocoder, run_record, voice, write_trials

from bowerbird.artifacts.shards import Shards
from bowerbird.artifacts.tables import read_table
from bowerbird.audio import read_tags
from bowerbird.config.sections.conversion import ConversionConfig
from bowerbird.config.sections.runtime import RuntimeConfig
from bowerbird.config.systems.anchors import AnchorExperiment
from bowerbird.config.systems.knnvc import KnnvcExperiment
from bowerbird.config.systems.vocoder import VocoderExperiment
from bowerbird.errors import BowerbirdError
from bowerbird.stages.conversion import files, trials
from bowerbird.stages.conversion.files import convert
from bowerbird.stages.conversion.trials import convert_trials
from bowerbird.stages.conversion.waveforms import PEAK, match_loudness, rms_and_peak
from bowerbird.systems.base import Conversion, Utterance
from bowerbird.systems.knnvc.system import KnnVC
from bowerbird.systems.load import load_system

CPU = RuntimeConfig(device="cpu")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return make_study(tmp_path_factory.mktemp("study"))


def run(study: Study, output: Path, experiment=KnnvcExperiment(), **changes) -> Path:  # noqa: B008
    given = {"trials": study.trials, "features": study.features, "models": study.models}
    if experiment.system == "anchor":
        given |= {"features": [], "models": []}
    convert_trials(
        study.manifest,
        audio=study.audio,
        output=output,
        experiment=experiment,
        **{"options": ConversionConfig(), "runtime": CPU} | given | changes,
    )
    return output


def flacs(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.flac"))}


# --------------------------------------------------------------------------------------------------------------- kNN-VC
class Echo:
    """A vocoder whose waveform is its features, flattened."""

    def vocode(self, features: torch.Tensor) -> torch.Tensor:
        return features.flatten()


def utterance(features: np.ndarray, name: str = "u") -> Utterance:
    return Utterance(name, torch.zeros(320 * len(features)), torch.from_numpy(features.astype(np.float32)))


def test_knnvc_is_the_mean_of_the_k_nearest_frames_by_cosine_over_all_references() -> None:
    rng = np.random.default_rng(0)
    source, one, two = (rng.normal(size=(n, 8)) for n in (12, 9, 30))
    pool = np.concatenate([one, two]).astype(np.float32).astype(np.float64)
    similarity = (source @ pool.T) / np.linalg.norm(source, axis=1)[:, None] / np.linalg.norm(pool, axis=1)
    expected = pool[np.argsort(-similarity, axis=1)[:, :4]].mean(axis=1)
    conversion = KnnVC(Echo(), KnnvcExperiment()).convert(utterance(source), [utterance(one), utterance(two)])
    np.testing.assert_allclose(conversion.features, expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(conversion.wave, conversion.features.flatten())
    assert conversion.details["mean_similarity"] == pytest.approx(-np.sort(-similarity, axis=1)[:, :4].mean())


def test_length_of_frames_does_not_matter_and_ties_go_to_the_earlier_frame() -> None:
    pool = np.array([[0.0, 1.0], [5.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, -1.0]])
    converted = KnnVC(Echo(), KnnvcExperiment(k=2)).convert(utterance(np.array([[2.0, 0.0]])), [utterance(pool)])
    assert converted.features.tolist() == [[3.0, 0.0]]  # frames 1 and 2, not 3


def test_too_few_reference_frames_and_missing_features_are_named() -> None:
    with pytest.raises(BowerbirdError, match=r"3 frames.*k = 4.*lower k"):
        KnnVC(Echo(), KnnvcExperiment()).convert(utterance(np.ones((5, 2))), [utterance(np.ones((3, 2)))])
    with pytest.raises(BowerbirdError, match="src: has no features"):
        KnnVC(Echo(), KnnvcExperiment()).convert(Utterance("src", torch.zeros(9)), [utterance(np.ones((9, 2)))])


def test_random_control_ignores_the_source_and_depends_on_the_trial_alone() -> None:
    rng = np.random.default_rng(0)
    references, system = [utterance(rng.normal(size=(50, 4)))], KnnVC(Echo(), KnnvcExperiment(retrieval="random"))
    sources = [utterance(rng.normal(size=(20, 4)), name) for name in "xy"]
    one, two = (system.convert(source, references, {"trial_id": "t1"}).features for source in sources)
    other = system.convert(sources[0], references, {"trial_id": "t2"}).features
    assert torch.equal(one, two) and not torch.equal(one, other)


def test_a_missing_vocoder_is_named() -> None:
    with pytest.raises(BowerbirdError, match="vocoder=FOLDER"):
        load_system(KnnvcExperiment(), {}, torch.device("cpu"))


# --------------------------------------------------------------------------------------------------------------- trials
def test_every_trial_becomes_a_tagged_flac_and_a_row(study: Study, tmp_path: Path) -> None:
    table = read_table(run(study, tmp_path / "trials.parquet"))
    assert table["status"].tolist() == ["ok"] * 3
    assert table["spoken_utt"].tolist() == table["source_utt"].tolist()
    for row in table.itertuples():
        wave, rate = soundfile.read(tmp_path / row.path, dtype="int16")
        assert rate == 16000 and len(wave) == row.num_samples
        assert abs(len(wave) - len(study.waves[row.source_utt])) <= 400
        mark = json.loads(read_tags(tmp_path / row.path)["comment"])
        assert mark["synthetic"] is True and mark["system"] == "knnvc"
        assert "Synthetic" in read_tags(tmp_path / row.path)["title"]
    record = run_record(tmp_path / "trials.parquet")
    assert {"retrieval", "vocoding"} <= set(record["rtf"]) and record["audio_s"] > 3


def test_same_bytes_whatever_the_order_of_trials_and_the_threads(study: Study, tmp_path: Path) -> None:
    first = run(study, tmp_path / "one" / "trials.parquet")
    reordered = write_trials(tmp_path / "reordered.parquet", [("c0", "a"), ("a0", "b"), ("b0", "c")])
    run(study, tmp_path / "two" / "trials.parquet", trials=reordered)
    again = run(study, tmp_path / "three" / "trials.parquet", runtime=RuntimeConfig(device="cpu", threads=2))
    assert flacs(tmp_path / "one") == flacs(tmp_path / "two") == flacs(tmp_path / "three")
    assert first.read_bytes() == again.read_bytes()


def test_a_killed_run_goes_on_and_makes_again_what_is_foreign_or_damaged(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(study, tmp_path / "whole" / "trials.parquet")
    folder = tmp_path / "killed"
    shutil.copytree(whole.parent, folder)
    (folder / "trials.parquet").unlink()
    (folder / "a0-b.flac").unlink()
    damaged, rate = soundfile.read(folder / "b0-c.flac", dtype="int16")
    damaged[100] += 1
    with soundfile.SoundFile(folder / "b0-c.flac", "w", rate, 1, "PCM_16") as file:
        file.comment = read_tags(whole.parent / "b0-c.flac")["comment"]
        file.write(damaged)
    converted = []
    original = trials.TrialConverter.convert
    monkeypatch.setattr(
        trials.TrialConverter, "convert", lambda self, t, *a: converted.append(t["trial_id"]) or original(self, t, *a)
    )
    run(study, folder / "trials.parquet")
    assert converted == ["a0-b", "b0-c"]
    assert flacs(folder) == flacs(whole.parent)
    assert (folder / "trials.parquet").read_bytes() == whole.read_bytes()
    converted.clear()
    run(study, folder / "trials.parquet", KnnvcExperiment(k=5))
    assert len(converted) == 3


class Moody:
    """Refuses one source, and one more with an error of its own."""

    def convert(self, source, references, trial=None):
        if source.utt_id == "a0":
            raise BowerbirdError("a0: not today")
        if source.utt_id == "b0":
            return Conversion(wave=torch.full((3200,), float("nan")))
        return Conversion(wave=source.wave)


def test_a_failed_trial_is_recorded_and_counted(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(study, tmp_path / "trials.parquet")
    monkeypatch.setattr(trials, "load_system", lambda *_: Moody())
    table = read_table(run(study, tmp_path / "trials.parquet", KnnvcExperiment(k=3)))
    assert table["status"].tolist() == ["failed", "failed", "ok"]
    assert table["error"].tolist() == ["a0: not today", "the system gave values that are not finite", ""]
    assert list(flacs(tmp_path)) == ["c0-a.flac"]  # the older files of failed trials are gone
    assert run_record(tmp_path / "trials.parquet")["trials"] == {"failed": 2, "ok": 1}


def test_if_all_fail_it_is_an_error_that_names_the_first(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = SimpleNamespace(convert=lambda *_: Conversion(wave=torch.zeros(100)))
    monkeypatch.setattr(trials, "load_system", lambda *_: system)
    with pytest.raises(BowerbirdError, match="all 3 trials failed; the first, a0-b: the system gave silence"):
        run(study, tmp_path / "trials.parquet")
    assert not (tmp_path / "trials.parquet").exists()


@pytest.mark.parametrize(
    ("anchor", "spoken"), [("ground-truth", "a0"), ("heldout-target", "b2"), ("random-speaker", "c1")]
)
def test_anchors_play_what_the_trial_names(study: Study, tmp_path: Path, anchor: str, spoken: str) -> None:
    table = read_table(run(study, tmp_path / "trials.parquet", AnchorExperiment(anchor=anchor)))
    assert table["spoken_utt"][0] == spoken
    wave = soundfile.read(tmp_path / "a0-b.flac", dtype="int16")[0].astype(float)
    original = study.waves[spoken].astype(float)
    assert len(wave) == len(original)
    assert np.corrcoef(wave, original)[0, 1] > 0.9999
    if anchor == "ground-truth":
        assert (wave == original).all()


def test_the_vocoder_resynthesises_the_source(study: Study, tmp_path: Path) -> None:
    table = read_table(run(study, tmp_path / "trials.parquet", VocoderExperiment()))
    frames = Shards(study.features).lengths()
    assert table["num_samples"].tolist() == [320 * frames[utt] for utt in table["source_utt"]]


def test_chunks_leave_no_seam(study: Study, tmp_path: Path) -> None:
    """The longest source in one piece or in chunks of 1.01 s: the same samples but for rounding."""
    waves = []
    for seconds in (20.0, 1.01):
        run(study, tmp_path / str(seconds) / "trials.parquet", options=ConversionConfig(max_chunk_s=seconds))
        waves.append(soundfile.read(tmp_path / str(seconds) / "a0-b.flac", dtype="int16")[0].astype(int))
    assert np.abs(waves[0] - waves[1]).max() <= 1


def test_missing_models_and_wrong_roles_are_named(study: Study, tmp_path: Path) -> None:
    with pytest.raises(BowerbirdError, match="ROLE=FOLDER"):
        run(study, tmp_path / "t.parquet", models=["vocoder"])
    with pytest.raises(BowerbirdError, match="no such folder"):
        run(study, tmp_path / "t.parquet", models=["vocoder=nowhere"])


# ------------------------------------------------------------------------------------------------------------- loudness
def test_loudness_of_the_source_without_clipping() -> None:
    rng = np.random.default_rng(0)
    source = (0.1 * rng.normal(size=16000)).astype(np.float32)
    loud = match_loudness(5 * source[::-1], source, "source")
    assert rms_and_peak(loud.samples / 32768)[0] == pytest.approx(rms_and_peak(source)[0], rel=1e-3)
    assert loud.gain_db == pytest.approx(-13.979, abs=0.01) and not loud.limited
    spiky = 0.001 * source
    spiky[5000] = 0.9
    held = match_loudness(spiky, source, "source")
    assert held.limited and np.abs(held.samples).max() == pytest.approx(PEAK * 32768, abs=2)
    as_is = match_loudness(source, 3 * source, "none")
    assert as_is.gain_db == 0.0 and np.abs(as_is.samples / 32768 - source).max() < 1e-4


@pytest.mark.parametrize(
    ("wave", "message"), [(np.zeros(0), "no samples"), (np.full(9, np.inf), "not finite"), (np.zeros(99), "silence")]
)
def test_unusable_waves_are_refused(wave: np.ndarray, message: str) -> None:
    with pytest.raises(BowerbirdError, match=message):
        match_loudness(wave.astype(np.float32), np.ones(9, np.float32), "source")


# -------------------------------------------------------------------------------------------------------------- convert
@pytest.fixture
def recordings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Recordings of two voices in several formats, and a projection of samples in the place of the bundled encoder."""

    mix = np.random.default_rng(0).normal(size=(320, DIM)).astype(np.float32)

    def extract(wave: np.ndarray) -> torch.Tensor:
        frames = (len(wave) - 80) // 320
        return torch.from_numpy(wave[: 320 * frames].reshape(frames, 320) @ mix)

    vocoder = make_vocoder(tmp_path / "vocoder")
    encoder = SimpleNamespace(extract=extract, describe=lambda: {"weights_sha256": "0" * 64})
    monkeypatch.setattr(files, "load_extractor", lambda *_: encoder)
    monkeypatch.setattr(files, "bundled", lambda spec: str(vocoder))
    monkeypatch.setattr(files, "installed_recognizer", lambda: "pocketsphinx")  # one encoder, one space
    one, two = voice(110, 2.0, 0), voice(190, 3.0, 1)
    soundfile.write(tmp_path / "in.wav", np.stack([one, one], axis=1), 44100)
    soundfile.write(tmp_path / "voice.flac", two, 16000)
    soundfile.write(tmp_path / "silent.wav", np.zeros(32000, np.int16), 16000)
    soundfile.write(tmp_path / "short.wav", two[:800], 16000)
    return tmp_path


@pytest.mark.parametrize("name", ["out.wav", "out.flac", "folder/out.flac"])
def test_convert_one_file_of_any_rate(recordings: Path, name: str) -> None:
    convert(recordings / "in.wav", [recordings / "voice.flac"], recordings / name, runtime=CPU)
    info = soundfile.info(recordings / name)
    assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
    assert info.duration == pytest.approx(32000 / 44100, abs=0.03)
    assert json.loads(read_tags(recordings / name)["comment"])["synthetic"] is True


def test_convert_a_folder(recordings: Path) -> None:
    source = recordings / "source" / "deep"
    source.mkdir(parents=True)
    for name in ("a.wav", "b.wav"):
        shutil.copy(recordings / "in.wav", source / name)
    convert(recordings / "source", [recordings / "voice.flac"], recordings / "result", runtime=CPU)
    assert sorted(p.name for p in (recordings / "result" / "deep").glob("*.flac")) == ["a.flac", "b.flac"]
    shutil.copy(recordings / "silent.wav", source / "c.wav")
    with pytest.raises(BowerbirdError, match=r"1 of 3 files were not converted.*c\.wav: is silent"):
        convert(recordings / "source", [recordings / "voice.flac"], recordings / "result", runtime=CPU)


@pytest.mark.parametrize(
    ("source", "voice_", "output", "message"),
    [
        ("none.wav", "voice.flac", "o.wav", r"source: .*none\.wav: no such file"),
        ("in.wav", "none.wav", "o.wav", r"--voice: .*none\.wav: no such file"),
        ("in.wav", "silent.wav", "o.wav", "--voice: .*is silent"),
        ("silent.wav", "voice.flac", "o.wav", "source: .*is silent"),
        ("in.wav", "short.wav", "o.wav", "--voice: .*too short.*several seconds"),
        ("short.wav", "voice.flac", "o.wav", "source: .*too short"),
        ("in.wav", "voice.flac", "o.mp3", "--output: .*use .flac or .wav"),
        ("in.wav", "voice.flac", "in.wav", "is the source itself"),
    ],
)
def test_mistakes_are_named(recordings: Path, source: str, voice_: str, output: str, message: str) -> None:
    with pytest.raises(BowerbirdError, match=message):
        convert(recordings / source, [recordings / voice_], recordings / output, runtime=CPU)


def test_convert_with_an_experiment_of_a_run(recordings: Path) -> None:
    results = recordings / "results"
    results.mkdir()
    (results / "config.yaml").write_text(
        "features: {nano: {}}\n"
        "experiments:\n"
        "  voc: {system: vocoder, features: nano}\n"
        "  knn: {system: knnvc, features: nano, vocoder: voc, k: 3}\n"
        "  control: {system: knnvc, features: nano, vocoder: voc, retrieval: random}\n"
        "  truth: {system: anchor}\n"
    )
    call = {"source": recordings / "in.wav", "voice": [recordings / "voice.flac"], "output": recordings / "o.wav"}
    with pytest.raises(BowerbirdError, match="knn, control; choose one"):
        convert(**call, run=results, runtime=CPU)
    with pytest.raises(BowerbirdError, match="knn: its vocoder is not trained yet"):
        convert(**call, run=results, experiment="knn", runtime=CPU)
    make_vocoder(results / "training" / "voc" / "vocoder")
    convert(**call, run=results, experiment="knn", runtime=CPU)
    assert (recordings / "o.wav").exists()
    convert(**call, run=results, system="vocoder", runtime=CPU)
    with pytest.raises(BowerbirdError, match="an anchor converts nothing"):
        convert(**call, run=results, experiment="truth", runtime=CPU)
    with pytest.raises(BowerbirdError, match=r"'nobody'.*known: voc, knn"):
        convert(**call, run=results, experiment="nobody", runtime=CPU)
    with pytest.raises(BowerbirdError, match="needs --run"):
        convert(**call, system="vocoder", runtime=CPU)
