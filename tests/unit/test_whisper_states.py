"""States of Whisper's encoder: equal to `transformers`' and CTranslate2's on full windows, and in step with other features."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperModel

from bowerbird.config.sections.features import FeaturesConfig
from bowerbird.encoders.extractors import FeatureExtractor
from bowerbird.encoders.whisper import WHISPER_BASE, cache_folder
from bowerbird.encoders.whisper_states import read_ctranslate2
from bowerbird.errors import BowerbirdError

FULL = 30 * 16_000
LEFT, RIGHT = 200, 40  # samples that a centered spectrogram of 30 s reflects: here they are given


def noise(samples: int, seed: int = 0) -> torch.Tensor:
    envelope = torch.linspace(0, 60, samples).sin().abs() + 0.01
    return 0.1 * envelope * torch.randn(samples, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Whisper of random weights, as `transformers` saves it."""
    torch.manual_seed(0)
    sizes = {"d_model": 16, "encoder_layers": 3, "decoder_layers": 1, "vocab_size": 32, "pad_token_id": 0}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
    special = {
        "bos_token_id": 1,
        "eos_token_id": 2,
        "decoder_start_token_id": 1,
        "suppress_tokens": [],
        "begin_suppress_tokens": [],
    }
    model = WhisperModel(WhisperConfig(**sizes, **heads, **special, max_target_positions=8))
    for parameter in model.encoder.parameters():  # away from the small initial values, so that layers differ
        parameter.data += 0.1 * torch.randn_like(parameter)
    path = tmp_path_factory.mktemp("whisper")
    model.save_pretrained(path)
    return path


def extractor(encoder: Path | str, **options: object) -> FeatureExtractor:
    return FeatureExtractor(FeaturesConfig(kind="phonetic", encoder=str(encoder), **options), key="features.x")


def their_states(folder: Path, wave: torch.Tensor) -> list[torch.Tensor]:
    """States of all layers, the last one's after the norm, by `transformers` of a full window ``(480000,)``."""
    mels = WhisperFeatureExtractor()(wave.numpy(), sampling_rate=16_000, return_tensors="pt").input_features
    model = WhisperModel.from_pretrained(folder).eval()
    with torch.no_grad():
        output = model.encoder(mels, output_hidden_states=True)
    return [state[0] for state in (*output.hidden_states[:-1], output.last_hidden_state)]


def reflected(wave: torch.Tensor) -> torch.Tensor:
    """The wave with the samples around it that a centered spectrogram makes up."""
    return F.pad(wave[None, None], (LEFT, RIGHT), mode="reflect")[0, 0]


@pytest.mark.parametrize("layer", [0, 1, 2, 3])
def test_states_are_those_of_transformers_on_a_full_window(folder: Path, layer: int) -> None:
    wave = noise(FULL)
    ours = extractor(folder, layer=layer).encoder([reflected(wave)])[0]
    assert ours.shape == (1500, 16)
    torch.testing.assert_close(ours, their_states(folder, wave)[layer], atol=2e-4, rtol=1e-4)


def test_layers_are_normalized_and_joined(folder: Path) -> None:
    wave = noise(FULL)
    ours = extractor(folder, layers=[1, 3]).encoder([reflected(wave)])[0]
    theirs = their_states(folder, wave)
    expected = torch.cat([F.layer_norm(theirs[layer], (16,)) for layer in (1, 3)], dim=1)
    assert ours.shape == (1500, 32)
    torch.testing.assert_close(ours, expected, atol=5e-4, rtol=1e-3)


@pytest.mark.parametrize("samples", [1, 400, 719, 720, 16_000, 16_079, 16_080])
def test_there_are_as_many_frames_as_other_encoders_give(folder: Path, samples: int) -> None:
    assert extractor(folder, layer=1).extract(noise(samples)).shape == (max(1, (samples - 80) // 320), 16)


def test_a_frame_is_centered_on_sample_320_i_plus_200(folder: Path) -> None:
    here, there = torch.zeros(16_000), torch.zeros(16_000)  # impulses in the middle of frames 20 and 40
    here[320 * 20 + 200] = there[320 * 40 + 200] = 1.0
    encoder = extractor(folder, layer=0).encoder
    moved = (encoder([here])[0] - encoder([there])[0]).abs().sum(dim=1) > 0
    assert moved.nonzero()[:, 0].tolist() == [19, 20, 21, 39, 40, 41]


def test_layers_that_are_not_there(folder: Path) -> None:
    with pytest.raises(BowerbirdError, match="Whisper has layers 0 to 3"):
        extractor(folder, layer=4)
    with pytest.raises(ValueError, match="give layers in order, each once"):
        FeaturesConfig(kind="phonetic", encoder=str(folder), layers=[3, 1])


def test_files_of_ctranslate2_are_read_by_name(tmp_path: Path) -> None:
    arrays = {"encoder/a/weight": np.arange(6, dtype=np.float16).reshape(2, 3), "decoder/b": np.ones(4, np.float32)}
    kinds = {"float16": 4, "float32": 0}
    path = tmp_path / "model.bin"

    def text(value: str) -> bytes:
        return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"

    with open(path, "wb") as file:
        file.write(struct.pack("<I", 6) + text("WhisperSpec") + struct.pack("<II", 3, len(arrays)))
        for name, array in arrays.items():
            shape = struct.pack(f"<B{array.ndim}I", array.ndim, *array.shape)
            file.write(text(name) + shape + struct.pack("<BI", kinds[array.dtype.name], array.nbytes) + array.tobytes())
    ((name, found),) = read_ctranslate2(path, "encoder/")
    assert name == "a/weight"
    assert np.array_equal(found, arrays["encoder/a/weight"])
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises((struct.error, ValueError)):
        read_ctranslate2(path, "encoder/")


@pytest.mark.skipif(
    not (cache_folder() / WHISPER_BASE / "model.bin").exists(), reason="Whisper base was not put together here"
)
def test_whisper_base_is_that_of_ctranslate2() -> None:
    import ctranslate2

    model = extractor(WHISPER_BASE, layer=6)
    wave = reflected(noise(FULL))
    mels = model.encoder.mel(wave).T[None].numpy()
    theirs = ctranslate2.models.Whisper(str(model.checkpoint.folder), compute_type="float32", intra_threads=1)
    encoded = np.array(theirs.encode(ctranslate2.StorageView.from_array(np.ascontiguousarray(mels))))[0]
    assert np.abs(model.encoder([wave])[0].numpy() - encoded).max() < 0.01
