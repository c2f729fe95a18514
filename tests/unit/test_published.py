"""NVIDIA's BigVGAN files: every tensor finds its place, code in them does not run, and other mels are refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hub_cache import use_cache
from published_fixture import BASE, LARGE, SECOND, published_config, random_tensors, shapes, write_published
from torch import Tensor

from bowerbird.artifacts.identity import input_digests
from bowerbird.artifacts.models import model_files
from bowerbird.config.base import ModelReference
from bowerbird.config.loading import parse_config
from bowerbird.config.sections.features import FeaturesConfig
from bowerbird.encoders.checkpoint import model_folder, parse_model_folders
from bowerbird.encoders.extractors import FeatureExtractor
from bowerbird.encoders.spectral import SPECTRA, frame_rate, load_spectral
from bowerbird.errors import BowerbirdError
from bowerbird.nn.bigvgan import AntiAliased, BigVgan
from bowerbird.nn.mel import LogMel
from bowerbird.systems.vocoder.pretrained import load_bigvgan
from bowerbird.systems.vocoder.synthesis import load_vocoder


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("sizes", "millions"),
    [({**BASE}, 14.0), ({**LARGE}, 112.4), ({**LARGE, **SECOND}, 112.4)],
    ids=["base_24khz_100band", "24khz_100band", "v2_24khz_100band_256x"],
)
def test_published_sizes(sizes: dict[str, Any], millions: float) -> None:
    """The repositories say 14 M and 112 M; a model of ours has as many parameters as the file's names."""
    config = published_config(**sizes)
    with torch.device("meta"):
        model = BigVgan(
            100,
            config["upsample_initial_channel"],
            config["upsample_rates"],
            config["upsample_kernel_sizes"],
            last_bias=config.get("use_bias_at_final", True),
        )
    count = sum(math.prod(shape) for name, shape in shapes(config).items() if not name.endswith("filter"))
    assert sum(p.numel() for p in model.parameters()) == count
    assert count / 1e6 == pytest.approx(millions, abs=0.1)


def reference(config: dict[str, Any], tensors: dict[str, Tensor], x: Tensor) -> Tensor:
    """The published generator by the names of its tensors: ``x`` (1, 100, frames)."""

    def weight(name: str) -> Tensor:
        v = tensors[f"{name}.weight_v"]
        return tensors[f"{name}.weight_g"] * v / v.norm(dim=(1, 2), keepdim=True)

    def conv(name: str, x: Tensor, dilation: int = 1) -> Tensor:
        w = weight(name)
        return F.conv1d(x, w, tensors.get(f"{name}.bias"), dilation=dilation, padding=dilation * (w.shape[2] - 1) // 2)

    def activation(name: str, x: Tensor) -> Tensor:
        layer = AntiAliased(x.shape[1])
        layer.activation.alpha.data, layer.activation.beta.data = (
            tensors[f"{name}.act.alpha"],
            tensors[f"{name}.act.beta"],
        )
        return layer(x)

    x = conv("conv_pre", x)
    kernels = len(config["resblock_kernel_sizes"])
    for layer, (rate, kernel) in enumerate(zip(config["upsample_rates"], config["upsample_kernel_sizes"])):
        name = f"ups.{layer}.0"
        x = F.conv_transpose1d(x, weight(name), tensors[f"{name}.bias"], stride=rate, padding=(kernel - rate) // 2)
        total = 0
        for place in range(kernels):
            block, y = f"resblocks.{layer * kernels + place}", x
            for number, dilation in enumerate(config["resblock_dilation_sizes"][place]):
                inner = conv(f"{block}.convs1.{number}", activation(f"{block}.activations.{2 * number}", y), dilation)
                y = y + conv(f"{block}.convs2.{number}", activation(f"{block}.activations.{2 * number + 1}", inner))
            total = total + y
        x = total / kernels
    x = conv("conv_post", activation("activation_post", x))
    return (x.tanh() if config.get("use_tanh_at_final", True) else x.clamp(-1, 1))[:, 0]


@pytest.mark.parametrize("values", [{}, SECOND], ids=["version 1", "version 2"])
def test_every_tensor_finds_its_place(tmp_path: Path, values: dict[str, Any]) -> None:
    config = published_config(**values)
    tensors = random_tensors(config)
    names = set(tensors)
    assert {
        "conv_pre.weight_g",
        "ups.0.0.weight_v",
        "resblocks.8.convs2.2.bias",
        "resblocks.3.activations.5.act.alpha",
        "resblocks.0.activations.0.upsample.filter",
        "activation_post.downsample.lowpass.filter",
    } <= names
    assert ("conv_post.bias" in names) == (not values)
    generator = load_bigvgan(write_published(tmp_path, config, tensors)).eval()
    mels = noise(1, 6, 100)
    with torch.no_grad():
        made = generator(mels)
        assert made.shape == (1, 6 * 256) and made.abs().max() <= 1
        assert torch.allclose(made, reference(config, tensors, mels.transpose(1, 2)), atol=1e-5)


class Evil:
    """What a pickle could run."""

    def __reduce__(self) -> Any:
        return print, ("taken",)


def test_nothing_is_unpickled_and_mistakes_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, tensors = published_config(), random_tensors(published_config())
    for name, changed, message in (
        ("evil", {"generator": Evil()}, "not tensors by name under 'generator'"),
        ("other", {"weights": tensors}, "not tensors by name under 'generator'"),
        (
            "less",
            {"generator": {k: v for k, v in tensors.items() if k != "conv_pre.bias"}},
            "does not fit the architecture",
        ),
        (
            "filter",
            {"generator": {**tensors, "activation_post.upsample.filter": noise(1, 1, 12)}},
            "not the filter of 12 taps",
        ),
    ):
        folder = write_published(tmp_path / name, config)
        torch.save(changed, folder / "bigvgan_generator.pt")
        with pytest.raises(BowerbirdError, match=message):
            load_bigvgan(folder)
    assert "taken" not in capsys.readouterr().out
    for values, message in (
        ({"num_mels": 80, "sampling_rate": 22050}, "sampling_rate is 22050, not 24000; only the BigVGANs of 24 kHz"),
        ({"activation": "snake"}, "activation is 'snake', not 'snakebeta'"),
        ({"resblock_dilation_sizes": [[1, 3, 5], [1, 2, 3], [1, 3, 5]]}, "blocks of different dilations"),
    ):
        with pytest.raises(BowerbirdError, match=message):
            load_bigvgan(write_published(tmp_path / "config", published_config(**values), tensors))
    (tmp_path / "config/config.json").write_text("{}")
    with pytest.raises(BowerbirdError, match="lacks sampling_rate, num_mels"):
        load_bigvgan(tmp_path / "config")


def test_a_repository_that_cannot_be_had_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_cache(tmp_path, monkeypatch)
    with pytest.raises(
        BowerbirdError, match=r"^--models: v: nvidia/nothing: no such folder here.*bigvgan_generator.pt$"
    ):
        model_folder("hub:nvidia/nothing@0123", "--models: v")
    assert model_folder(str(tmp_path), "--models: v") == tmp_path


def test_their_mel_is_as_their_config_says() -> None:
    """Magnitudes with 1e-9 under the root, Slaney bands to 12 kHz, natural logarithm; computed here step by step."""
    wave = 0.1 * noise(1, 24_000)
    mel = SPECTRA["log-mel-24k"][0]()
    padded = F.pad(wave[:, None], (384, 384), mode="reflect")[:, 0]
    frames = padded.unfold(1, 1024, 256) * torch.hann_window(1024)
    power = torch.fft.rfft(frames).abs().square()
    expected = ((power + 1e-9).sqrt() @ mel.bank).clamp_min(1e-5).log()
    assert mel(wave).shape == (1, 93, 100) and torch.allclose(mel(wave), expected, atol=1e-4)
    silence = mel(torch.zeros(1, 4096))
    assert torch.allclose(silence, ((1e-9**0.5) * mel.bank.sum(0)).clamp_min(1e-5).log().expand_as(silence), atol=1e-5)
    assert LogMel().epsilon == 0


def test_features_at_24_khz_have_their_rate_and_nothing_above_8_khz() -> None:
    extractor = FeatureExtractor(FeaturesConfig(encoder="log-mel-24k", layer=0, max_window_s=1.5, overlap_s=0.5))
    time = torch.arange(40_000) / 16_000
    wave = 0.5 * torch.sin(2 * torch.pi * 1000 * time) + 1e-3 * noise(40_000)
    found = extractor.extract(wave)
    assert found.shape == (40_000 * 3 // 2 // 256, 100) == (extractor.num_frames(40_000), extractor.dim)
    bank = extractor.encoder.spectrogram.bank
    assert int(found[100].argmax()) == int(bank[round(1000 / 24_000 * 1024)].argmax())
    above = bank[: round(8300 / 24_000 * 1024)].sum(0) == 0
    assert above.sum() > 5 and float(found[50:150, above].mean()) < float(found[50:150, ~above].mean()) - 2
    assert frame_rate(extractor.identity_params()) == 93.75
    plain = FeatureExtractor(FeaturesConfig(encoder="log-mel", layer=0))
    assert frame_rate(plain.identity_params()) == 50 and load_spectral("log-mel").is_windowed
    assert extractor.extract(torch.zeros(100)).shape == (1, 100)


def test_the_vocoder_gives_16_khz_in_chunks_or_whole(tmp_path: Path) -> None:
    folder = write_published(tmp_path / "published")
    vocoder = load_vocoder(folder)
    assert (vocoder.input_dim, vocoder.frame_rate) == (100, 93.75)
    mels = noise(120, 100)
    whole = vocoder.vocode(mels)
    assert whole.shape == (120 * 256 * 2 // 3,)
    assert np.allclose(whole, vocoder.vocode(mels, chunk_frames=50), atol=1e-5)
    with pytest.raises(BowerbirdError, match=r"features of shape \(9, 80\)"):
        vocoder.vocode(noise(9, 80))
    named = parse_model_folders([f"vocoder={folder}"])
    before = input_digests({role: model_files(path) for role, path in named.items()})
    write_published(folder, tensors=random_tensors(published_config(), seed=1))
    assert input_digests({role: model_files(path) for role, path in named.items()}) != before


def test_only_takin_may_name_published_weights() -> None:
    study: dict[str, Any] = {
        "features": {
            "nano": {},
            "mel": {"encoder": "log-mel", "layer": 0},
            "mel-24k": {"encoder": "log-mel-24k", "layer": 0},
        }
    }
    published = {"system": "vocoder", "features": "mel-24k", "pretrained": "nvidia/bigvgan_24khz_100band"}
    takin = {"system": "takin", "mels": "mel-24k", "phones": "", "speaker_embeddings": "", "vocoder": "p"}
    config = parse_config(study | {"experiments": {"p": published, "t": takin}})
    assert config.experiments["p"].stages == ()
    assert config.experiments["p"].model("vocoder") == ModelReference("hub", "nvidia/bigvgan_24khz_100band")
    assert "vocoder" in config.experiments["p"].conversion_inputs()
    with pytest.raises(BowerbirdError, match=r"experiments.k.vocoder: 'p' is a published BigVGAN"):
        parse_config(study | {"experiments": {"p": published, "k": {"system": "knnvc", "vocoder": "p"}}})
