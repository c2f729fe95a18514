"""ECAPA-TDNN against speechbrain's: same size, and the same embedding from the same weights."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
import torchaudio
from torch import Tensor, nn

from bowerbird.encoders.speaker import load_ecapa
from bowerbird.errors import BowerbirdError
from bowerbird.nn.ecapa import EcapaTdnn, Fbank, from_speechbrain

EXPECTED = Path(__file__).parent / "data" / "ecapa_expected.npy"  # speechbrain 1.0.3's, from `filled` and `voice`


def speechbrain_shapes(model: EcapaTdnn) -> dict[str, torch.Size]:
    """The names and shapes of the published file, in the order of its names."""
    shapes = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv1d | nn.BatchNorm1d):
            wrapped = "conv" if isinstance(module, nn.Conv1d) else "norm"
            shapes.update({f"{name}.{wrapped}.{key}": value.shape for key, value in module.state_dict().items()})
    return dict(sorted(shapes.items()))


def filled(shapes: dict[str, torch.Size]) -> dict[str, Tensor]:
    """Random weights by name: each layer keeps the size of what it is given, no batch norm is the identity."""
    random, state = np.random.RandomState(7), {}
    for name, shape in sorted(shapes.items()):
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(1)
            continue
        values = random.standard_normal(tuple(shape)).astype(np.float32)
        if name.endswith(("norm.weight", "running_var")):
            values = 0.5 + np.abs(values)
        elif len(shape) == 3:
            values *= (0.5 / np.prod(shape[1:])) ** 0.5
            if name.startswith("blocks.0."):
                values *= 0.1  # its inputs are decibels
        else:
            values *= 0.3
        state[name] = torch.from_numpy(values)
    return state


def voice() -> Tensor:
    """Two seconds ``(1, 32000)``: a gliding harmonic tone in noise, the end silent enough to meet the 80 dB floor."""
    t = np.arange(32000) / 16000
    phase = 2 * np.pi * (120 * t + 30 * t**2)
    wave = sum(np.sin(k * phase) / k for k in range(1, 20)) * (0.2 + np.sin(2 * np.pi * 3 * t) ** 2)
    wave += 0.05 * np.random.RandomState(11).standard_normal(len(t))
    wave[-4000:] *= 1e-6
    return torch.from_numpy((0.1 * wave).astype(np.float32))[None]


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return filled(speechbrain_shapes(EcapaTdnn()))


@pytest.fixture(scope="module")
def model(state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> EcapaTdnn:
    folder = tmp_path_factory.mktemp("ecapa")
    torch.save(state, folder / "embedding_model.ckpt")
    loaded = load_ecapa(str(folder))
    (folder / "embedding_model.ckpt").unlink()  # 83 MB
    return loaded


def test_it_has_the_size_of_speechbrains() -> None:
    model = EcapaTdnn()
    assert sum(p.numel() for p in model.parameters()) == 20_767_552
    assert len(speechbrain_shapes(model)) == 231
    assert from_speechbrain(dict.fromkeys(speechbrain_shapes(model))).keys() == model.state_dict().keys()


def test_the_embedding_is_speechbrains(model: EcapaTdnn) -> None:
    embedding, hidden = model.embed_with_maps(voice())
    assert [tuple(h.shape) for h in hidden] == [(1, 1024, 201)] * 4 + [(1, 3072, 201)]
    expected = torch.from_numpy(np.load(EXPECTED))
    assert expected.std() > 0.1
    torch.testing.assert_close(embedding[0], expected, atol=1e-4, rtol=0)


def test_speechbrain_computes_the_same_here(model: EcapaTdnn, state: dict[str, Tensor], monkeypatch) -> None:
    monkeypatch.setattr(torchaudio, "list_audio_backends", lambda: ["soundfile"], raising=False)  # speechbrain asks
    theirs, features = speechbrain_embedding(state)
    torch.testing.assert_close(model.fbank(voice()), features, atol=1e-3, rtol=0)  # decibels
    torch.testing.assert_close(model.embed_with_maps(voice())[0], theirs, atol=1e-4, rtol=0)


def speechbrain_embedding(state: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """What speechbrain itself makes of `voice`: embedding ``(1, 192)`` and features ``(1, 201, 80)``."""
    networks = pytest.importorskip("speechbrain.lobes.models.ECAPA_TDNN")
    front = pytest.importorskip("speechbrain.lobes.features")
    processing = pytest.importorskip("speechbrain.processing.features")
    channels, kernels, dilations = [1024, 1024, 1024, 1024, 3072], [5, 3, 3, 3, 1], [1, 2, 3, 4, 1]
    network = networks.ECAPA_TDNN(
        80, channels=channels, kernel_sizes=kernels, dilations=dilations, attention_channels=128, lin_neurons=192
    )
    assert {name: value.shape for name, value in network.state_dict().items()} == {k: v.shape for k, v in state.items()}
    network.load_state_dict(state)
    normalize = processing.InputNormalization(norm_type="sentence", std_norm=False)
    with torch.inference_mode():
        features = normalize(front.Fbank(n_mels=80)(voice()), torch.ones(1))
        return network.eval()(features)[:, 0].clone(), features.clone()


def test_waves_of_a_batch_do_not_meet() -> None:
    fbank, waves = Fbank(), torch.cat([voice(), 100 * voice().flip(1)])
    torch.testing.assert_close(fbank(waves), torch.cat([fbank(waves[:1]), fbank(waves[1:])]))


def test_gradients_reach_the_wave(model: EcapaTdnn) -> None:
    assert not model.training and not any(p.requires_grad for p in model.parameters())
    wave = voice()[:, :8000].requires_grad_()
    embedding, hidden = model.embed_with_maps(wave)
    (gradient,) = torch.autograd.grad(embedding.square().sum() + sum(h.square().mean() for h in hidden), wave)
    assert torch.isfinite(gradient).all()
    assert (gradient[0] != 0).float().mean() > 0.99
    silent = torch.zeros(1, 8000, requires_grad=True)
    (gradient,) = torch.autograd.grad(model.embed_with_maps(silent)[0].sum(), silent)
    assert torch.isfinite(gradient).all()


def test_errors_name_the_spec(tmp_path: Path, monkeypatch) -> None:
    def offline(*_: str, **__: object) -> str:
        raise OSError("no network\nat all")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    with pytest.raises(BowerbirdError, match=r"speechbrain/spkrec-ecapa-voxceleb.*no network.*download .* folder"):
        load_ecapa("speechbrain/spkrec-ecapa-voxceleb")
    with pytest.raises(BowerbirdError, match=r"^speaker_encoder: \./absent: no such folder; give a folder with"):
        load_ecapa("./absent")
    with pytest.raises(BowerbirdError, match=r"embedding_model\.ckpt"):
        load_ecapa(str(tmp_path))
    torch.save({"fc.conv.weight": torch.zeros(1)}, tmp_path / "embedding_model.ckpt")
    with pytest.raises(BowerbirdError, match="not speechbrain's weights"):
        load_ecapa(str(tmp_path))
