"""The configuration refuses what it does not know, in its own words."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from bowerbird.cli.options import parse_call
from bowerbird.config.base import ModelReference, flags, parse_model
from bowerbird.config.loading import dump_config, json_schema, load_config, parse_config, read_yaml
from bowerbird.config.merging import merge
from bowerbird.config.paths import bundled
from bowerbird.config.sections.corpus import CorpusConfig
from bowerbird.config.sections.features import FeaturesConfig
from bowerbird.config.systems.registry import SYSTEMS
from bowerbird.errors import BowerbirdError

REPOSITORY = Path(__file__).resolve().parents[2]
BASE = {"features": {"nano": {}}, "experiments": {"vocoder": {"system": "vocoder"}, "knnvc": {"system": "knnvc"}}}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"codebok": {}}, "codebok: unknown key; did you mean 'codebook'?"),
        ({"features": {"nano": {"layr": 3}}}, "features.nano.layr: unknown key; did you mean 'layer'?"),
        ({"corpus": {"num_shards": 0}}, "corpus.num_shards = 0: input should be greater than or equal to 1"),
        ({"experiments": {"v": {"system": "vocodr"}}}, "experiments.v.system: 'vocodr' is no system"),
        (
            {"experiments": {"vocoder": {"vocoder": {"stepz": 3}}}},
            "experiments.vocoder.vocoder.stepz: unknown key; did you mean 'steps'?",
        ),
        (
            {"codebook": {"k": {"features": "nanno"}}},
            "codebook.k.features: 'nanno' is not defined in `features`; did you mean 'nano'?",
        ),
        (
            {"experiments": {"knnvc": {"vocoder": "hifi"}}},
            "experiments.knnvc.vocoder: 'hifi' is not defined in `experiments`",
        ),
        ({"features": {"a/b": {}}}, "becomes a folder"),
    ],
)
def test_mistakes_are_one_line_in_the_configs_words(values: dict, message: str) -> None:
    with pytest.raises(BowerbirdError) as caught:
        parse_config(merge(BASE, values))
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(BowerbirdError) as caught:
        parse_config({"codebok": {}, "corpus": {"num_shards": 0}})
    assert len(str(caught.value).splitlines()) == 2


def test_null_removes_and_dots_reach_in() -> None:
    merged = merge({"a": {"b": {"c": 1, "d": 2}}, "x": 1}, {"a.b.c": 5, "a": {"b": {"d": None}}, "x": None})
    assert merged == {"a": {"b": {"c": 5}}}


def test_a_key_given_twice_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("run: a\ncorpus:\n  path: x\n  path: y\n")
    with pytest.raises(BowerbirdError, match=r"c\.yaml: line 4: key 'path' is given twice"):
        read_yaml(file)


@pytest.mark.parametrize("preset", [None, *sorted(p.stem for p in (REPOSITORY / "workflow/presets").glob("*.yaml"))])
def test_shipped_studies_are_valid_and_survive_a_round_trip(preset: str | None, tmp_path: Path) -> None:
    files = [REPOSITORY / "config.yaml"] + ([REPOSITORY / f"workflow/presets/{preset}.yaml"] if preset else [])
    config = load_config(files)
    written = tmp_path / "resolved.yaml"
    written.write_text(dump_config(config))
    assert load_config([written]) == config


def test_flags_are_read_back_as_the_same_section() -> None:
    def stage(corpus: CorpusConfig) -> None: ...

    def stage_features(options: FeaturesConfig) -> None: ...

    corpus = CorpusConfig(
        path="/a b/ü", subsets=["x y", "z"], columns={"utt_id": "name"}, trim_silence=True, test_speakers=1.0e-4
    )
    stage.__annotations__ = {"corpus": CorpusConfig}
    stage_features.__annotations__ = {"options": FeaturesConfig}
    assert parse_call("x", stage, shlex.split(flags(corpus.model_dump())))["corpus"] == corpus
    features = FeaturesConfig(layer=7, normalize_input=True)
    assert parse_call("x", stage_features, shlex.split(flags(features.model_dump())))["options"] == features


def test_params_hold_what_matters_and_no_names() -> None:
    config = parse_config(BASE)
    assert config.experiments["vocoder"].training_params("vocoder")["steps"] == 1_000_000
    assert "start_from" not in config.experiments["vocoder"].training_params("vocoder")
    knnvc = config.experiments["knnvc"].conversion_params()
    assert {key: knnvc[key] for key in ("k", "retrieval", "system")} == {
        "k": 4,
        "retrieval": "nearest",
        "system": "knnvc",
    }
    assert not knnvc.keys() & {"features", "vocoder", "size", "reuse"}


def test_a_size_sets_what_is_not_given() -> None:
    values = {"system": "palindromic", "size": "nano", "converter": {"layers": 2}}
    config = parse_config(merge({**BASE, "pairs": {"knn4": {}}}, {"experiments": {"p": values}}))
    nano = config.experiments["p"].converter
    assert (nano.layers, nano.width, nano.start_from) == (2, 192, "bundled:nano-converter")
    paper = SYSTEMS["palindromic"]().converter
    assert (paper.layers, paper.width, paper.start_from, paper.steps) == (6, 1024, "", 200_000)


def test_a_size_that_is_not_there_is_named() -> None:
    with pytest.raises(BowerbirdError, match=r"experiments\.knnvc\.size = 'huge': input should be 'paper' or 'nano'"):
        parse_config(merge(BASE, {"experiments": {"knnvc": {"size": "huge"}}}))


STEPBACK, TAKIN = {"system": "stepback"}, {"system": "takin"}


@pytest.mark.parametrize(
    ("experiment", "message"),
    [
        ({**STEPBACK, "uses": "preparation"}, "experiments.old.uses: is now called 'checkpoint'"),
        ({**STEPBACK, "input": "noise"}, "experiments.old.input: is now called 'corruption'"),
        ({**STEPBACK, "input_level": 1.0}, "experiments.old.input_level: is now called 'corruption_level'"),
        ({**STEPBACK, "preparation": {"bank": 2}}, "experiments.old.preparation.bank: is now called 'conv_bank_size'"),
        (
            {**STEPBACK, "preparation": {"bank_channels": 2}},
            "experiments.old.preparation.bank_channels: is now called 'conv_bank_channels'",
        ),
        (
            {**STEPBACK, "preparation": {"halvings": 2}},
            "experiments.old.preparation.halvings: is now called 'num_downsamplings'",
        ),
        ({**TAKIN, "voices": "voice"}, "experiments.old.voices: is now called 'speaker_embeddings'"),
        ({**TAKIN, "voice_encoder": "ge2e"}, "experiments.old.voice_encoder: is now called 'speaker_encoder'"),
        ({**TAKIN, "recogniser": "given"}, "experiments.old.recogniser: is now called 'recognizer'"),
        ({**TAKIN, "recognizer": "given"}, "experiments.old.recognizer: 'given': is now called 'pretrained'"),
        ({**TAKIN, "training": "joint"}, "experiments.old.training: is now called 'content_training'"),
        ({"system": "vocoder", "published": "x"}, "experiments.old.published: is now called 'pretrained'"),
    ],
)
def test_an_old_name_is_answered_with_the_new_one(experiment: dict, message: str) -> None:
    with pytest.raises(BowerbirdError) as caught:
        parse_config(merge(BASE, {"experiments": {"old": experiment}}))
    assert message in str(caught.value).splitlines()[0]


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"padding": "centre"}, "features.old.padding: 'centre': is now called 'center'"),
        ({"encoder": "phonetic:bundled:nano-phones"}, "write kind: phonetic and encoder: bundled:nano-phones"),
        ({"encoder": "voice-print:ge2e"}, "write kind: speaker and encoder: ge2e"),
        (
            {"kind": "spectrogram"},
            "features.encoder: bundled:nano-encoder: no encoder of kind spectrogram; there is log-mel",
        ),
        ({"encoder": "log-mel", "kind": "phonetic"}, "features.kind: phonetic: log-mel is of kind spectrogram"),
    ],
)
def test_features_of_old_or_contradictory_kinds_are_explained(features: dict, message: str) -> None:
    with pytest.raises(BowerbirdError) as caught:
        parse_config(merge(BASE, {"features": {"old": features}}))
    assert message in str(caught.value)


def test_the_kind_of_features_decides_the_default_layer() -> None:
    config = parse_config(
        {
            "features": {
                "mel": {"encoder": "log-mel"},
                "phones": {"kind": "phonetic", "encoder": "bundled:nano-phones"},
                "states": {"kind": "phonetic", "encoder": "openai/whisper-small", "layer": 12},
                "nano": {},
            }
        }
    )
    assert {name: (f.kind, f.layer) for name, f in config.features.items()} == {
        "mel": ("spectrogram", 0),
        "phones": ("phonetic", 0),
        "states": ("phonetic", 12),
        "nano": ("self-supervised", 3),
    }


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("bundled:nano-vocoder", ModelReference("bundled", "nano-vocoder")),
        ("vocoder", ModelReference("trained", "vocoder", "vocoder")),
        ("trained:takin/flow", ModelReference("trained", "takin", "flow")),
        ("trained:takin", ModelReference("trained", "takin", "vocoder")),
        ("nvidia/bigvgan@abc", ModelReference("hub", "nvidia/bigvgan", revision="abc")),
        ("hub:nvidia/bigvgan", ModelReference("hub", "nvidia/bigvgan")),
        ("./models/mine", ModelReference("folder", "./models/mine")),
        ("/data/models/mine", ModelReference("folder", "/data/models/mine")),
        ("results/other/training/vocoder/vocoder", ModelReference("folder", "results/other/training/vocoder/vocoder")),
    ],
)
def test_a_model_is_parsed_once_into_one_type(text: str, reference: ModelReference) -> None:
    assert parse_model(text, stage="vocoder") == reference
    assert parse_model(str(reference), stage="vocoder") == reference


def test_bundled_names_what_there_is() -> None:
    with pytest.raises(BowerbirdError, match="bundled:nano-encodr: nothing bundled under that name"):
        bundled("bundled:nano-encodr")


def test_a_variant_like_another_has_its_values_but_for_its_own() -> None:
    config = parse_config(
        {
            "features": {"nano": {}},
            "pairs": {"few": {"like": "knn4", "max_pool_s": 30.0}, "knn4": {"k": 8}, "fewer": {"like": "few", "k": 1}},
        }
    )
    assert (config.pairs["few"].k, config.pairs["few"].max_pool_s) == (8, 30.0)
    assert (config.pairs["fewer"].k, config.pairs["fewer"].max_pool_s) == (1, 30.0)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (
            {"a": {"like": "knn5"}, "knn4": {}},
            r"pairs\.a\.like: 'knn5' is not defined in `pairs`; did you mean 'knn4'\?",
        ),
        ({"a": {"like": "b"}, "b": {"like": "a"}}, r"pairs\..\.like: '.': goes in a circle"),
    ],
)
def test_what_a_variant_is_like_must_be_there_and_end_somewhere(pairs: dict, message: str) -> None:
    with pytest.raises(BowerbirdError, match=message):
        parse_config({"features": {"nano": {}}, "pairs": pairs})


def test_an_experiment_is_like_one_of_its_own_system() -> None:
    experiments = {"one": {"system": "anchor"}, "two": {"like": "one", "system": "knnvc"}}
    with pytest.raises(BowerbirdError, match=r"experiments\.two\.like: 'one' is of system anchor, not knnvc"):
        parse_config({"features": {"nano": {}}, "experiments": experiments})


def test_the_schema_knows_like() -> None:
    definitions = json_schema()["$defs"]
    assert "like" in definitions["PalindromicExperiment"]["properties"]
    assert "like" not in definitions["ConverterStage"]["properties"]
