"""UTMOS and NISQA from weights in the published layout, randomly filled, against a second computation of each."""

from __future__ import annotations

from pathlib import Path

import librosa
import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchaudio
from speech import voice

from bowerbird.artifacts.files import file_sha256
from bowerbird.errors import BowerbirdError
from bowerbird.metrics.nisqa import Nisqa
from bowerbird.metrics.opinion import OpinionScorer

WAVE = voice(140, 1.3, 0).astype(np.float32) / 32768
State = dict[str, torch.Tensor]


ARGS = {
    "ms_sr": None,
    "ms_fmax": 20000,
    "ms_n_fft": 4096,
    "ms_hop_length": 0.01,
    "ms_win_length": 0.02,
    "ms_n_mels": 48,
    "ms_seg_length": 15,
    "ms_seg_hop_length": 4,
    "ms_max_segments": 1300,
    "cnn_model": "adapt",
    "cnn_fc_out_h": None,
    "cnn_pool_1": [24, 7],
    "cnn_pool_2": [12, 5],
    "cnn_pool_3": [6, 3],
    "td": "self_att",
    "td_sa_nhead": 1,
    "td_sa_pos_enc": None,
    "td_2": "skip",
    "pool": "att",
    "model": "NISQA_DIM",
}


def nisqa_state(heads: int = 5) -> State:
    """The keys and shapes of ``nisqa.tar``, with random values."""
    torch.manual_seed(0)
    shapes: dict[str, tuple[int, ...]] = {}
    channels = [1, 16, 32, 64, 64, 64, 64]
    for n in range(1, 7):
        shapes[f"cnn.model.conv{n}.weight"] = (channels[n], channels[n - 1], 3, 3)
        for name in (f"conv{n}.bias", f"bn{n}.weight", f"bn{n}.bias", f"bn{n}.running_mean", f"bn{n}.running_var"):
            shapes[f"cnn.model.{name}"] = (channels[n],)
    attention = "time_dependency.model."
    shapes |= {f"{attention}norm1.weight": (64,), f"{attention}norm1.bias": (64,)}
    shapes |= {f"{attention}linear.weight": (64, 384), f"{attention}linear.bias": (64,)}
    for layer in (f"{attention}layers.{n}." for n in range(2)):
        shapes |= {f"{layer}self_attn.in_proj_weight": (192, 64), f"{layer}self_attn.in_proj_bias": (192,)}
        shapes |= {f"{layer}self_attn.out_proj.weight": (64, 64), f"{layer}self_attn.out_proj.bias": (64,)}
        for name in ("linear1", "linear2"):
            shapes |= {f"{layer}{name}.weight": (64, 64), f"{layer}{name}.bias": (64,)}
        shapes |= {f"{layer}norm{n}.{kind}": (64,) for n in (1, 2) for kind in ("weight", "bias")}
    for head in [f"pool_layers.{n}.model." for n in range(5)] if heads == 5 else ["pool.model."]:
        for name, size in (("linear1", (128, 64)), ("linear2", (1, 128)), ("linear3", (1, 64))):
            shapes |= {f"{head}{name}.weight": size, f"{head}{name}.bias": size[:1]}
    state = {
        key: torch.randn(shape) * (0.3 if len(shape) < 2 else 1 / np.sqrt(np.prod(shape[1:])))
        for key, shape in shapes.items()
    }
    for key in [key for key in state if key.endswith("running_var")]:
        state[key] = state[key].abs() + 0.5
        state[key.replace("running_var", "num_batches_tracked")] = torch.tensor(7)
    return state


def write_nisqa(folder: Path, heads: int = 5, **changed: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    name = "nisqa.tar" if heads == 5 else "nisqa_mos_only.tar"
    torch.save({"args": ARGS | changed, "model_state_dict": nisqa_state(heads), "epoch": 1}, folder / name)
    return folder


def nisqa_by_hand(wave: np.ndarray, state: State, heads: list[str]) -> list[float]:
    """The network's function, written out from the published description with librosa's spectra."""
    magnitudes = librosa.feature.melspectrogram(
        y=wave,
        sr=16000,
        n_fft=4096,
        hop_length=160,
        win_length=320,
        window="hann",
        center=True,
        pad_mode="reflect",
        power=1.0,
        n_mels=48,
        fmin=0.0,
        fmax=20000,
        htk=False,
        norm="slaney",
    )
    decibels = librosa.amplitude_to_db(magnitudes, ref=1.0, amin=1e-4, top_db=80.0)
    starts = range(0, decibels.shape[1] - 14, 4)
    x = torch.from_numpy(np.stack([decibels[:, s : s + 15] for s in starts]).astype(np.float32))[:, None]
    for n in range(1, 7):
        weight, bias = (state[f"cnn.model.conv{n}.{kind}"] for kind in ("weight", "bias"))
        x = F.conv2d(x, weight, bias, padding=(1, 0) if n == 6 else 1)
        mean, variance, gain, shift = (
            state[f"cnn.model.bn{n}.{kind}"][None, :, None, None]
            for kind in ("running_mean", "running_var", "weight", "bias")
        )
        x = ((x - mean) / (variance + 1e-5).sqrt() * gain + shift).relu()
        if n in (1, 2, 4):
            x = F.adaptive_max_pool2d(x, {1: (24, 7), 2: (12, 5), 4: (6, 3)}[n])

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"])

    td = "time_dependency.model"
    x = norm(linear(x.reshape(len(x), -1), f"{td}.linear"), f"{td}.norm1")
    for layer in (f"{td}.layers.{n}" for n in range(2)):
        q, k, v = (x @ state[f"{layer}.self_attn.in_proj_weight"].T + state[f"{layer}.self_attn.in_proj_bias"]).chunk(
            3, 1
        )
        attended = torch.softmax(q @ k.T / 8, dim=1) @ v
        x = norm(x + linear(attended, f"{layer}.self_attn.out_proj"), f"{layer}.norm1")
        x = norm(x + linear(linear(x, f"{layer}.linear1").relu(), f"{layer}.linear2"), f"{layer}.norm2")
    found = []
    for head in heads:
        weights = torch.softmax(linear(linear(x, f"{head}.model.linear1").relu(), f"{head}.model.linear2"), dim=0)
        found.append(float(linear((weights * x).sum(0), f"{head}.model.linear3")))
    return found


@pytest.mark.slow
def test_nisqa_is_computed_as_published(tmp_path: Path) -> None:
    scorer = OpinionScorer("nisqa", str(write_nisqa(tmp_path / "nisqa")))
    names = ["nisqa", *(f"nisqa_{d}" for d in ("noisiness", "discontinuity", "coloration", "loudness"))]
    expected = nisqa_by_hand(WAVE, nisqa_state(), [f"pool_layers.{n}" for n in range(5)])
    assert scorer.score(WAVE) == {
        name: pytest.approx(value, abs=2e-4) for name, value in zip(names, expected, strict=True)
    }
    assert len(set(np.round(expected, 3))) == 5  # heads do not stand in for each other
    assert scorer.describe().model == "nisqa nisqa.tar at 16000 Hz"
    assert scorer.describe().weights_sha256 == file_sha256(tmp_path / "nisqa" / "nisqa.tar")
    assert scorer.score(WAVE) == scorer.score(WAVE.copy())


def test_nisqa_of_quality_alone_has_one_metric(tmp_path: Path) -> None:
    scorer = OpinionScorer("mos", str(write_nisqa(tmp_path, heads=1)))
    assert scorer.score(WAVE) == {"mos": pytest.approx(nisqa_by_hand(WAVE, nisqa_state(1), ["pool"])[0], abs=2e-4)}


def test_nisqa_scores_short_and_long_speech_and_its_own_rate(tmp_path: Path) -> None:
    scorer = Nisqa(write_nisqa(tmp_path, ms_max_segments=10) / "nisqa.tar", "o")
    assert np.isfinite(scorer.score(WAVE[:100])).all()
    windows = scorer.windows(WAVE)
    assert len(windows) > 20  # more than the network takes at once: parts, by their windows
    parts = [scorer.network(part).double() for part in windows.split(10)]
    expected = sum(len(w) * p for w, p in zip(windows.split(10), parts, strict=True)) / len(windows)
    assert scorer.score(WAVE) == pytest.approx(expected.tolist())
    wide = Nisqa(write_nisqa(tmp_path / "wide", ms_sr=48000) / "nisqa.tar", "o")
    assert wide.rate == 48000 and abs(len(wide.windows(WAVE)) - len(windows)) <= 1


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"td": "lstm"}, "another build .td = 'lstm'."),
        ({"td_2": "self_att"}, "another build"),
        ({"cnn_fc_out_h": 20}, "another build"),
        ({"cnn_pool_1": [24]}, "not NISQA's weights"),
    ],
)
def test_another_nisqa_is_refused(tmp_path: Path, changed: dict, says: str) -> None:
    with pytest.raises(BowerbirdError, match=rf"evaluation\.opinions\.nisqa: .*nisqa\.tar: .*{says}"):
        OpinionScorer("nisqa", str(write_nisqa(tmp_path, **changed)))


WIDTH, CONVOLUTIONS = 128, [(64, 10, 5)] + [(64, 3, 2)] * 4 + [(64, 2, 2)] * 2


def small_wav2vec() -> torch.nn.Module:
    """Another implementation of wav2vec 2.0 base, of a smaller size."""
    torch.manual_seed(1)
    model = torchaudio.models.wav2vec2_model(
        extractor_mode="group_norm",
        extractor_conv_layer_config=CONVOLUTIONS,
        extractor_conv_bias=False,
        encoder_embed_dim=WIDTH,
        encoder_projection_dropout=0.0,
        encoder_pos_conv_kernel=128,
        encoder_pos_conv_groups=16,
        encoder_num_layers=2,
        encoder_num_heads=2,
        encoder_attention_dropout=0.0,
        encoder_ff_interm_features=96,
        encoder_ff_interm_dropout=0.0,
        encoder_dropout=0.0,
        encoder_layer_norm_first=False,
        encoder_layer_drop=0.0,
        aux_num_out=None,
    ).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def published(model: torch.nn.Module) -> State:
    """Its weights under the names of the published file, with random heads."""
    names = {
        "encoder.feature_projection.layer_norm": "layer_norm",
        "encoder.feature_projection.projection": "post_extract_proj",
        "encoder.transformer.pos_conv_embed.conv.parametrizations.weight.original0": "encoder.pos_conv.0.weight_g",
        "encoder.transformer.pos_conv_embed.conv.parametrizations.weight.original1": "encoder.pos_conv.0.weight_v",
        "encoder.transformer.pos_conv_embed.conv.weight_": "encoder.pos_conv.0.weight_",
        "encoder.transformer.pos_conv_embed.conv.bias": "encoder.pos_conv.0.bias",
        ".feed_forward.intermediate_dense": ".fc1",
        ".feed_forward.output_dense": ".fc2",
    }
    state: State = {}
    for key, value in model.state_dict().items():
        if key.startswith("feature_extractor"):
            key = key.replace(".conv.", ".0.").replace(".layer_norm.", ".2.")
        elif ".layers." in key:
            key = key.replace(".layer_norm.", ".self_attn_layer_norm.").replace(".attention.", ".self_attn.")
        for ours, theirs in names.items():
            key = key.replace(ours, theirs)
        state["wav2vec2." + key.replace("encoder.transformer.", "encoder.")] = value
    torch.manual_seed(2)
    state |= {"wav2vec2.mask_emb": torch.randn(WIDTH), "domain_emb": torch.randn(1, 8), "judge_emb": torch.randn(1, 6)}
    for name, tensor in torch.nn.LSTM(WIDTH + 14, 20, batch_first=True, bidirectional=True).state_dict().items():
        state[f"blstm.{name}"] = tensor
    state |= {"projection.0.weight": torch.randn(30, 40), "projection.0.bias": torch.randn(30)}
    return state | {"projection.2.weight": torch.randn(1, 30), "projection.2.bias": torch.randn(1)}


def write_utmos(folder: Path, state: State) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(state, folder / "utmos22_strong_step7459_v1.pt")
    return folder


def test_utmos_is_computed_as_published(tmp_path: Path) -> None:
    model = small_wav2vec()
    state = published(model)
    scorer = OpinionScorer("utmos", str(write_utmos(tmp_path, state)))
    lstm = torch.nn.LSTM(WIDTH + 14, 20, batch_first=True, bidirectional=True)
    lstm.load_state_dict(
        {key.removeprefix("blstm."): value for key, value in state.items() if key.startswith("blstm.")}
    )
    for samples in (16000, 16320):  # an odd and an even number of frames: the published code pads to even ones, masked
        with torch.no_grad():
            frames = model(torch.from_numpy(WAVE[None, :samples]))[0]
            context = torch.cat([state["domain_emb"], state["judge_emb"]], dim=1)[:, None].expand(
                -1, frames.shape[1], -1
            )
            x = (
                lstm(torch.cat([frames, context], dim=2))[0] @ state["projection.0.weight"].T
                + state["projection.0.bias"]
            )
            expected = float((x.relu() @ state["projection.2.weight"].T + state["projection.2.bias"]).mean()) * 2 + 3
        assert scorer.score(WAVE[:samples]) == {"utmos": pytest.approx(expected, abs=1e-3)}
    assert scorer.describe().model == "utmos22-strong utmos22_strong_step7459_v1.pt"
    assert np.isfinite(scorer.score(WAVE[:50])["utmos"])


def test_utmos_of_another_kind_is_refused(tmp_path: Path) -> None:
    state = published(small_wav2vec())
    del state["wav2vec2.encoder.layers.1.fc2.weight"]
    with pytest.raises(BowerbirdError, match=r"evaluation\.opinions\.utmos: .*not the weights of UTMOS22 strong"):
        OpinionScorer("utmos", str(write_utmos(tmp_path, state)))
    (tmp_path / "utmos22_strong_step7459_v1.pt").write_bytes(b"nothing of the kind")
    with pytest.raises(BowerbirdError, match="cannot be read"):
        OpinionScorer("utmos", str(tmp_path))


def test_building_a_scorer_leaves_random_numbers_as_they_were(tmp_path: Path) -> None:
    folder = write_utmos(tmp_path, published(small_wav2vec()))
    torch.manual_seed(3)
    before = torch.rand(1)
    torch.manual_seed(3)
    OpinionScorer("utmos", str(folder))
    assert torch.rand(1) == before


def test_a_folder_with_two_models_is_refused(tmp_path: Path) -> None:
    write_nisqa(tmp_path)
    write_nisqa(tmp_path, heads=1)
    with pytest.raises(
        BowerbirdError, match=r"has nisqa\.tar and nisqa_mos_only\.tar; leave one of them in the folder"
    ):
        OpinionScorer("nisqa", str(tmp_path))


def test_weights_that_would_run_code_are_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"args": ARGS, "model_state_dict": Trap()}, tmp_path / "nisqa.tar")
    with pytest.raises(BowerbirdError, match="cannot be read"):
        OpinionScorer("nisqa", str(tmp_path))
    assert not (tmp_path / "ran").exists()
