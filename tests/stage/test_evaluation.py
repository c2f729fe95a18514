"""Evaluation: every number with its definition, nothing skipped in silence, nothing compared that may not be."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from speech import IDENTITY, TEXTS, Study, make_study

from bowerbird.artifacts.audio_files import write_audio
from bowerbird.artifacts.files import file_sha256
from bowerbird.artifacts.identity import Identity
from bowerbird.artifacts.tables import SCORES, TRIALS, read_identity, read_table, write_table
from bowerbird.config.graph import Graph
from bowerbird.config.loading import parse_config
from bowerbird.config.paths import Paths
from bowerbird.config.sections.conversion import ConversionConfig
from bowerbird.config.sections.evaluation import FAMILIES, EvaluationConfig
from bowerbird.config.sections.runtime import RuntimeConfig
from bowerbird.config.systems.anchors import AnchorExperiment
from bowerbird.encoders.checkpoint import ModelIdentity
from bowerbird.encoders.recognizer import Recognizer
from bowerbird.errors import BowerbirdError
from bowerbird.metrics.quality import OUTPUTS
from bowerbird.stages.conversion.trials import convert_trials
from bowerbird.stages.evaluation import intelligibility, quality, speaker
from bowerbird.stages.evaluation.intelligibility import transcribe_sources
from bowerbird.stages.evaluation.score import score_trials
from bowerbird.stages.evaluation.summarize import summarize_scores
from bowerbird.stages.evaluation.trial_data import cached_by_wave

CPU = RuntimeConfig(device="cpu")
OPTIONS = EvaluationConfig(bootstrap=100, closed_set=False)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return make_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def anchors(study: Study) -> dict[str, Path]:
    """Conversions of two anchors."""
    tables = {}
    for anchor in ("ground-truth", "heldout-target"):
        tables[anchor] = study.root / "conversion" / anchor / "trials.parquet"
        convert_trials(
            study.manifest,
            study.trials,
            study.audio,
            tables[anchor],
            AnchorExperiment(anchor=anchor),
            options=ConversionConfig(),
            runtime=CPU,
        )
    return tables


class FixedRecognizer(Recognizer):
    """Recognizes one text, the first one of the corpus, in everything."""

    languages = ("en",)

    def __init__(self, name: str = "fixed", text: str = TEXTS[0]) -> None:
        self.name, self.text = name, text

    def transcribe(self, waves: Sequence[np.ndarray], language: str) -> list[str]:
        return [self.text for _ in waves]

    def describe(self) -> ModelIdentity:
        return ModelIdentity(self.name, "0" * 64)


class SpectrumVerifier:
    """A verifier that embeds by the magnitude spectrum and counts its work."""

    def __init__(self) -> None:
        self.calls = 0

    def embed(self, waves: Sequence[np.ndarray]) -> np.ndarray:
        self.calls += len(waves)
        return np.stack([np.abs(np.fft.rfft(wave, 2048))[:256] for wave in waves])

    def describe(self) -> ModelIdentity:
        return ModelIdentity("spectra", "1" * 64)


@pytest.fixture(autouse=True)
def verifier(monkeypatch: pytest.MonkeyPatch) -> SpectrumVerifier:
    """Simple models in the place of real ones; the verifier is given back."""
    spectra = SpectrumVerifier()
    dnsmos = SimpleNamespace(
        score=lambda _: dict.fromkeys(OUTPUTS, 3.0), describe=lambda: ModelIdentity("dnsmos", "2" * 64)
    )
    monkeypatch.setattr(intelligibility, "load_recognizer", lambda *_, **__: FixedRecognizer())
    monkeypatch.setattr(speaker, "load_verifier", lambda *_: spectra)
    distill_mos = SimpleNamespace(
        metrics=("distill_mos",),
        score=lambda wave: {"distill_mos": 4.0 if wave.any() else math.nan},
        describe=lambda: ModelIdentity("distill-mos", "3" * 64),
    )
    monkeypatch.setattr(quality, "DnsmosScorer", lambda: dnsmos)
    monkeypatch.setattr(quality, "DistillMosScorer", lambda: distill_mos)
    return spectra


def score(
    study: Study, conversion: Path, family: str, output: Path, options: EvaluationConfig = OPTIONS
) -> pd.DataFrame:
    score_trials(conversion, study.trials, study.manifest, study.audio, output, family, options, CPU)
    return read_table(output)


def values(table: pd.DataFrame, metric: str) -> list[float]:
    return table.loc[table["metric"] == metric, "value"].tolist()


def altered(conversion: Path, **columns: Sequence) -> Path:
    """A copy of a conversion table, beside it, with other values."""
    table = read_table(conversion).assign(**columns)
    path = conversion.with_name("altered.parquet")
    write_table(path, table, IDENTITY)
    return path


@pytest.mark.parametrize("family", FAMILIES)
def test_every_row_carries_its_definition(study: Study, anchors: dict[str, Path], tmp_path: Path, family: str) -> None:
    table = score(study, anchors["ground-truth"], family, tmp_path / "s.parquet")
    assert table.columns.tolist() == SCORES.names
    assert not table.duplicated(["trial_id", "metric"]).any()
    version = table["metric"].map({"f0_pcc": "@2"}).fillna("@1")
    assert (table["definition"] == table["metric"] + version).all()
    assert (table["model"] != "").all()
    without_model = table["metric"].isin(["epcc", "mcd"])
    assert (table["weights_sha256"].str.len() == 64)[~without_model].all()
    assert table["trial_id"].nunique() == 3
    assert (table["note"] != "")[table["value"].isna()].all()
    assert table["source_gender"].isin(["F", "M"]).all()


def test_tables_record_the_parameters_that_the_graph_declares(
    study: Study, anchors: dict[str, Path], tmp_path: Path
) -> None:
    config = parse_config({"run": "small", "experiments": {"ground-truth": AnchorExperiment().model_dump()}})
    graph = Graph(config, Paths.of(config))
    for family in FAMILIES:
        path = tmp_path / "ground-truth" / f"{family}.parquet"
        score(study, anchors["ground-truth"], family, path, config.evaluation)
        assert read_identity(path)["params"] == dict(graph.score_trials("ground-truth", family).params)
    output = tmp_path / "summary.parquet"
    summarize_scores(sorted(tmp_path.glob("*/*.parquet")), output, config.evaluation)
    assert read_identity(output)["params"] == {**graph.summarize_scores().params, "experiments": ["ground-truth"]}
    transcribe_sources(study.trials, study.audio, tmp_path / "transcripts.parquet", config.evaluation, CPU)
    assert read_identity(tmp_path / "transcripts.parquet")["params"] == dict(graph.transcribe_sources().params)


def test_unknown_families_and_altered_audio_are_named(study: Study, anchors: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(BowerbirdError, match=r"'vibes'.*known: intelligibility"):
        score(study, anchors["ground-truth"], "vibes", tmp_path / "s.parquet")
    other = altered(anchors["ground-truth"], sha256=["0" * 64] * 3)
    with pytest.raises(BowerbirdError, match=r"a0-b\.flac: missing or changed"):
        score(study, other, "prosody", tmp_path / "s.parquet")
    short = read_table(study.trials).iloc[:2]
    write_table(tmp_path / "short.parquet", short, IDENTITY, TRIALS)
    with pytest.raises(BowerbirdError, match="1 trials are not the ones"):
        score_trials(
            anchors["ground-truth"],
            tmp_path / "short.parquet",
            study.manifest,
            study.audio,
            tmp_path / "s.parquet",
            "prosody",
            OPTIONS,
            CPU,
        )


def test_failed_conversions_are_deletions_of_every_word(study: Study, anchors: dict[str, Path], tmp_path: Path) -> None:
    conversion = altered(anchors["ground-truth"], status=["ok", "failed", "ok"], error=["", "out of luck", ""])
    table = score(study, conversion, "intelligibility", tmp_path / "s.parquet")
    assert values(table, "word_deletions") == [0, 8, 0]
    assert values(table, "mwer") == [0, 1, 0]
    assert "conversion failed: out of luck" in table.loc[table["trial_id"] == "b0-c", "note"].tolist()
    for family in ("speaker", "prosody"):
        rows = score(study, conversion, family, tmp_path / f"{family}.parquet").set_index("trial_id").loc["b0-c"]
        assert rows["note"].str.contains("out of luck").all()
        assert rows.loc[rows["metric"] == "acc_eer", "value"].isin([0.0]).all()
        assert rows.loc[~rows["metric"].isin(["acc_eer", "secs_real"]), "value"].isna().all()


def test_an_anchor_is_scored_by_the_words_it_says(study: Study, anchors: dict[str, Path], tmp_path: Path) -> None:
    """Utterance 2 of each speaker says text 0, as the sources do; utterance 1 says text 1."""
    table = score(study, anchors["heldout-target"], "intelligibility", tmp_path / "s.parquet")
    assert values(table, "mwer") == [0.0, 0.0, 0.0]
    other = altered(anchors["heldout-target"], spoken_utt=["b1", "c1", "a1"])
    assert min(values(score(study, other, "intelligibility", tmp_path / "t.parquet"), "mwer")) > 0.5


def test_other_languages_and_empty_texts_are_not_scored_and_say_so(
    study: Study, anchors: dict[str, Path], tmp_path: Path
) -> None:
    conversion = altered(anchors["ground-truth"], language=["en", "de", "en"], text=[TEXTS[0], TEXTS[0], "..."])
    table = score(study, conversion, "intelligibility", tmp_path / "s.parquet")
    rates = table[table["metric"] == "mwer"]
    assert rates["value"].isna().tolist() == [False, True, True]
    assert rates["note"].tolist() == ["", "language 'de': fixed does not recognize it", "no reference text"]


def test_closed_set_is_the_same_for_every_experiment(study: Study, anchors: dict[str, Path], tmp_path: Path) -> None:
    options = OPTIONS.model_copy(update={"closed_set": True})
    models = set()
    for name, conversion in anchors.items():
        table = score(study, conversion, "intelligibility", tmp_path / name / "s.parquet", options)
        rows = table[table["metric"] == "sentence_accuracy"]
        assert rows["value"].isin([0.0, 1.0]).all()
        models |= set(rows["model"])
    assert len(models) == 1


def test_similarity_is_to_the_held_out_utterance_and_embeddings_are_made_once(
    study: Study, anchors: dict[str, Path], tmp_path: Path, verifier: SpectrumVerifier
) -> None:
    table = score(study, anchors["ground-truth"], "speaker", tmp_path / "s.parquet")
    assert values(table, "src") == pytest.approx([1.0] * 3)
    assert values(table, "nearer_target") == [0.0] * 3
    embedded = {v: verifier.embed([study.waves[v] / 32768])[0] for v in ("a0", "b2")}
    cosine = embedded["a0"] @ embedded["b2"] / np.linalg.norm(embedded["a0"]) / np.linalg.norm(embedded["b2"])
    assert values(table, "secs")[0] == pytest.approx(cosine, abs=1e-5)
    assert verifier.calls - 2 == 9  # each of nine utterances once: the conversions are three of them


def test_the_upper_anchor_is_not_compared_with_itself(study: Study, anchors: dict[str, Path], tmp_path: Path) -> None:
    table = score(study, anchors["heldout-target"], "speaker", tmp_path / "s.parquet")
    assert max(values(table, "secs")) < 0.999
    assert values(table, "secs") == pytest.approx(values(table, "secs_prompt"))  # with one reference, the same number
    assert table["note"].str.contains("first reference instead").all()


def test_the_source_keeps_its_own_prosody_and_other_words_have_none(
    study: Study, anchors: dict[str, Path], tmp_path: Path
) -> None:
    table = score(study, anchors["ground-truth"], "prosody", tmp_path / "s.parquet")
    assert values(table, "f0_pcc") == pytest.approx([1.0] * 3)
    assert values(table, "f0_rmse_centred") == pytest.approx([0.0] * 3)
    assert values(table, "vuv_f1") == [1.0] * 3
    other = score(study, anchors["heldout-target"], "prosody", tmp_path / "t.parquet")
    assert other["value"].isna().all() and (other["note"] == "says other words than the source").all()


def scores(path: Path, rows: list[tuple[str, str, float]], trials: str = "list", **columns: str) -> Path:
    """A score table of (trial_id, metric, value); the trial's id is its speakers, "s1-t2"."""
    table = pd.DataFrame(
        {
            "trial_id": [trial for trial, _, _ in rows],
            "metric": [metric for _, metric, _ in rows],
            "value": [value for _, _, value in rows],
            "definition": [f"{metric}@1" for _, metric, _ in rows],
            "note": ["no reason" if np.isnan(value) else "" for _, _, value in rows],
            "source_speaker": [trial.split("-")[0] for trial, _, _ in rows],
            "target_speaker": [trial.split("-")[1] for trial, _, _ in rows],
            **dict.fromkeys(("text", "source_gender", "target_gender", "language", "condition"), ""),
            "model": "verifier",
            "weights_sha256": "0" * 64,
            "normalizer": "plain",
        }
    ).assign(**columns)
    write_table(path, table, Identity("evaluation", 1, {}, {"trials": trials}), SCORES)
    return path


def grid(metric: str, value, sources: int = 3, targets: int = 3) -> list[tuple[str, str, float]]:
    return [(f"s{i}-t{j}", metric, float(value(i, j))) for i in range(sources) for j in range(targets)]


def word_counts(hits: int, substitutions: int, trial: str) -> list[tuple[str, str, float]]:
    counts = {"hits": hits, "substitutions": substitutions, "deletions": 0, "insertions": 0}
    rate = substitutions / (hits + substitutions)
    return [(trial, f"word_{name}", value) for name, value in counts.items()] + [(trial, "mwer", rate)]


def summarize(paths: list[Path], output: Path) -> pd.DataFrame:
    summarize_scores(paths, output, OPTIONS)
    return read_table(output).set_index(["experiment", "metric"])


def test_wer_is_pooled_over_words_and_the_mean_of_rates_is_another_metric(tmp_path: Path) -> None:
    rows = word_counts(0, 1, "s0-t0") + word_counts(9, 0, "s1-t1")
    summary = summarize([scores(tmp_path / "sys" / "intelligibility.parquet", rows)], tmp_path / "summary.parquet")
    assert summary.loc[("sys", "wer"), "mean"] == pytest.approx(0.1)
    assert summary.loc[("sys", "wer"), "definition"] == "wer@1"
    assert summary.loc[("sys", "wer"), "pooled"] == "errors / words, summed over trials"
    assert summary.loc[("sys", "mwer"), "mean"] == pytest.approx(0.5)
    assert "descriptive only: 2 speakers" in summary.loc[("sys", "wer"), "note"]
    assert not any(metric.startswith("word_") for _, metric in summary.index)


def test_missing_values_are_counted_with_their_reason(tmp_path: Path) -> None:
    rows = [("s0-t0", "f0_pcc", 0.5), ("s0-t1", "f0_pcc", np.nan), ("s1-t0", "vuv_f1", np.nan)]
    summary = summarize([scores(tmp_path / "sys" / "prosody.parquet", rows)], tmp_path / "summary.parquet")
    row = summary.loc[("sys", "f0_pcc")]
    assert (row["n"], row["missing"], row["mean"]) == (1, 1, 0.5)
    assert "1 trials without a value: no reason" in row["note"]
    assert np.isnan(summary.loc[("sys", "vuv_f1"), "mean"])


@pytest.mark.parametrize(
    ("column", "value"),
    [("definition", "secs@2"), ("model", "other verifier"), ("weights_sha256", "f" * 64), ("normalizer", "loud")],
)
def test_different_definitions_never_meet(tmp_path: Path, column: str, value: str) -> None:
    one = scores(tmp_path / "one" / "speaker.parquet", grid("secs", lambda i, j: 0.5))
    two = scores(tmp_path / "two" / "speaker.parquet", grid("secs", lambda i, j: 0.6), **{column: value})
    with pytest.raises(BowerbirdError, match=f"secs: not comparable: {column} .*{value}.*same settings"):
        summarize([one, two], tmp_path / "summary.parquet")
    assert not (tmp_path / "summary.parquet").exists()


def test_different_trials_never_meet(tmp_path: Path) -> None:
    one = scores(tmp_path / "one" / "speaker.parquet", grid("secs", lambda i, j: 0.5))
    two = scores(tmp_path / "two" / "speaker.parquet", grid("secs", lambda i, j: 0.5), trials="another list")
    with pytest.raises(BowerbirdError, match="another list of trials"):
        summarize([one, two], tmp_path / "summary.parquet")


def test_differences_are_paired_and_the_same_when_made_twice(tmp_path: Path) -> None:
    one = scores(tmp_path / "one" / "speaker.parquet", grid("secs", lambda i, j: i + j / 3))
    two = scores(tmp_path / "two" / "speaker.parquet", grid("secs", lambda i, j: i + j / 3 - 0.25))
    summarize([one, two], tmp_path / "a" / "summary.parquet")
    summarize([one, two], tmp_path / "b" / "summary.parquet")
    for name in ("summary.parquet", "differences.parquet"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    difference = read_table(tmp_path / "a" / "differences.parquet").iloc[0]
    assert (difference["first"], difference["second"], difference["n"]) == ("one", "two", 9)
    assert difference[["difference", "low", "high"]].tolist() == pytest.approx([0.25] * 3)
    assert difference["p_value"] < 0.05


def test_quality_can_be_scored_of_some_trials_the_same_for_all(
    study: Study, anchors: dict[str, Path], tmp_path: Path
) -> None:
    options = OPTIONS.model_copy(update={"quality_trials": 2})
    chosen = []
    for name in ("ground-truth", "heldout-target"):
        table = score(study, anchors[name], "quality", tmp_path / name / "s.parquet", options)
        assert values(table, "distill_mos") == [4.0] * 3  # of all trials
        table = table[table["metric"].str.startswith("dnsmos")]
        known = table[table["value"].notna()]
        assert known["trial_id"].nunique() == 2
        assert (table["note"] == "not among the evaluation.quality_trials = 2 that are scored").sum() == 4
        chosen.append(set(known["trial_id"]))
    assert chosen[0] == chosen[1]


def test_silence_has_no_opinion_and_a_failed_conversion_names_its_error(
    study: Study, anchors: dict[str, Path], tmp_path: Path
) -> None:
    conversion = tmp_path / "conversion" / "trials.parquet"
    shutil.copytree(anchors["ground-truth"].parent, conversion.parent)
    table = read_table(conversion)
    write_audio(conversion.parent / table["path"][0], np.zeros(8000, np.int16))
    digests = [file_sha256(conversion.parent / path) for path in table["path"]]
    silent = altered(conversion, sha256=digests, status=["ok", "failed", "ok"], error=["", "no luck", ""])
    found = score(study, silent, "quality", tmp_path / "s.parquet")
    found = found[found["metric"] == "distill_mos"]
    assert found["note"].tolist() == ["the model has no value for this wave", "conversion failed: no luck", ""]
    assert found["value"].isna().tolist() == [True, True, False]


def test_an_opinion_that_is_not_asked_for_has_no_rows(
    study: Study, anchors: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quality, "DistillMosScorer", None)  # is not loaded
    options = OPTIONS.model_copy(update={"distill_mos": False})
    table = score(study, anchors["ground-truth"], "quality", tmp_path / "s.parquet", options)
    assert set(table["metric"]) == {*OUTPUTS, "mcd"}


def test_a_wave_is_scored_once() -> None:
    scored = []
    score_wave = cached_by_wave(lambda wave: scored.append(len(wave)) or float(wave.sum()))
    one, two = np.ones(3, np.float32), np.arange(3, dtype=np.float32)
    assert [score_wave(one), score_wave(two), score_wave(one.copy())] == [3.0, 3.0, 3.0]
    assert scored == [3, 3]
