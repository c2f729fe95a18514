"""Moonshine in ONNX: where its files are, its greedy loop against a decoder that remembers what it was given, and real speech."""

from __future__ import annotations

import csv
import hashlib
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from onnx_files import write_embedder

from bowerbird.encoders import moonshine
from bowerbird.encoders.checkpoint import cache_folder
from bowerbird.encoders.moonshine import DECODER, ENCODER, FILES, SHA256, TOKENS, Moonshine, read_spellings
from bowerbird.encoders.recognizer import load_recognizer
from bowerbird.errors import BowerbirdError
from bowerbird.metrics.intelligibility import count_errors, load_normalizer

REPOSITORY = Path(__file__).resolve().parents[2]
RATE = 16000
PAST = [f"past_key_values.0.{kind}.{part}" for kind in ("decoder", "encoder") for part in ("key", "value")]
SPELLINGS = [b"<unk>", b"<s>", b"</s>", "\u2581a".encode(), b"b" * 200]

needs_moonshine = pytest.mark.skipif(
    not all((cache_folder() / "moonshine-base" / name).is_file() for name in FILES),
    reason=f"moonshine-base is not in the cache; {moonshine.FETCH}",
)


def encoded(token: bytes) -> bytes:
    length = len(token)
    return (bytes([length]) if length < 128 else bytes([length % 128 + 128, length // 128])) + token


class Session:
    """An ONNX session that writes token 3, then 4, then the end; its caches count the steps."""

    def __init__(self, path: str, *_: object, **__: object) -> None:
        self.is_encoder = ENCODER in path
        self.calls: list[dict] = []

    def get_inputs(self) -> list:
        if self.is_encoder:
            return [SimpleNamespace(name="input_values", shape=["batch", "samples"])]
        names = ["input_ids", "encoder_hidden_states", "use_cache_branch", *PAST]
        return [SimpleNamespace(name=name, shape=["batch", 2, "length", 4]) for name in names]

    def get_outputs(self) -> list:
        return [SimpleNamespace(name=name.replace("past_key_values", "present")) for name in ["logits", *PAST]]

    def run(self, _: None, inputs: dict) -> list:
        self.calls.append(inputs)
        if self.is_encoder:
            return [np.zeros((1, 7, 5), np.float32)]
        logits = np.zeros((1, 1, 5), np.float32)
        logits[0, 0, [3, 4, 2][(len(self.calls) - 1) % 3]] = 1
        return [logits, *(np.full((1, 2, len(self.calls), 4), len(self.calls), np.float32) for _ in PAST)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the three files, two of which are no models."""
    made = tmp_path / "small"
    made.mkdir()
    for name in (ENCODER, DECODER):
        (made / name).write_bytes(name.encode())
    (made / TOKENS).write_bytes(b"".join(map(encoded, SPELLINGS)))
    return made


@pytest.fixture
def recognizer(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Moonshine:
    """The recognizer of a local folder, with `Session` in the place of its models."""
    monkeypatch.setattr("onnxruntime.InferenceSession", Session)
    found = load_recognizer(str(folder), threads=2)
    assert isinstance(found, Moonshine)
    return found


def test_tokens_short_and_long(folder: Path) -> None:
    assert read_spellings(folder / TOKENS, "evaluation.asr") == SPELLINGS


@pytest.mark.parametrize("content", [b"", encoded(b"<unk>"), b"".join(map(encoded, SPELLINGS))[:-1]])
def test_a_part_of_a_table_of_tokens_is_refused(folder: Path, content: bytes) -> None:
    (folder / TOKENS).write_bytes(content)
    with pytest.raises(BowerbirdError, match=r"^evaluation\.asr: .*tokenizer\.bin: no table of tokens, or a part of"):
        read_spellings(folder / TOKENS, "evaluation.asr")


def test_words_until_the_end_token(recognizer: Moonshine) -> None:
    assert recognizer.transcribe([np.zeros(RATE, np.float32)], "en-GB") == ["a" + "b" * 200]


def test_only_the_decoders_cache_grows(recognizer: Moonshine) -> None:
    recognizer.transcribe([np.zeros(RATE, np.float32)], "en")
    first, second, third = recognizer.decoder.calls
    assert [bool(call["use_cache_branch"][0]) for call in (first, second, third)] == [False, True, True]
    assert [int(call["input_ids"][0, 0]) for call in (first, second, third)] == [1, 3, 4]
    assert first[PAST[0]].shape == (1, 2, 0, 4)
    assert third["past_key_values.0.decoder.key"].max() == 2
    assert third["past_key_values.0.encoder.key"].max() == 1, "of the first step"


def test_the_number_of_tokens_is_bounded(recognizer: Moonshine) -> None:
    assert recognizer.transcribe([np.zeros(n, np.float32) for n in (0, 2000, 3000)], "en") == ["", "", "a"]
    assert len(recognizer.decoder.calls) == 1 and len(recognizer.encoder.calls) == 1


def test_long_speech_is_cut_into_windows(recognizer: Moonshine) -> None:
    (text,) = recognizer.transcribe([np.zeros(70 * RATE, np.float32)], "en")
    lengths = [call["input_values"].shape[1] for call in recognizer.encoder.calls]
    assert sum(lengths) == 70 * RATE and max(lengths) <= moonshine.WINDOW
    assert text == " ".join(["a" + "b" * 200] * len(lengths))


def test_english_only(recognizer: Moonshine) -> None:
    assert recognizer.speaks("en-GB") and not recognizer.speaks("de")
    with pytest.raises(BowerbirdError, match=r"evaluation\.asr: .*language 'de-AT': .*English only; whisper-base"):
        recognizer.transcribe([np.zeros(RATE, np.float32)], "de-AT")


def test_its_identity_covers_all_three_files(recognizer: Moonshine, folder: Path) -> None:
    before = recognizer.describe()
    assert before.model.startswith("small (Moonshine by onnxruntime ") and "greedy" in before.model
    for name in FILES:
        other = (folder / name).read_bytes()
        (folder / name).write_bytes(other + encoded(b"x"))
        assert load_recognizer(str(folder)).describe().weights_sha256 != before.weights_sha256
        (folder / name).write_bytes(other)


def test_what_a_folder_lacks_is_named(folder: Path) -> None:
    (folder / TOKENS).unlink()
    with pytest.raises(BowerbirdError, match=r"no tokenizer\.bin there: not Moonshine in ONNX; give a folder with"):
        load_recognizer(str(folder))


def test_files_that_are_no_models_are_named(folder: Path) -> None:
    with pytest.raises(BowerbirdError, match=r"^evaluation\.asr: .*encoder_model\.onnx: not a model that can be run"):
        load_recognizer(str(folder))


def test_another_model_under_the_same_names_is_refused(folder: Path) -> None:
    path = write_embedder(folder / "other") / "model.onnx"
    for name in (ENCODER, DECODER):
        (folder / name).write_bytes(path.read_bytes())
    with pytest.raises(BowerbirdError, match=r"^evaluation\.asr: .*: not Moonshine: its encoder must take one wave"):
        load_recognizer(str(folder))


def test_the_error_says_how_to_get_the_named_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(
        BowerbirdError, match=r"^evaluation\.asr: moonshine-base: no .* put it there with (\S+)"
    ) as error:
        load_recognizer("moonshine-base")
    command = re.search(r"put it there with (\S+)", str(error.value))
    assert command and (REPOSITORY / command[1]).is_file()


def test_a_damaged_copy_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = folder.parent / "bowerbird" / "models"
    cache.mkdir(parents=True)
    folder.rename(cache / "moonshine-base")
    digests = {name: hashlib.sha256((cache / "moonshine-base" / name).read_bytes()).hexdigest() for name in FILES}
    monkeypatch.setattr(moonshine, "SHA256", {**digests, DECODER: "0" * 64})
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder.parent))
    monkeypatch.setattr("onnxruntime.InferenceSession", Session)
    with pytest.raises(BowerbirdError, match=rf"{DECODER} has the SHA-256 {digests[DECODER]}, not 0000"):
        load_recognizer("moonshine-base")
    monkeypatch.setattr(moonshine, "SHA256", digests)
    assert load_recognizer("moonshine-base").describe().model.startswith("moonshine-base (Moonshine by onnxruntime ")


def test_what_is_fetched_is_what_is_asked_for() -> None:
    script = (REPOSITORY / moonshine.FETCH).read_text(encoding="utf-8")
    assert {name: digest for digest, name in re.findall(r"^([0-9a-f]{64})  (\S+)$", script, flags=re.M)} == SHA256


@needs_moonshine
@pytest.mark.slow
def test_it_reads_an_unseen_speaker(librispeech_mini: Path) -> None:
    with open(librispeech_mini / "utterances.tsv", newline="", encoding="utf-8") as handle:
        rows = [row for row in csv.DictReader(handle, delimiter="\t") if row["split"] == "test"]
    rows = [row for row in rows if row["speaker"] == rows[0]["speaker"]]
    waves = [soundfile.read(librispeech_mini / row["path"], dtype="float32")[0] for row in rows]
    recognizer, normalize = load_recognizer("moonshine-base"), load_normalizer("whisper-english")
    texts = recognizer.transcribe([*waves, np.concatenate(waves), np.zeros(0, np.float32)], "en")
    said = [row["text"] for row in rows]
    for reference, text in ((" ".join(said), " ".join(texts[:-2])), (" ".join(said), texts[-2])):
        assert count_errors(normalize(reference), normalize(text)).rate < 0.15
    assert texts[-1] == ""
    assert recognizer.transcribe([waves[3]], "en-GB") == [texts[3]]  # neither the others nor the region matter
    assert load_recognizer("moonshine-base", threads=2).transcribe([waves[3]], "en") == [texts[3]]
