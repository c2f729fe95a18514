"""Features are those of the model's own hidden states, alone or in a batch, whole or in windows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import HubertConfig, HubertModel, Wav2Vec2Config, Wav2Vec2Model, WavLMConfig, WavLMModel

from bowerbird.artifacts import BowerbirdError
from bowerbird.config import FeaturesConfig
from bowerbird.encoders.selfsupervised import FeatureExtractor

SMALL = {
    "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 48,
    "conv_dim": (16,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4,
}  # fmt: skip
BASE = {"feat_extract_norm": "group", "do_stable_layer_norm": False}
LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
MODELS = {
    "wavlm": (WavLMConfig, WavLMModel),
    "hubert": (HubertConfig, HubertModel),
    "wav2vec2": (Wav2Vec2Config, Wav2Vec2Model),
}


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Small models with random weights in the hub's format, base- and large-shaped."""
    root = tmp_path_factory.mktemp("models")
    for kind, (config, model) in MODELS.items():
        for shape, norms in (("base", BASE), ("large", LARGE)):
            torch.manual_seed(1)
            made = model(config(**SMALL, **norms))
            for parameter in made.parameters():  # small random models saturate: make every layer matter
                parameter.data += 0.05 * torch.randn_like(parameter)
            made.save_pretrained(root / f"{kind}-{shape}")
    return {p.name: p for p in root.iterdir()}


def waves(*lengths: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(n, generator=generator) * 0.1 for n in lengths]


NAMES = [f"{kind}-{shape}" for kind in MODELS for shape in ("base", "large")]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("layer", [0, 1, 3])
def test_a_layer_is_the_models_hidden_state(directories, name: str, layer: int) -> None:
    extractor = FeatureExtractor(FeaturesConfig(encoder=str(directories[name]), layer=layer))
    wave = waves(9000)[0]
    model = MODELS[name.split("-")[0]][1].from_pretrained(directories[name]).eval()
    with torch.no_grad():
        expected = model(wave[None], output_hidden_states=True).hidden_states[layer][0]
        found = extractor.encoder([wave])[0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert len(extractor.encoder.model.encoder.layers) == layer  # layers above are not even there


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_gives_what_each_gives_alone(directories, name: str) -> None:
    extractor = FeatureExtractor(FeaturesConfig(encoder=str(directories[name]), layer=2))
    several = waves(16000, 5000, 11111, 400)
    together = extractor.encoder(several)
    for wave, batched in zip(several, together, strict=True):
        alone = extractor.encoder([wave])[0]
        assert batched.shape == alone.shape
        torch.testing.assert_close(batched, alone, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("padding", "frames"), [("none", lambda n: (n - 80) // 320), ("centre", lambda n: n // 320)])
def test_frame_counts(directories, padding: str, frames) -> None:
    extractor = FeatureExtractor(FeaturesConfig(encoder=str(directories["wavlm-large"]), layer=1, padding=padding))
    for n in (400, 719, 720, 16000, 16001, 20479):
        assert extractor.extract(waves(n)[0]).shape == (frames(n), 32)
        assert extractor.num_frames(n) == frames(n)
    assert len(extractor.extract(waves(100)[0])) == 1  # shorter than one window: padded to one frame


def test_windows_give_as_many_frames_and_agree_away_from_seams(directories) -> None:
    spec = str(directories["wavlm-large"])
    whole = FeatureExtractor(FeaturesConfig(encoder=spec, layer=0, max_window_s=30))
    windowed = FeatureExtractor(FeaturesConfig(encoder=spec, layer=0, max_window_s=2, overlap_s=1))
    for n in (16000 * 7, 16000 * 7 + 333, 16000 * 2 + 500):
        wave = waves(n)[0]
        a, b = whole.extract(wave), windowed.extract(wave)
        assert a.shape == b.shape
        # layer 0 looks at the positional convolution only (16 frames): half a second from every edge nothing may differ
        torch.testing.assert_close(a, b, atol=2e-3, rtol=0)


def test_normalising_the_input_is_a_choice(directories) -> None:
    spec = str(directories["wavlm-large"])
    plain = FeatureExtractor(FeaturesConfig(encoder=spec, layer=1))
    normal = FeatureExtractor(FeaturesConfig(encoder=spec, layer=1, normalize_input=True))
    wave = waves(8000)[0]
    unit = (wave - wave.mean()) / wave.std(unbiased=False)
    torch.testing.assert_close(normal.extract(wave), plain.extract(unit), atol=1e-2, rtol=1e-2)
    assert (normal.extract(wave) - plain.extract(wave)).abs().max() > 1e-2


def test_out_of_memory_halves_the_batch(directories, monkeypatch: pytest.MonkeyPatch) -> None:
    extractor = FeatureExtractor(FeaturesConfig(encoder=str(directories["wavlm-large"]), layer=1))
    several = waves(4000, 5000, 6000, 7000, 8000)
    expected = extractor.extract_batch(several)
    real, sizes = extractor._extract, []

    def small_gpu(batch):
        sizes.append(len(batch))
        if len(batch) > 2:
            raise torch.cuda.OutOfMemoryError
        return real(batch)

    monkeypatch.setattr(extractor, "_extract", small_gpu)
    found = extractor.extract_batch(several)
    assert sizes == [5, 2, 3, 1, 2]
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a.astype(np.float32), b.astype(np.float32), atol=2e-3)


def test_out_of_memory_on_one_utterance_says_what_to_do(directories, monkeypatch: pytest.MonkeyPatch) -> None:
    extractor = FeatureExtractor(FeaturesConfig(encoder=str(directories["wavlm-large"]), layer=1))

    def no_gpu(batch):
        raise torch.cuda.OutOfMemoryError

    monkeypatch.setattr(extractor, "_extract", no_gpu)
    with pytest.raises(BowerbirdError, match="lower max_window_s"):
        extractor.extract_batch(waves(4000))


def test_random_weights_are_never_a_fallback(directories, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    with pytest.raises(BowerbirdError, match="no model there"):
        FeatureExtractor(FeaturesConfig(encoder=str(tmp_path / "nowhere"), layer=1))
    broken = tmp_path / "broken"
    broken.mkdir()
    source = directories["wavlm-large"]
    (broken / "config.json").write_bytes((source / "config.json").read_bytes())
    with pytest.raises(BowerbirdError, match="no weights there"):
        FeatureExtractor(FeaturesConfig(encoder=str(broken), layer=1))
    weights = load_file(source / "model.safetensors")
    weights.pop(next(k for k in weights if "layers.0.feed_forward" in k))
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BowerbirdError, match="weights lack 1 tensors"):
        FeatureExtractor(FeaturesConfig(encoder=str(broken), layer=1))


def test_a_layer_too_high_names_the_range(directories) -> None:
    with pytest.raises(BowerbirdError, match=r"features\.layer: 9: .* has layers 0 to 3"):
        FeatureExtractor(FeaturesConfig(encoder=str(directories["wavlm-base"]), layer=9))


def test_bfloat16_on_a_cpu_is_refused(directories) -> None:
    with pytest.raises(BowerbirdError, match="needs a GPU"):
        FeatureExtractor(FeaturesConfig(encoder=str(directories["wavlm-base"]), layer=1, precision="bfloat16"))


def test_embeddings_are_resemblyzers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our GE2E gives what the package's own encoder gives, for short, partial and long speech, quiet and loud."""
    import sys
    import types

    from bowerbird.encoders.speaker import load_verifier

    monkeypatch.setitem(sys.modules, "webrtcvad", types.ModuleType("webrtcvad"))
    resemblyzer = pytest.importorskip("resemblyzer")
    theirs = resemblyzer.VoiceEncoder("cpu", verbose=False)
    ours = load_verifier("resemblyzer")
    for seconds, gain in ((0.7, 1.0), (1.6, 0.01), (3.3, 0.3), (7.9, 0.1)):
        wave = (waves(int(seconds * 16000))[0] * gain).numpy()
        normal = resemblyzer.audio.normalize_volume(wave, -30, increase_only=True)
        np.testing.assert_allclose(ours.embed([wave])[0], theirs.embed_utterance(normal), atol=2e-4)


def test_the_speaker_embedding_has_a_gradient() -> None:
    from bowerbird.encoders.speaker import load_verifier

    wave = waves(32000)[0].requires_grad_()
    load_verifier("resemblyzer").model.embed(wave).sum().backward()
    assert wave.grad is not None and float(wave.grad.abs().sum()) > 0
