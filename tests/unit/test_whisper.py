"""Whisper by CTranslate2: put together from packages, told the language, cut at pauses; and read as the parts are."""

from __future__ import annotations

import csv
import hashlib
import importlib.util
from pathlib import Path

import numpy as np
import pytest
import soundfile

from bowerbird.config.sections import evaluation
from bowerbird.config.sections.evaluation import WHISPER_PARTS, WHISPER_PROGRAM, EvaluationConfig
from bowerbird.encoders import whisper
from bowerbird.encoders.recognizer import load_recognizer
from bowerbird.encoders.whisper import Whisper, packaged_whisper, repeats_itself
from bowerbird.errors import BowerbirdError
from bowerbird.metrics.intelligibility import count_errors, load_normalizer

needs_whisper = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, (WHISPER_PROGRAM, *WHISPER_PARTS))), reason="without the extra asr"
)


@pytest.fixture
def two_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Packages with small files in the place of the real ones, and an empty cache folder, which is returned."""
    data = tmp_path / "data"
    data.mkdir()
    for name in whisper.BESIDE:
        (data / name).write_text(name)
    (data / "model.bin.part1").write_bytes(b"one")
    (data / "model.bin.part2").write_bytes(b"two")
    monkeypatch.setattr(whisper, "packaged_file", lambda package, name, key: tmp_path / name)
    monkeypatch.setattr(whisper, "WEIGHTS_SHA256", hashlib.sha256(b"onetwo").hexdigest())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "bowerbird" / "models" / "whisper-base"


def test_the_parts_are_put_together_once(two_parts: Path) -> None:
    checkpoint = packaged_whisper("evaluation.asr")
    assert checkpoint.folder == two_parts and (two_parts / "model.bin").read_bytes() == b"onetwo"
    assert sorted(path.name for path in two_parts.iterdir()) == sorted(["model.bin", *whisper.BESIDE])
    made = (two_parts / "model.bin").stat().st_mtime_ns
    assert packaged_whisper("evaluation.asr").weights_sha256 == whisper.WEIGHTS_SHA256
    assert (two_parts / "model.bin").stat().st_mtime_ns == made


def test_a_damaged_copy_is_made_again(two_parts: Path) -> None:
    packaged_whisper("evaluation.asr")
    (two_parts / "model.bin").write_bytes(b"onetwX")
    packaged_whisper("evaluation.asr")
    assert (two_parts / "model.bin").read_bytes() == b"onetwo"


def test_other_weights_in_the_packages_are_refused(two_parts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whisper, "WEIGHTS_SHA256", "0" * 64)
    with pytest.raises(BowerbirdError, match=r"give a model\.bin of SHA-256 .* not 0000"):
        packaged_whisper("evaluation.asr")
    assert not (two_parts / "model.bin").exists()


def test_absent_packages_are_named_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(whisper, "WHISPER_PARTS", ("no_such_package", "nor_this"))
    with pytest.raises(
        BowerbirdError, match=r"evaluation\.asr: needs .* no_such_package.*evaluation\.asr: pocketsphinx"
    ):
        load_recognizer("whisper-base")


def test_auto_is_whisper_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the configuration that is written down names the one that was taken."""
    monkeypatch.setattr(evaluation.importlib.util, "find_spec", lambda module: module != WHISPER_PARTS[1] or None)
    assert EvaluationConfig().asr == EvaluationConfig(asr="auto").asr == "pocketsphinx"
    monkeypatch.setattr(evaluation.importlib.util, "find_spec", lambda module: True)
    assert EvaluationConfig().asr == EvaluationConfig(asr="auto").asr == "whisper-base"
    assert EvaluationConfig(asr="pocketsphinx").asr == "pocketsphinx"


def test_a_configuration_keeps_that_pocketsphinx_stood_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it was asked for by name it stood in for nothing, and neither did any other recognizer."""
    monkeypatch.setattr(evaluation, "installed_recognizer", lambda: "pocketsphinx")
    written = EvaluationConfig().model_dump()
    assert written["asr_is_substitute"]
    assert not EvaluationConfig(asr="pocketsphinx").asr_is_substitute
    monkeypatch.setattr(evaluation, "installed_recognizer", lambda: "whisper-base")
    assert EvaluationConfig(**written) == EvaluationConfig(asr="pocketsphinx", asr_is_substitute=True)
    assert not EvaluationConfig(**{**written, "asr": "auto"}).asr_is_substitute
    assert not EvaluationConfig(**{**written, "asr": "moonshine-base"}).asr_is_substitute


def test_a_folder_of_ctranslate2_is_known_by_its_config(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"suppress_ids": [1], "lang_ids": [2]}')
    with pytest.raises(
        BowerbirdError, match=r"evaluation\.asr: .*no tokenizer.json there: not a Whisper of CTranslate2"
    ):
        load_recognizer(str(tmp_path))


@pytest.fixture(scope="module")
def recognizer() -> Whisper:
    found = load_recognizer("whisper-base")
    assert isinstance(found, Whisper)
    return found


@pytest.fixture(scope="module")
def spoken(librispeech_mini: Path) -> list[tuple[np.ndarray, str]]:
    """The recordings of the first unseen speaker, a minute together, and their words."""
    with open(librispeech_mini / "utterances.tsv", newline="", encoding="utf-8") as handle:
        rows = [row for row in csv.DictReader(handle, delimiter="\t") if row["split"] == "test"]
    rows = [row for row in rows if row["speaker"] == rows[0]["speaker"]]
    return [(soundfile.read(librispeech_mini / row["path"], dtype="float32")[0], row["text"]) for row in rows]


def errors(pairs: list[tuple[str, str]]) -> float:
    """WER over (said, recognized)."""
    normalize = load_normalizer("whisper-english")
    counts = [count_errors(normalize(said), normalize(text)) for said, text in pairs]
    return sum(count.errors for count in counts) / sum(count.length for count in counts)


@needs_whisper
@pytest.mark.slow
def test_it_reads_an_unseen_speaker(recognizer: Whisper, spoken: list[tuple[np.ndarray, str]]) -> None:
    texts = recognizer.transcribe([wave for wave, _ in spoken], "en")
    assert errors([(said, text) for (_, said), text in zip(spoken, texts)]) < 0.15
    assert recognizer.transcribe([spoken[3][0]], "en-GB") == [texts[3]]  # neither the others nor the region matter
    assert recognizer.transcribe([np.zeros(0, np.float32)], "en") == [""]
    assert recognizer.speaks("de-AT") and not recognizer.speaks("tlh")
    identity = recognizer.describe()
    assert identity.model.startswith("whisper-base (ctranslate2 ") and identity.weights_sha256 == whisper.WEIGHTS_SHA256


@needs_whisper
@pytest.mark.slow
def test_speech_beyond_its_window_loses_no_words(recognizer: Whisper, spoken: list[tuple[np.ndarray, str]]) -> None:
    long = np.concatenate([wave for wave, _ in spoken])
    assert len(long) > 2 * whisper.WINDOW
    (text,) = recognizer.transcribe([long], "en")
    assert errors([(" ".join(said for _, said in spoken), text)]) < 0.15


def test_a_repetition_is_told_from_a_sentence() -> None:
    assert repeats_itself("and the sea and the sea " * 12)
    assert not repeats_itself("")
    assert not repeats_itself("there's iron they say in all our blood and a grain or two perhaps is good")


@needs_whisper
def test_where_it_repeats_itself_the_full_window_decides(recognizer: Whisper, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = []

    def decode(wave: np.ndarray, length: int, language: str) -> str:
        lengths.append(length)
        return "la " * 100 if length < whisper.WINDOW else "full"

    monkeypatch.setattr(recognizer, "_decode", decode)
    assert recognizer.transcribe([np.zeros(16000, np.float32), np.zeros(20 * 16000, np.float32)], "en") == ["full"] * 2
    assert lengths == [12 * 16000, whisper.WINDOW, 25 * 16000, whisper.WINDOW]


@needs_whisper
def test_the_language_is_told_and_never_guessed(recognizer: Whisper, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = []

    def generate(encoded: object, given: list[list[int]], **_: object) -> list:
        prompts.extend(given)
        raise RuntimeError("seen")

    class Recorder:
        is_multilingual = True

        def __getattr__(self, name: str) -> object:
            return generate if name == "generate" else getattr(inner, name)

    inner = recognizer.model.model
    monkeypatch.setattr(recognizer.model, "model", Recorder())
    with pytest.raises(RuntimeError, match="seen"):
        recognizer.transcribe([np.zeros(16000, np.float32)], "de")
    tokens = [recognizer.model.hf_tokenizer.id_to_token(token) for token in prompts[0]]
    assert tokens == ["<|startoftranscript|>", "<|de|>", "<|transcribe|>", "<|notimestamps|>"]
