"""The scorers of the families: verifiers with their thresholds, transcripts of sources, distortion, opinions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx_files import write_opinion
from speech import TEXTS, Study
from test_evaluation import (
    CPU,
    OPTIONS,
    FixedRecognizer,
    SpectrumVerifier,
    altered,
    anchors,
    score,
    study,
    values,
    verifier,
)

from bowerbird.artifacts.tables import read_identity, read_table
from bowerbird.encoders.checkpoint import ModelIdentity
from bowerbird.errors import BowerbirdError
from bowerbird.stages.evaluation import intelligibility, speaker
from bowerbird.stages.evaluation.aggregate import collect_series
from bowerbird.stages.evaluation.intelligibility import transcribe_sources
from bowerbird.stages.evaluation.score import score_trials
from bowerbird.stages.evaluation.summarize import summarize_scores

__all__ = ["anchors", "study", "verifier"]  # fixtures


def summary(paths: list[Path], output: Path) -> dict[tuple[str, str], float]:
    summarize_scores(paths, output, OPTIONS)
    return read_table(output).set_index(["experiment", "metric"])["mean"].to_dict()


def test_the_share_of_the_way_is_0_for_the_source_and_1_for_the_targets_own_speech(
    study: Study, anchors: dict[str, Path], tmp_path: Path
) -> None:
    paths = [tmp_path / name / "speaker.parquet" for name in anchors]
    for (_, conversion), path in zip(anchors.items(), paths, strict=True):
        score(study, conversion, "speaker", path)
    found = summary(paths, tmp_path / "summary.parquet")
    assert found["ground-truth", "secs_rel"] == pytest.approx(0.0, abs=1e-6)
    assert found["heldout-target", "secs_rel"] == pytest.approx(1.0)
    assert found["heldout-target", "eer_ind"] == pytest.approx(0.5, abs=0.17)  # real speech against itself
    assert found["ground-truth", "eer_ind"] == pytest.approx(0.0, abs=0.34)
    assert found["heldout-target", "eer_ver"] < found["ground-truth", "eer_ver"]
    assert found["heldout-target", "acc_eer"] == 1.0 and found["ground-truth", "acc_eer"] < 0.5
    assert not any(metric in ("secs_gain", "secs_span", "secs_real", "secs_other") for _, metric in found)


def test_the_threshold_is_the_verifiers_own_and_the_row_says_it(
    study: Study, anchors: dict[str, Path], tmp_path: Path
) -> None:
    models = set()
    for name, conversion in anchors.items():
        table = score(study, conversion, "speaker", tmp_path / name / "s.parquet")
        models |= set(table.loc[table["metric"] == "acc_eer", "model"])
    (model,) = models
    assert model.startswith("spectra, threshold 0.") and "of 3 genuine and 3 impostor pairs" in model


def test_no_anchor_is_compared_with_itself_as_the_third_speaker(
    study: Study, anchors: dict[str, Path], tmp_path: Path
) -> None:
    table = score(study, anchors["ground-truth"], "speaker", tmp_path / "s.parquet").set_index("metric")
    assert table.loc["secs_other", "value"].max() < 0.999
    spoken = read_table(anchors["ground-truth"])["random_speaker_utt"].tolist()
    assert all(
        utt.endswith("1") for utt in spoken
    )  # the anchor plays these; the verifier compares with held-out ones, "2"


def test_two_verifiers_stand_side_by_side(
    study: Study, anchors: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Other(SpectrumVerifier):
        def describe(self):
            return ModelIdentity("other", "2" * 64)

    monkeypatch.setattr(speaker, "load_verifier", lambda spec: Other() if spec == "other" else SpectrumVerifier())
    options = OPTIONS.model_copy(update={"second_verifier": "other"})
    path = tmp_path / "ground-truth" / "speaker.parquet"
    table = score(study, anchors["ground-truth"], "speaker", path, options)
    models = table.groupby("metric")["model"].first()
    assert models["secs"] == "spectra" and models["secs_second"] == "other"
    assert read_identity(path)["verifiers"] == {"first": "spectra", "second": "other"}
    assert values(table, "secs") == values(table, "secs_second")
    found = summary([path], tmp_path / "summary.parquet")
    assert found["ground-truth", "eer_ind_second"] == found["ground-truth", "eer_ind"]


def test_a_failed_conversion_counts_in_equal_error_rates(
    study: Study, anchors: dict[str, Path], tmp_path: Path
) -> None:
    names = {"ok": anchors["heldout-target"]}
    names["failed"] = altered(anchors["heldout-target"], status=["ok", "failed", "ok"], error=["", "no luck", ""])
    paths = [tmp_path / name / "speaker.parquet" for name in names]
    for conversion, path in zip(names.values(), paths, strict=True):
        score(study, conversion, "speaker", path)
    found = summary(paths, tmp_path / "summary.parquet")
    assert found["failed", "eer_ver"] >= found["ok", "eer_ver"] and found["failed", "eer_ind"] <= found["ok", "eer_ind"]
    series = {item.metric: item for item in collect_series({paths[1]: read_table(paths[1])})}
    assert series["eer_ind"].trials.loc["b0-c", "first"] > 0  # the real pair
    assert series["eer_ver"].trials.loc["b0-c", "first"] == series["eer_ind"].trials.loc["b0-c", "second"] == -1.0
    assert len(series["eer_ver"].scored) == 3
    assert found["failed", "acc_eer"] == pytest.approx(2 / 3)


def transcribed(study: Study, output: Path) -> Path:
    transcribe_sources(study.trials, study.audio, output, OPTIONS, CPU)
    return output


def test_dwer_is_against_what_is_recognized_in_the_source(
    study: Study, anchors: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = TEXTS[0].replace("birch", "perch")
    monkeypatch.setattr(intelligibility, "load_recognizer", lambda *_, **__: FixedRecognizer(text=wrong))
    transcripts = transcribed(study, tmp_path / "transcripts.parquet")
    assert read_table(transcripts)["utt_id"].tolist() == ["a0", "b0", "c0"]
    paths = []
    for name, conversion in anchors.items():
        paths.append(tmp_path / name / "intelligibility.parquet")
        score_trials(
            conversion,
            study.trials,
            study.manifest,
            study.audio,
            paths[-1],
            "intelligibility",
            OPTIONS,
            CPU,
            transcripts,
        )
    found = summary(paths, tmp_path / "summary.parquet")
    assert found["ground-truth", "wer"] == pytest.approx(1 / 8)  # the recognizer's own error
    assert found["ground-truth", "dwer"] == 0.0
    rows = read_table(paths[1])
    assert set(rows.loc[rows["metric"] == "dword_hits", "note"]) == {"says other words than the source"}


def test_transcripts_by_another_recognizer_are_refused(
    study: Study, anchors: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transcripts = transcribed(study, tmp_path / "transcripts.parquet")
    monkeypatch.setattr(intelligibility, "load_recognizer", lambda *_, **__: FixedRecognizer(name="another"))
    with pytest.raises(BowerbirdError, match="transcribed by 'fixed', not by 'another'"):
        score_trials(
            anchors["ground-truth"],
            study.trials,
            study.manifest,
            study.audio,
            tmp_path / "s.parquet",
            "intelligibility",
            OPTIONS,
            CPU,
            transcripts,
        )


def test_a_source_without_words_has_no_dwer(
    study: Study, anchors: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intelligibility, "load_recognizer", lambda *_, **__: FixedRecognizer(text=""))
    transcripts = transcribed(study, tmp_path / "transcripts.parquet")
    score_trials(
        anchors["ground-truth"],
        study.trials,
        study.manifest,
        study.audio,
        tmp_path / "s.parquet",
        "intelligibility",
        OPTIONS,
        CPU,
        transcripts,
    )
    table = read_table(tmp_path / "s.parquet")
    assert values(table, "mwer") == [1.0] * 3  # an empty hypothesis is all words deleted
    assert np.isnan(values(table, "dword_hits")).all()
    assert set(table.loc[table["metric"] == "dword_hits", "note"]) == {"nothing was recognized in the source"}


def test_distortion_needs_parallel_truth_and_opinions_their_file(
    study: Study, anchors: dict[str, Path], tmp_path: Path
) -> None:
    folder = write_opinion(tmp_path / "utmos22")
    options = OPTIONS.model_copy(update={"opinions": {"utmos": str(folder)}})
    conversion = altered(anchors["ground-truth"], parallel_utt=["b0", "", "a0"])
    table = score(study, conversion, "quality", tmp_path / "s.parquet", options)
    distortion = table[table["metric"] == "mcd"]
    assert np.isfinite(distortion["value"]).tolist() == [True, False, True] and distortion["value"].max() > 1
    assert distortion["note"].tolist() == ["", "the target does not say this sentence", ""]
    mean = [float(np.abs(study.waves[utt] / 32768).mean()) for utt in ("a0", "b0", "c0")]
    assert values(table, "utmos") == pytest.approx(mean, rel=1e-3)
    other = score(study, anchors["heldout-target"], "quality", tmp_path / "t.parquet", options)
    assert set(other.loc[other["metric"] == "mcd", "note"]) == {"says other words than the source"}
    lost = altered(anchors["ground-truth"], status=["ok", "failed", "ok"], error=["", "no luck", ""])
    failed = score(study, lost, "quality", tmp_path / "u.parquet", options).set_index(["metric", "trial_id"])
    assert np.isnan(failed.loc[("utmos", "b0-c"), "value"])
    assert failed.loc[("utmos", "b0-c"), "note"] == "conversion failed: no luck"
