"""Phonetic features and speaker embeddings as variants of `features`: what they hold, and recognizers of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Wav2Vec2Config, Wav2Vec2ForCTC, WhisperConfig, WhisperModel

from bowerbird.config.sections.features import FeaturesConfig
from bowerbird.encoders.extractors import PhoneticEncoder, open_extractor
from bowerbird.encoders.speaker import load_speaker_encoder
from bowerbird.errors import BowerbirdError


def wave(seconds: float = 1.5) -> torch.Tensor:
    return 0.05 * torch.randn(int(16_000 * seconds), generator=torch.Generator().manual_seed(0))


def extractor(encoder: str | Path, **options: Any) -> Any:
    return open_extractor(FeaturesConfig(encoder=str(encoder), **{"layer": 0, **options}), key="features.x")


def test_phone_posteriors_are_those_of_the_phonetic_encoder() -> None:
    phones = extractor("bundled:nano-phones", kind="phonetic")
    found = phones.extract(wave())
    assert found.shape == (74, 40) == (phones.num_frames(24_000), phones.dim)
    torch.testing.assert_close(found, PhoneticEncoder().posteriors(wave()), atol=1e-3, rtol=0)  # float16
    torch.testing.assert_close(found.sum(1), torch.ones(74), atol=5e-3, rtol=0)
    encoder = extractor("bundled:nano-encoder", layer=3)
    assert (
        phones.checkpoint.weights_sha256 != encoder.checkpoint.weights_sha256
    )  # of the head and of the encoder below it


def test_a_speaker_embedding_is_one_row_of_the_first_seconds() -> None:
    voice = extractor("ge2e", kind="speaker", max_window_s=3.0)
    (row,) = voice.extract_batch([wave(5.0)], ["u"])
    assert row.shape == (1, 256) == (1, voice.dim) and row.dtype == np.float16
    np.testing.assert_allclose(row, load_speaker_encoder("resemblyzer").embed([wave(5.0)[:48_000]]), atol=1e-3)
    assert voice.identity_params()["weights_sha256"] == load_speaker_encoder("resemblyzer").identity.weights_sha256
    with pytest.raises(BowerbirdError, match="u: a wave without samples cannot be embedded"):
        voice.extract_batch([torch.zeros(0)], ["u"])


@pytest.fixture(scope="module")
def recognizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A CTC model and a Whisper with random weights, as `transformers` saves them."""
    root = tmp_path_factory.mktemp("recognizers")
    torch.manual_seed(0)
    ctc = Wav2Vec2Config(
        vocab_size=9,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=(8,) * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
    )
    whisper = WhisperConfig(
        vocab_size=20,
        d_model=16,
        encoder_layers=2,
        decoder_layers=1,
        encoder_attention_heads=2,
        pad_token_id=0,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    )
    Wav2Vec2ForCTC(ctc).save_pretrained(root / "ctc")
    WhisperModel(whisper).save_pretrained(root / "whisper")
    return {"ctc": root / "ctc", "whisper": root / "whisper"}


def test_posteriors_of_a_ctc_model(recognizers: dict[str, Path]) -> None:
    phones = extractor(recognizers["ctc"], kind="phonetic")
    found = phones.extract(wave())
    model = Wav2Vec2ForCTC.from_pretrained(recognizers["ctc"]).eval()
    with torch.no_grad():
        expected = model(wave()[None]).logits[0].softmax(-1)
    assert found.shape == (74, 9)
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("whisper", {"layer": 3}, "Whisper has layers 0 to 2"),
        ("whisper", {"layer": 1, "max_window_s": 40.0}, "reads 30 s at most"),
    ],
)
def test_what_a_recognizer_does_not_have(recognizers: dict[str, Path], name: str, options: dict, message: str) -> None:
    with pytest.raises(BowerbirdError, match=message):
        extractor(recognizers[name], kind="phonetic", **options)


def test_a_folder_without_a_recognizer(tmp_path: Path) -> None:
    with pytest.raises(BowerbirdError, match=r"^features\.x\.encoder: .*none: no such folder; give a folder with"):
        extractor(tmp_path / "none", kind="phonetic")
