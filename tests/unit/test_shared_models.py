"""Which systems share a model with what scores them: features read directly and through others, and how models are told apart."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from bowerbird.config.base import parse_model
from bowerbird.config.graph import Graph
from bowerbird.config.loading import parse_config
from bowerbird.config.paths import Paths
from bowerbird.metrics.shared_models import NamedJudge, family_of_encoder, family_of_judge, name_judges

WHISPER = "whisper-base (ctranslate2 4.8.5 int8 greedy)"
MOONSHINE = "moonshine-base (Moonshine by onnxruntime 1.31.1, greedy)"
POCKETSPHINX = "pocketsphinx 5.1.1 en-us maxhmmpf=1500"
WORDS = {"kind": "phonetic", "encoder": "openai/whisper-base", "layer": 6}
STUDY = {
    "features": {"nano": {}, "words": WORDS, "mel": {"encoder": "log-mel"}},
    "codebook": {"k16": {"features": "words", "num_codes": 16}, "k32": {"num_codes": 32}},
    "pairs": {"of-words": {"features": "words"}, "of-nano": {}},
    "experiments": {
        "on-words": {"system": "knnvc", "features": "words"},
        "on-nano": {"system": "knnvc"},
        "vocoder": {"system": "vocoder"},
        "vocoder-words": {"system": "vocoder", "features": "words"},
        "by-vocoder": {"system": "knnvc", "vocoder": "vocoder-words"},
        "by-codebook": {"system": "qrvc", "codebook": "k16"},
        "by-other-codebook": {"system": "qrvc", "codebook": "k32"},
        "by-pairs": {"system": "palindromic", "pairs": "of-words"},
        "by-other-pairs": {"system": "palindromic", "pairs": "of-nano"},
        "by-phones": {
            "system": "takin",
            "phones": "words",
            "speaker_embeddings": "",
            "vocoder": "bundled:nano-world-mel",
        },
        "by-reuse": {"system": "palindromic", "pairs": "of-nano", "reuse": {"converter": "by-pairs"}},
    },
}
KIN = {
    "on-words": "works on Whisper's features",
    "by-vocoder": "works on Whisper's features through the model vocoder-words/vocoder",
    "by-codebook": "works on Whisper's features through the codebook k16",
    "by-pairs": "works on Whisper's features through the pairs of-words",
    "by-phones": "works on Whisper's features",
    "by-reuse": "works on Whisper's features through the model by-pairs/converter",
}


def recognizer_of(model: str, study: dict = STUDY) -> NamedJudge:
    """The recognizer, as it is named where this model scored all systems of the study."""
    config = parse_config(study)
    made = {"mwer": SimpleNamespace(model=model, weights_sha256="f" * 64)}
    systems = [name for name in config.experiments if not name.startswith("vocoder")]
    (judge,) = name_judges(made, Graph(config, Paths("results/run", 2)), systems)
    assert judge.place == "recognizer"
    return judge


def test_a_whisper_shares_a_model_with_whoever_works_on_its_features() -> None:
    judge = recognizer_of(WHISPER)
    assert judge.family == "Whisper" and dict(judge.shared_with) == KIN
    assert judge.independent_of == ["on-nano", "by-other-codebook", "by-other-pairs"]


def test_whisper_out_of_packages_is_a_whisper_too() -> None:
    words = {**WORDS, "encoder": "whisper-base"}
    judge = recognizer_of(WHISPER, {**STUDY, "features": {**STUDY["features"], "words": words}})
    assert dict(judge.shared_with) == KIN


@pytest.mark.parametrize(("model", "family"), [(MOONSHINE, "Moonshine"), (POCKETSPHINX, "pocketsphinx")])
def test_another_recognizer_shares_none_with_them(model: str, family: str) -> None:
    judge = recognizer_of(model)
    assert (judge.family, judge.shared_with) == (family, [])
    assert set(judge.independent_of) > KIN.keys()


def test_of_an_unknown_recognizer_nothing_is_said() -> None:
    judge = recognizer_of("ours 1.0")
    assert (judge.family, judge.shared_with, judge.independent_of) == ("", [], [])


def test_a_recognizer_in_a_folder_is_known_by_its_configuration(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "whisper"}')
    assert family_of_judge("ours", str(tmp_path)) == "Whisper"
    assert family_of_judge("small (ctranslate2 4.8.5 int8 greedy)") == "Whisper"
    assert family_of_judge("small (Moonshine by onnxruntime 1.31.1)") == "Moonshine"
    assert recognizer_of("ours 1.0", {**STUDY, "evaluation": {"asr": str(tmp_path)}}).shared_with == list(KIN.items())


@pytest.mark.parametrize(
    ("encoder", "family"),
    [
        ("whisper-base", "Whisper"),
        ("openai/whisper-large-v3", "Whisper"),
        ("hub:openai/whisper-tiny@0123", "Whisper"),
        ("microsoft/wavlm-large", "WavLM"),
        ("facebook/hubert-base-ls960", "HuBERT"),
        ("facebook/wav2vec2-base", "wav2vec 2.0"),
        ("bundled:nano-encoder", ""),
        ("bundled:nano-phones", ""),
        ("trained:takin-after-whisper", ""),
        ("log-mel", ""),
        ("ge2e", ""),
        ("speechbrain/spkrec-ecapa-voxceleb", ""),
    ],
)
def test_families_of_encoders(encoder: str, family: str) -> None:
    assert family_of_encoder(parse_model(encoder)) == family


@pytest.mark.parametrize(
    ("settings", "family"),
    [
        ({"encoder": "whisper-base", "layer": 4, "phones": ["AA"]}, "Whisper"),
        ({"encoder": "bundled:nano-encoder", "layer": 3, "phones": ["AA"]}, ""),
        ({"model_type": "whisper"}, "Whisper"),
        ({"model_type": "wavlm"}, "WavLM"),
        ({"model_type": "unheard-of"}, "HuBERT"),
        ([], "HuBERT"),
    ],
)
def test_a_folder_says_what_it_holds_before_its_name_does(tmp_path: Path, settings: object, family: str) -> None:
    folder = tmp_path / "whisper" / "my-hubert"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(settings))
    assert family_of_encoder(parse_model(str(folder))) == family


def test_a_bundled_phone_head_is_of_the_family_below_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a bundled encoder of its own weights is of none, whatever its architecture."""
    monkeypatch.setattr("bowerbird.config.paths.ASSETS", tmp_path)
    for name, settings in (("heads", {"encoder": "whisper-base"}), ("own", {"model_type": "whisper"})):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(settings))
    assert [family_of_encoder(parse_model(f"bundled:{name}")) for name in ("heads", "own", "absent")] == [
        "Whisper",
        "",
        "",
    ]
