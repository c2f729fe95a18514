"""The recipe's recognizer: its token file, and its greedy loop against a decoder that remembers what it was given."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from nano_recipe import import_script

transcribe = import_script("transcribe")

PAST = [f"past_key_values.0.{kind}.{part}" for kind in ("decoder", "encoder") for part in ("key", "value")]
SPELLING = [b"<unk>", b"<s>", b"</s>", "\u2581a".encode(), b"b" * 200]


def encoded(token: bytes) -> bytes:
    length = len(token)
    return (bytes([length]) if length < 128 else bytes([length % 128 + 128, length // 128])) + token


class Session:
    """An ONNX session that writes token 3, then 4, then the end; its caches count the steps."""

    def __init__(self, path: str, *_: object, **__: object) -> None:
        self.is_encoder = "encoder_model" in path
        self.calls: list[dict] = []

    def get_inputs(self) -> list:
        names = (
            ["input_values"] if self.is_encoder else ["input_ids", "encoder_hidden_states", "use_cache_branch", *PAST]
        )
        return [SimpleNamespace(name=name, shape=["batch", 2, "length", 4]) for name in names]

    def get_outputs(self) -> list:
        return [SimpleNamespace(name=name.replace("past_key_values", "present")) for name in ["logits", *PAST]]

    def run(self, _: None, inputs: dict) -> list:
        self.calls.append(inputs)
        if self.is_encoder:
            return [np.zeros((1, 7, 5), np.float32)]
        logits = np.zeros((1, 1, 5), np.float32)
        logits[0, 0, [3, 4, 2][len(self.calls) - 1]] = 1
        return [logits, *(np.full((1, 2, len(self.calls), 4), len(self.calls), np.float32) for _ in PAST)]


@pytest.fixture
def recognizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "tokenizer.bin").write_bytes(b"".join(map(encoded, SPELLING)))
    monkeypatch.setattr(transcribe.onnxruntime, "InferenceSession", Session)
    return transcribe.Moonshine(tmp_path)


def test_tokens_short_and_long(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.bin").write_bytes(b"".join(map(encoded, SPELLING)))
    assert transcribe.read_tokens(tmp_path / "tokenizer.bin") == SPELLING


def test_words_until_the_end_token(recognizer) -> None:
    assert recognizer.transcribe(np.zeros(16000, np.float32)) == "a" + "b" * 200


def test_only_the_decoders_cache_grows(recognizer) -> None:
    recognizer.transcribe(np.zeros(16000, np.float32))
    first, second, third = recognizer.decoder.calls
    assert [bool(call["use_cache_branch"][0]) for call in (first, second, third)] == [False, True, True]
    assert [int(call["input_ids"][0, 0]) for call in (first, second, third)] == [1, 3, 4]
    assert first[PAST[0]].shape == (1, 2, 0, 4)
    assert third["past_key_values.0.decoder.key"].max() == 2
    assert third["past_key_values.0.encoder.key"].max() == 1, "of the first step"


def test_speech_of_no_length_has_no_words(recognizer) -> None:
    assert recognizer.transcribe(np.zeros(1000, np.float32)) == ""


def test_a_stopped_transcription_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names, read = ("a", "b", "c"), []
    for name in names:
        soundfile.write(tmp_path / f"{name}.flac", np.zeros(160, np.int16), 16000)
    rows = [f"{name}\ttrain\t{name}.flac" for name in names]
    (tmp_path / "utterances.tsv").write_text("\n".join(["utt_id\tsplit\tpath", *rows]) + "\n")

    class Recognizer:
        """Stops at the third utterance of its life; quotes everything."""

        def __init__(self, folder: Path) -> None:
            pass

        def transcribe(self, samples: np.ndarray) -> str:
            read.append(len(samples))
            if len(read) == 3:
                raise KeyboardInterrupt
            return f'"{len(read)}", he said'

    table = tmp_path / "transcripts.tsv"
    words = ["transcribe.py", "--model", tmp_path, "--corpus", tmp_path, "--output", table]
    monkeypatch.setattr(sys, "argv", list(map(str, words)))
    monkeypatch.setattr(transcribe, "Moonshine", Recognizer)
    with pytest.raises(KeyboardInterrupt):
        transcribe.main()
    assert not table.exists(), "it is there when it is whole"
    transcribe.main()
    assert len(read) == 4
    found = {row["utt_id"]: row["text"] for row in import_script("tables").read_table(table)}
    assert found == {"a": '"1", he said', "b": '"2", he said', "c": '"4", he said'}
