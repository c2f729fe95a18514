"""NISQA from its published weights: speech quality without a reference (Mittag et al. 2021), and its four dimensions.

A file ``nisqa.tar`` (quality, noisiness, discontinuity, coloration, loudness) or ``nisqa_mos_only.tar`` (quality) of the
authors' repository holds ``args`` and ``model_state_dict``; it is read with ``weights_only``, nothing in it is run. **The
weights are CC BY-NC-SA 4.0**: not for commercial use, and not shipped here. This is our own implementation of the paper:

* mel magnitudes in dB, 48 bands to 20 kHz, one frame per 10 ms, floored 80 dB below the loudest;
* windows of 15 frames, starting at every fourth; six convolutions with adaptive pooling make a vector of each;
* two layers of self-attention over the windows, and a weighted mean (attention pooling) per dimension.

The network takes speech as it is sampled (``ms_sr``: none), here at 16 kHz: bands above 8 kHz are empty, and absolute
values lie below those of full-band speech. Speech longer than the network's 1300 windows (52 s) is scored in parts,
weighted by their numbers of windows; speech shorter than one window is repeated. Tested on randomly filled weights in the
published layout against librosa's spectra and a second computation; the published weights were not at hand.

Letters: ``N`` samples, ``T`` frames, ``W`` windows, ``M`` mel bands, ``C`` channels, ``D`` width of the attention.
"""

from __future__ import annotations

import functools
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import torchaudio
from torch import Tensor, nn

from bowerbird.audio import SAMPLE_RATE
from bowerbird.errors import BowerbirdError

DIMENSIONS = ("", "_noisiness", "_discontinuity", "_coloration", "_loudness")  # the order of the published heads
BUILT = {"cnn_model": "adapt", "td": "self_att", "pool": "att"}  # of what the authors' code offers
ABSENT = {"cnn_fc_out_h": (None,), "td_sa_pos_enc": (None, False), "td_2": (None, "skip")}


class _Windows(nn.Module):
    """Six convolutions over each window's spectrum, pooled between."""

    def __init__(self, state: dict[str, Tensor], pools: list[tuple[int, int]]) -> None:
        super().__init__()
        self.pools = pools
        for number in range(1, 7):
            weight = state[f"cnn.model.conv{number}.weight"]
            channels, before, rows, columns = weight.shape
            padding = (rows // 2, 0 if number == 6 else columns // 2)  # the last one takes all columns
            self.add_module(f"conv{number}", nn.Conv2d(before, channels, (rows, columns), padding=padding))
            self.add_module(f"bn{number}", nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Spectra ``(W, 1, M, 15)`` to vectors ``(W, C * rows)``, of all rows that pooling leaves."""
        pooled_after = {1: self.pools[0], 2: self.pools[1], 4: self.pools[2]}
        for number in range(1, 7):
            x = F.relu(self.get_submodule(f"bn{number}")(self.get_submodule(f"conv{number}")(x)))
            if number in pooled_after:
                x = F.adaptive_max_pool2d(x, pooled_after[number])
        return x.flatten(1)


class _Layer(nn.Module):
    """Self-attention and a feed-forward network, each added and normalized after (Vaswani et al. 2017)."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.linear1, self.linear2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """``(1, W, D)`` to the same."""
        x = self.norm1(x + self.self_attn(x, x, x, need_weights=False)[0])
        return self.norm2(x + self.linear2(F.relu(self.linear1(x))))


class _Attention(nn.Module):
    """Projects the windows' vectors to the width of the attention and applies its layers."""

    def __init__(self, inputs: int, width: int, heads: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.linear, self.norm1 = nn.Linear(inputs, width), nn.LayerNorm(width)
        self.layers = nn.ModuleList(_Layer(width, heads, hidden) for _ in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        """``(W, inputs)`` to ``(W, D)``."""
        x = self.norm1(self.linear(x))[None]
        for layer in self.layers:
            x = layer(x)
        return x[0]


class _Pool(nn.Module):
    """A weighted mean over the windows, with weights by a small network, projected to one value."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.linear1, self.linear2, self.linear3 = nn.Linear(width, hidden), nn.Linear(hidden, 1), nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``(W, D)`` to ``(1,)``."""
        weights = torch.softmax(self.linear2(F.relu(self.linear1(x))), dim=0)
        return self.linear3((weights * x).sum(dim=0))


class _Inside(nn.Module):
    """One level of names, as the published keys have it (``cnn.model.conv1``)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """The output of ``model`` for ``x``, in the shapes of that model."""
        result: Tensor = self.model(x)
        return result


class _Network(nn.Module):
    """The whole network, with the sizes of the weights ``state`` and the published names."""

    def __init__(self, args: dict[str, Any], state: dict[str, Tensor]) -> None:
        super().__init__()
        pools = [(int(args[f"cnn_pool_{n}"][0]), int(args[f"cnn_pool_{n}"][1])) for n in (1, 2, 3)]
        width, inputs = state["time_dependency.model.linear.weight"].shape
        hidden = state["time_dependency.model.layers.0.linear1.weight"].shape[0]
        layers = 1 + max(int(k.split(".")[3]) for k in state if k.startswith("time_dependency.model.layers."))
        self.cnn = _Inside(_Windows(state, pools))
        self.time_dependency = _Inside(_Attention(inputs, width, int(args["td_sa_nhead"]), hidden, layers))
        if any(key.startswith("pool_layers.") for key in state):
            pooled = state["pool_layers.0.model.linear1.weight"].shape[0]
            self.pool_layers = nn.ModuleList(_Inside(_Pool(width, pooled)) for _ in DIMENSIONS)
        else:
            self.pool = _Inside(_Pool(width, state["pool.model.linear1.weight"].shape[0]))

    def forward(self, windows: Tensor) -> Tensor:
        """``(W, M, 15)`` to one value per dimension, ``(5,)`` or ``(1,)``."""
        x = self.time_dependency(self.cnn(windows[:, None]))
        return torch.cat([head(x) for head in getattr(self, "pool_layers", None) or [self.pool]])


class Nisqa:
    """The network of one file; ``option`` names the key of the configuration in errors."""

    def __init__(self, path: Path, option: str) -> None:
        checkpoint = _read(path, option)
        self.args, state = dict(checkpoint["args"]), dict(checkpoint["model_state_dict"])
        wrong = [f"{k} = {self.args.get(k)!r}" for k, v in BUILT.items() if self.args.get(k) != v]
        wrong += [f"{k} = {self.args.get(k)!r}" for k, values in ABSENT.items() if self.args.get(k) not in values]
        if wrong:
            raise BowerbirdError(
                f"{option}: {path}: a NISQA of another build ({', '.join(wrong)}); nisqa.tar and nisqa_mos_only.tar are "
                "read, export others to model.onnx"
            )
        try:
            self.network = _Network(self.args, state)
            self.network.load_state_dict(state)
        except (KeyError, RuntimeError, ValueError, IndexError, TypeError) as error:
            reason = " ".join(str(error).split())[:160]
            raise BowerbirdError(f"{option}: {path}: not NISQA's weights ({reason})") from None
        self.network.eval().requires_grad_(False)
        self.rate = int(self.args.get("ms_sr") or SAMPLE_RATE)
        self.dimensions = DIMENSIONS if hasattr(self.network, "pool_layers") else DIMENSIONS[:1]

    @torch.inference_mode()
    def score(self, wave: np.ndarray) -> list[float]:
        """One value (about 1 to 5) per dimension of a 16 kHz ``wave`` ``(N,)``; a wave without samples is an error."""
        windows = self.windows(wave)
        parts = windows.split(int(self.args["ms_max_segments"]))
        values = torch.stack([self.network(part) for part in parts]).double()
        weights = torch.tensor([len(part) for part in parts], dtype=torch.float64)
        return [float(v) for v in (weights[:, None] * values).sum(dim=0) / weights.sum()]

    def windows(self, wave: np.ndarray) -> Tensor:
        """Spectra of windows ``(W, M, 15)`` of a 16 kHz ``wave`` ``(N,)``."""
        if wave.size == 0:
            raise ValueError("no samples to score")
        samples = torch.from_numpy(np.ascontiguousarray(wave, dtype=np.float32))
        if self.rate != SAMPLE_RATE:
            samples = torchaudio.functional.resample(samples, SAMPLE_RATE, self.rate)
        length, hop = int(self.args["ms_seg_length"]), int(self.args["ms_seg_hop_length"])
        fewest = max(length * int(self.rate * self.args["ms_hop_length"]), int(self.args["ms_n_fft"]))
        if len(samples) < fewest:
            samples = samples.repeat(math.ceil(fewest / len(samples)))
        return self.spectrum(samples).unfold(1, length, 1)[:, ::hop].transpose(0, 1)

    def spectrum(self, samples: Tensor) -> Tensor:
        """Mel magnitudes in dB ``(M, T)`` of ``(N,)`` at the network's rate."""
        step, window = (int(self.rate * self.args[f"ms_{name}_length"]) for name in ("hop", "win"))
        size, bands = int(self.args["ms_n_fft"]), int(self.args["ms_n_mels"])
        spectrum = torch.stft(samples, size, step, window, torch.hann_window(window), return_complex=True).abs()
        mel = _filters(size, bands, float(self.args["ms_fmax"]), self.rate).T @ spectrum
        decibels = 20 * torch.log10(mel.clamp_min(1e-4))
        return decibels.clamp_min(float(decibels.max()) - 80.0)


@functools.cache
def _filters(size: int, bands: int, highest: float, rate: int) -> Tensor:
    """Slaney's mel filters ``(size // 2 + 1, M)``; those above half the rate are empty."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that some are empty is known
        return torchaudio.functional.melscale_fbanks(size // 2 + 1, 0.0, highest, bands, rate, "slaney", "slaney")


def _read(path: Path, option: str) -> dict[str, Any]:
    """The checkpoint as a dictionary, read without running any code in it."""
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a broken or foreign file raises
        raise BowerbirdError(f"{option}: {path}: cannot be read ({' '.join(str(error).split())[:160]})") from None
    if not isinstance(checkpoint, dict) or not {"args", "model_state_dict"} <= checkpoint.keys():
        raise BowerbirdError(f"{option}: {path}: not a file of NISQA: it has no args and model_state_dict")
    return checkpoint
