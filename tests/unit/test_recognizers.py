"""Recognizers against the ways they go wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

RATE = 16000


@pytest.mark.slow
def test_pocketsphinx_does_not_remember_the_utterance_before(spoken: list[tuple[np.ndarray, str]]) -> None:
    from bowerbird.encoders.recognizer import load_recognizer

    recognizer = load_recognizer("pocketsphinx")
    waves = [wave for wave, _ in spoken]
    forwards = recognizer.transcribe(waves, "en")
    quiet = recognizer.transcribe([np.zeros(8000, np.float32), waves[2], *waves[1::-1], waves[0][:0]], "en")
    assert forwards == [*quiet[3:1:-1], quiet[1]]
    assert quiet[-1] == ""
    assert any(forwards)
    assert recognizer.speaks("en-GB") and not recognizer.speaks("de")


def test_closed_set_finds_the_sentence_and_can_refuse(spoken: list[tuple[np.ndarray, str]]) -> None:
    from bowerbird.encoders.dictation import ClosedSetRecognizer

    texts = [text for _, text in spoken]
    recognizer = ClosedSetRecognizer([*texts, "She sells sea shells by the sea shore.", "qqqx zzzkj"])
    noise = np.random.default_rng(0).normal(size=2 * RATE).astype(np.float32) * 0.1
    recognized = recognizer.recognize([wave for wave, _ in spoken] + [noise, np.zeros(RATE, np.float32)])
    assert recognized[3:] == ["", ""]
    assert sum(a == b for a, b in zip(recognized, texts)) >= 2
    assert not recognizer.knows("qqqx zzzkj")
    alone = ClosedSetRecognizer(["She sells sea shells by the sea shore.", "How much wood would a woodchuck chuck?"])
    assert alone.recognize([wave for wave, _ in spoken]) == ["", "", ""]


def test_ctc_best_path_merges_repeats_before_it_removes_blanks() -> None:
    from bowerbird.encoders.recognizer import best_path

    path = [0, 1, 1, 0, 1, 2, 2, 0, 0, 2]
    assert best_path(np.eye(3)[path], blank=0) == [1, 1, 2, 2]
    assert best_path(np.zeros((0, 3)), blank=0) == []


@pytest.fixture(scope="module")
def ctc_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny wav2vec 2.0 with random weights, saved as the hub's models are."""
    import json

    import torch
    from transformers import (
        Wav2Vec2Config,
        Wav2Vec2CTCTokenizer,
        Wav2Vec2FeatureExtractor,
        Wav2Vec2ForCTC,
        Wav2Vec2Processor,
    )

    folder = tmp_path_factory.mktemp("ctc")
    symbols = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ABCDEFGH"]
    (folder / "vocab.json").write_text(json.dumps({s: i for i, s in enumerate(symbols)}))
    tokenizer = Wav2Vec2CTCTokenizer(str(folder / "vocab.json"))
    Wav2Vec2Processor(Wav2Vec2FeatureExtractor(), tokenizer).save_pretrained(folder)
    torch.manual_seed(0)
    config = Wav2Vec2Config(
        vocab_size=len(symbols),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=(8,) * 7,
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
        pad_token_id=0,
    )
    Wav2Vec2ForCTC(config).save_pretrained(folder)
    return folder


def test_a_ctc_directory_loads_and_spells(ctc_folder: Path) -> None:
    from bowerbird.encoders.recognizer import CTCRecognizer, load_recognizer

    recognizer = load_recognizer(str(ctc_folder))
    assert isinstance(recognizer, CTCRecognizer)
    path = [5, 5, 0, 5, 4, 4, 6, 0, 0]  # A A _ A | B: "AA B"
    assert recognizer.decode(np.eye(13)[path]) == "AA B"
    wave = np.random.default_rng(0).normal(size=RATE).astype(np.float32)
    alone = recognizer.transcribe([wave], "en")
    assert recognizer.transcribe([wave[:4000], wave], "en")[1:] == alone
    assert recognizer.transcribe([np.zeros(0, np.float32)], "en") == [""]
    identity = recognizer.describe()
    assert identity.model == ctc_folder.name and len(identity.weights_sha256) == 64
    assert load_recognizer(str(ctc_folder)).describe() == identity


def test_older_weights_are_read_and_missing_ones_are_never_random(ctc_folder: Path, tmp_path: Path) -> None:
    import shutil

    import torch
    from safetensors.torch import load_file

    from bowerbird.encoders.recognizer import load_recognizer
    from bowerbird.errors import BowerbirdError

    folder = tmp_path / ctc_folder.name
    shutil.copytree(ctc_folder, folder)
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    assert load_recognizer(str(folder)).describe() == load_recognizer(str(ctc_folder)).describe()
    torch.save({k: v for k, v in state.items() if not k.startswith("lm_head")}, folder / "pytorch_model.bin")
    with pytest.raises(
        BowerbirdError, match=r"evaluation\.asr: .*lack 2 tensors, first lm_head\.bias; they would be random"
    ):
        load_recognizer(str(folder))


def test_a_whisper_directory_loads_and_runs(tmp_path: Path) -> None:
    import torch
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration, WhisperProcessor

    from bowerbird.encoders.recognizer import SequenceRecognizer, load_recognizer

    tokenizer = whisper_tokenizer(tmp_path)
    WhisperProcessor(WhisperFeatureExtractor(), tokenizer).save_pretrained(tmp_path)
    torch.manual_seed(0)
    special = {"pad_token_id": 1, "bos_token_id": 1, "eos_token_id": 1, "decoder_start_token_id": 2}
    sizes = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    config = WhisperConfig(vocab_size=len(tokenizer), **sizes, **heads, **special, max_target_positions=12)
    WhisperForConditionalGeneration(config).save_pretrained(tmp_path)
    recognizer = load_recognizer(str(tmp_path))
    assert isinstance(recognizer, SequenceRecognizer)
    wave = np.random.default_rng(0).normal(size=RATE).astype(np.float32)
    texts = recognizer.transcribe([wave, wave], "en")
    assert texts[0] == texts[1] and isinstance(texts[0], str)
    assert recognizer.transcribe([np.zeros(0, np.float32)], "en") == [""]


def test_a_multilingual_model_is_told_the_language(tmp_path: Path) -> None:
    """It was never told, so it guessed from converted speech; and what it does not know is not asked of it."""
    from types import SimpleNamespace

    from bowerbird.encoders.checkpoint import ModelIdentity
    from bowerbird.encoders.recognizer import SequenceRecognizer

    asked = []
    generation = SimpleNamespace(is_multilingual=True, lang_to_id={"<|en|>": 1, "<|de|>": 2})
    model = SimpleNamespace(
        generation_config=generation, device="cpu", generate=lambda **options: asked.append(options) or [[0]]
    )

    class Processor:
        feature_extractor = SimpleNamespace(n_samples=30 * RATE)

        def __call__(self, wave: np.ndarray, **_: object) -> dict:
            return {}

        def batch_decode(self, *_: object, **__: object) -> list[str]:
            return ["text"]

    recognizer = SequenceRecognizer(model, Processor(), ModelIdentity("m", "0" * 64))
    assert recognizer.transcribe([np.zeros(RATE, np.float32)], "de-AT") == ["text"]
    assert (asked[0]["language"], asked[0]["task"]) == ("de", "transcribe")
    assert recognizer.speaks("en-GB") and not recognizer.speaks("fr")


def whisper_tokenizer(folder: Path):
    """A byte-level tokenizer of a handful of letters."""
    from transformers import WhisperTokenizer

    vocabulary = {"a": 0, "<|endoftext|>": 1, "<|startoftranscript|>": 2, **{c: 3 + i for i, c in enumerate("bcdefgh")}}
    return WhisperTokenizer(vocab=vocabulary, merges=[])


def test_a_wrong_recognizer_is_named_with_a_hint(tmp_path: Path) -> None:
    from bowerbird.encoders.recognizer import load_recognizer
    from bowerbird.errors import BowerbirdError

    with pytest.raises(BowerbirdError, match=r"evaluation\.asr: .*pocketsphinx"):
        load_recognizer(str(tmp_path / "nowhere"))
