"""Features are those of the model's own hidden states, alone or in a batch, whole or in windows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hub_cache import COMMIT, add_to_cache, use_cache
from transformers import HubertConfig, HubertModel, Wav2Vec2Config, Wav2Vec2Model, WavLMConfig, WavLMModel

from bowerbird.config.paths import bundled
from bowerbird.config.sections.features import FeaturesConfig
from bowerbird.encoders.extractors import FeatureExtractor, PhoneticEncoder
from bowerbird.errors import BowerbirdError

SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "conv_dim": (16,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
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


@pytest.mark.parametrize(("padding", "frames"), [("none", lambda n: (n - 80) // 320), ("center", lambda n: n // 320)])
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
        # layer 0 sees 8 frames to each side, half an overlap is 25: joined there, no frame may differ
        torch.testing.assert_close(a, b, atol=2e-3, rtol=0)


def test_normalizing_the_input_is_a_choice_and_of_the_whole_utterance(directories) -> None:
    """Statistics come from the utterance alone: not from padding, and not from each window."""
    fade = torch.linspace(0.02, 2, 16000 * 4)
    for more in ({}, {"padding": "center"}, {"max_window_s": 2.0, "overlap_s": 1.0}):
        options = FeaturesConfig(encoder=str(directories["wavlm-large"]), layer=1, **more)
        plain, normal = (
            FeatureExtractor(options),
            FeatureExtractor(options.model_copy(update={"normalize_input": True})),
        )
        wave = waves(16000 * 4)[0] * fade + 0.05
        unit = (wave - wave.mean()) / wave.std(unbiased=False)
        torch.testing.assert_close(normal.extract(wave), plain.extract(unit), atol=1e-2, rtol=1e-2)
        assert (normal.extract(wave) - plain.extract(wave)).abs().max() > 0.1


def as_on_a_gpu(directory: Path, monkeypatch: pytest.MonkeyPatch, fits: int) -> tuple[FeatureExtractor, list[int]]:
    """An extractor that batches as on a GPU, and that runs out of memory on more than ``fits`` windows at once."""
    extractor = FeatureExtractor(FeaturesConfig(encoder=str(directory), layer=1))
    extractor.batch_s = 60.0
    real, sizes = extractor.encoder.forward, []

    def small_gpu(batch):
        sizes.append(len(batch))
        if len(batch) > fits:
            raise torch.cuda.OutOfMemoryError
        return real(batch)

    monkeypatch.setattr(extractor.encoder, "forward", small_gpu)
    return extractor, sizes


def test_out_of_memory_halves_the_batch(directories, monkeypatch: pytest.MonkeyPatch) -> None:
    several = waves(4000, 8000, 8000, 8000, 8000, 5000)
    expected = FeatureExtractor(FeaturesConfig(encoder=str(directories["wavlm-large"]), layer=1)).extract_batch(several)
    extractor, sizes = as_on_a_gpu(directories["wavlm-large"], monkeypatch, fits=2)
    found = extractor.extract_batch(several)
    assert sizes == [6, 3, 1, 1, 1, 1, 1, 1]  # six, three, then one by one
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a.astype(np.float32), b.astype(np.float32), atol=2e-3)
    assert max(sizes) == 6 and extractor.batch_s < 3  # what did not fit is not tried again


def test_out_of_memory_on_one_utterance_names_it_and_says_what_to_do(directories, monkeypatch) -> None:
    extractor, sizes = as_on_a_gpu(directories["wavlm-large"], monkeypatch, fits=0)
    with pytest.raises(BowerbirdError, match=r"^second: out of GPU memory on 0\.5 s.*lower features\.max_window_s"):
        extractor.extract_batch(waves(4000, 8000), ["first", "second"])
    assert sizes == [2, 1]


def test_batches_on_a_gpu_are_bounded_and_of_similar_length(directories, monkeypatch: pytest.MonkeyPatch) -> None:
    extractor = FeatureExtractor(FeaturesConfig(encoder=str(directories["wavlm-large"]), layer=0, max_window_s=4))
    extractor.batch_s = 12.0
    batches = []
    real = extractor.encoder.forward
    monkeypatch.setattr(
        extractor.encoder, "forward", lambda batch: batches.append([len(w) for w in batch]) or real(batch)
    )
    several = waves(*(16000 * (1 + n % 5) for n in range(20)))
    found = extractor.extract_batch(several)  # those of 5 s go through in two windows of 4 s
    assert [len(f) for f in found] == [(len(w) - 80) // 320 for w in several]
    assert sum(map(len, batches)) == 24 and max(map(len, batches)) > 3
    for batch in batches:
        assert len(batch) * max(batch) <= 12.0 * 16000
        assert max(batch) - min(batch) <= 16000


def test_on_a_cpu_a_long_recording_goes_through_window_by_window(directories, monkeypatch) -> None:
    extractor = FeatureExtractor(FeaturesConfig(encoder=str(directories["wavlm-base"]), layer=1, max_window_s=3))
    batches, real = [], extractor.encoder.forward
    monkeypatch.setattr(extractor.encoder, "forward", lambda batch: batches.append(len(batch)) or real(batch))
    extractor.extract(waves(16000 * 9)[0])
    assert len(batches) == 7 and set(batches) == {1}


@pytest.mark.parametrize(("value", "message"), [(1e30, "beyond float16"), (float("nan"), "not finite")])
def test_values_that_cannot_be_stored_name_the_utterance(directories, value: float, message: str) -> None:
    extractor = FeatureExtractor(FeaturesConfig(encoder=str(directories["wavlm-large"]), layer=1))
    extractor.encoder.model.encoder.layers[0].feed_forward.output_dense.bias.data[3] = value
    with pytest.raises(BowerbirdError, match=f"^utt7: .*{message}.*features\\."):
        extractor.extract_batch(waves(4000), ["utt7"])


def copy(source: Path, target: Path, *names: str) -> Path:
    target.mkdir(parents=True)
    for name in names:
        (target / name).write_bytes((source / name).read_bytes())
    return target


def test_random_weights_are_never_a_fallback(directories, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    def load(folder: Path) -> None:
        FeatureExtractor(FeaturesConfig(encoder=str(folder), layer=1))

    source = directories["wavlm-large"]
    with pytest.raises(
        BowerbirdError, match=r"features\.encoder: .*nowhere: no such folder; give a folder with config\.json"
    ):
        load(tmp_path / "nowhere")
    with pytest.raises(BowerbirdError, match=r"no config\.json"):
        load(copy(source, tmp_path / "weights-only", "model.safetensors"))
    with pytest.raises(BowerbirdError, match=r"no weights there; looked for model\.safetensors"):
        load(copy(source, tmp_path / "config-only", "config.json"))
    broken = copy(source, tmp_path / "broken", "config.json")
    (broken / "model.safetensors").write_bytes((source / "model.safetensors").read_bytes()[:5000])
    with pytest.raises(BowerbirdError, match=r"broken: .*model\.safetensors cannot be loaded"):
        load(broken)
    weights = load_file(source / "model.safetensors")
    weights.pop(next(k for k in weights if "layers.0.feed_forward" in k))
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BowerbirdError, match="weights lack 1 tensors"):
        load(broken)
    (broken / "config.json").write_text('{"model_type": "whisper"}')
    with pytest.raises(BowerbirdError, match="is a whisper; supported: wavlm, hubert, wav2vec2"):
        load(broken)


def test_nothing_in_a_bin_file_is_unpickled(directories, tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self):
            return (open, (str(tmp_path / "harm"), "w"))

    folder = copy(directories["hubert-base"], tmp_path / "harmful", "config.json")
    torch.save({"encoder.layer_norm.weight": Harm()}, folder / "pytorch_model.bin")
    with pytest.raises(BowerbirdError, match=r".*pytorch_model\.bin cannot be loaded"):
        FeatureExtractor(FeaturesConfig(encoder=str(folder), layer=1))
    assert not (tmp_path / "harm").exists()


def test_older_files_load_as_well(directories, tmp_path: Path) -> None:
    """As published: .bin, weight norm under its old names, the model below a training head; or in several files."""
    from safetensors.torch import load_file

    source = directories["wav2vec2-large"]
    options = FeaturesConfig(encoder=str(source), layer=2)
    expected = FeatureExtractor(options).extract(waves(8000)[0])
    state = load_file(source / "model.safetensors")
    old = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    renamed = {}
    for key, value in state.items():
        for new, before in old.items():
            key = key.replace(new, before)
        renamed[f"wav2vec2.{key}"] = value
    folder = copy(source, tmp_path / "old", "config.json")
    torch.save(renamed, folder / "pytorch_model.bin")
    torch.testing.assert_close(
        FeatureExtractor(options.model_copy(update={"encoder": str(folder)})).extract(waves(8000)[0]), expected
    )
    Wav2Vec2Model.from_pretrained(source).save_pretrained(tmp_path / "parts", max_shard_size="40KB")
    assert not (tmp_path / "parts/model.safetensors").exists()
    parts = FeatureExtractor(options.model_copy(update={"encoder": str(tmp_path / "parts")}))
    torch.testing.assert_close(parts.extract(waves(8000)[0]), expected)
    assert len(parts.checkpoint.weights) > 1 and len(parts.checkpoint.weights_sha256) == 64


@pytest.fixture
def hub_cache(directories, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub cache that holds ``somebody/wavlm``; there is no network."""
    cache = use_cache(tmp_path / "cache", monkeypatch)
    add_to_cache(cache, "somebody/wavlm", directories["wavlm-base"])
    return cache


def test_a_hub_id_comes_from_the_cache_with_its_commit(hub_cache: Path, directories, caplog) -> None:
    found = FeatureExtractor(FeaturesConfig(encoder="somebody/wavlm", layer=1))
    assert "pin its commit" in caplog.text
    local = FeatureExtractor(FeaturesConfig(encoder=str(directories["wavlm-base"]), layer=1))
    assert found.describe() == {**local.describe(), "encoder": "somebody/wavlm", "revision": COMMIT}
    torch.testing.assert_close(found.extract(waves(8000)[0]), local.extract(waves(8000)[0]))
    assert found.identity_params() == local.identity_params()  # where a model lies changes nothing
    caplog.clear()
    FeatureExtractor(FeaturesConfig(encoder="somebody/wavlm", revision=COMMIT, layer=1))
    assert "pin its commit" not in caplog.text


def test_a_hub_id_that_is_not_here_says_what_to_do(hub_cache: Path) -> None:
    with pytest.raises(
        BowerbirdError,
        match=r"features\.encoder: nobody/x: .*HF_HUB_OFFLINE is set.*download it .* or give a folder with",
    ):
        FeatureExtractor(FeaturesConfig(encoder="nobody/x", layer=1))


def test_the_log_names_the_weights_that_ran(directories, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="bowerbird")
    extractor = FeatureExtractor(FeaturesConfig(encoder=str(directories["hubert-base"]), layer=1))
    assert (
        str(directories["hubert-base"] / "model.safetensors") in caplog.text
        and extractor.checkpoint.weights_sha256 in caplog.text
    )
    assert str(directories["hubert-base"].parent) not in str(extractor.describe() | extractor.identity_params())


def test_a_layer_too_high_names_the_range(directories) -> None:
    with pytest.raises(BowerbirdError, match=r"features\.layer: 9: .* has layers 0 to 3"):
        FeatureExtractor(FeaturesConfig(encoder=str(directories["wavlm-base"]), layer=9))


def test_bfloat16_on_a_cpu_is_refused(directories) -> None:
    options = FeaturesConfig(encoder=str(directories["wavlm-base"]), layer=1, precision="bfloat16")
    with pytest.raises(BowerbirdError, match=r"features\.big\.precision: bfloat16: needs a GPU"):
        FeatureExtractor(options, key="features.big")


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_runs_every_kind_of_model(directories, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Autocast on the CPU takes the path that it takes on a GPU: types must agree everywhere, also under a mask."""
    extractor = FeatureExtractor(FeaturesConfig(encoder=str(directories[name]), layer=2))
    several = waves(8000, 5000)
    exact = [extractor.encoder([w])[0] for w in several]
    extractor.dtype, extractor.batch_s = torch.bfloat16, 60.0  # in one batch, as on a GPU
    real, batches = extractor.encoder.forward, []
    monkeypatch.setattr(extractor.encoder, "forward", lambda batch: batches.append(real(batch)) or batches[-1])
    found = extractor.extract_batch(several)
    (batch,) = batches
    for kept, inside, expected in zip(found, batch, exact, strict=True):
        assert inside.dtype == torch.float32 and inside.shape == kept.shape == expected.shape
        assert torch.nn.functional.cosine_similarity(torch.from_numpy(kept).float(), expected).min() > 0.98


def test_phone_posteriors_are_probabilities_of_the_named_phones(tmp_path: Path) -> None:
    encoder = PhoneticEncoder()
    wave = waves(16000)[0]
    found = encoder.posteriors(wave)
    assert found.shape == (49, len(encoder.phones)) and "SIL" in encoder.phones
    torch.testing.assert_close(found.sum(dim=1), torch.ones(49))
    torch.testing.assert_close(encoder.from_features(encoder.extractor.extract(wave)), found)
    with pytest.raises(BowerbirdError, match="reads features of 256 dimensions, not 32"):
        encoder.from_features(torch.zeros(5, 32))
    with pytest.raises(
        BowerbirdError, match=r"nano-encoder: config\.json lacks encoder, layer, phones: not a phone head's"
    ):
        PhoneticEncoder(bundled("bundled:nano-encoder"))
    with pytest.raises(
        BowerbirdError, match=r"no config\.json there: not a phone head; give a folder with config\.json"
    ):
        PhoneticEncoder(str(tmp_path))
