"""NVIDIA's published BigVGAN weights (Lee et al. 2023; MIT) as a vocoder: mels at 24 kHz in, waves at 16 kHz out.

    nvidia/bigvgan_v2_24khz_100band_256x    112 M    ends without bias and tanh
    nvidia/bigvgan_24khz_100band            112 M
    nvidia/bigvgan_base_24khz_100band        14 M

A folder, or a repository of the hub, holds ``config.json`` and ``bigvgan_generator.pt``: tensors by name, read without
unpickling anything else. Such a model reads the mels that it was trained on: 100 bands up to 12 kHz, 93.75 frames per second
(`log-mel-24k` in `features`). Ours at 16 kHz, 80 bands and 50 frames per second mean something else to it, and are refused.
"""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bowerbird.encoders.checkpoint import BIGVGAN
from bowerbird.encoders.spectral import PUBLISHED_HOP, PUBLISHED_RATE
from bowerbird.errors import BowerbirdError
from bowerbird.nn.bigvgan import BigVgan, low_pass

WEIGHTS = BIGVGAN.weights[0]
MEL = {  # the definition of log-mel-24k, in the words of their config.json
    "sampling_rate": PUBLISHED_RATE,
    "num_mels": 100,
    "n_fft": 1024,
    "win_size": 1024,
    "hop_size": PUBLISHED_HOP,
    "fmin": 0,
    "fmax": 12_000,
}
KIND = {"resblock": "1", "activation": "snakebeta", "snake_logscale": True}
SIZES = (
    "upsample_initial_channel",
    "upsample_rates",
    "upsample_kernel_sizes",
    "resblock_kernel_sizes",
    "resblock_dilation_sizes",
)


def load_bigvgan(folder: Path) -> BigVgan:
    """The generator in ``folder``: mels ``(B, T, 100)`` to waves ``(B, 256 T)`` at 24 kHz.

    Every tensor of the file has its place, and every place its tensor.
    """
    config, path = read_config(folder), folder / WEIGHTS
    try:
        theirs = torch.load(path, map_location="cpu", weights_only=True)["generator"]
    except (OSError, RuntimeError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BowerbirdError(f"{path}: not tensors by name under 'generator' ({reason})") from None
    generator = BigVgan(
        MEL["num_mels"],
        config["upsample_initial_channel"],
        config["upsample_rates"],
        config["upsample_kernel_sizes"],
        config["resblock_kernel_sizes"],
        config["resblock_dilation_sizes"][0],
        last_bias=config.get("use_bias_at_final", True),
        last_tanh=config.get("use_tanh_at_final", True),
    )
    weights = dict(_renamed(theirs, len(config["resblock_kernel_sizes"]), path))
    try:
        generator.load_state_dict(weights)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise BowerbirdError(f"{path}: does not fit the architecture in its config.json: {reason}") from error
    return generator


def read_config(folder: Path) -> dict[str, Any]:
    """``config.json`` as NVIDIA writes it; an error unless it is for the mels `log-mel-24k`."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BowerbirdError(f"{path}: cannot be read ({error})") from None
    absent = [key for key in (*MEL, *KIND, *SIZES) if key not in config]
    if absent:
        raise BowerbirdError(f"{path}: lacks {', '.join(absent)}; not a BigVGAN's")
    for key, ours in (*MEL.items(), *KIND.items()):
        theirs = config[key]
        if theirs != ours and not (key == "fmax" and theirs is None):  # none: half the rate, which is 12 kHz
            raise BowerbirdError(
                f"{path}: {key} is {theirs!r}, not {ours!r}; only the BigVGANs of 24 kHz and 100 bands are read, whose mels "
                "are those of log-mel-24k"
            )
    dilations = config["resblock_dilation_sizes"]
    if any(one != dilations[0] for one in dilations):
        raise BowerbirdError(f"{path}: resblock_dilation_sizes {dilations}: blocks of different dilations are not read")
    return config


def _renamed(theirs: Mapping[str, Tensor], kernels: int, path: Path) -> Iterator[tuple[str, Tensor]]:
    """NVIDIA's tensors by our names; its resampling filters must be equal to ours, which are computed."""
    ours = low_pass(0.25, 0.3)
    for name, tensor in theirs.items():
        if name.endswith(("upsample.filter", "downsample.lowpass.filter")):
            if tensor.numel() != ours.numel() or not torch.allclose(tensor.flatten().float(), ours, atol=1.0e-4):
                raise BowerbirdError(f"{path}: {name}: not the filter of 12 taps that BigVGAN's activations have")
            continue
        name = re.sub(r"^ups\.(\d+)\.0\.", r"ups.\1.", name)
        name = re.sub(r"^resblocks\.(\d+)\.", lambda m: "blocks.{}.{}.".format(*divmod(int(m[1]), kernels)), name)
        name = name.replace(".convs1.", ".dilated.").replace(".convs2.", ".plain.").replace(".act.", ".activation.")
        name = name.replace(".weight_g", ".parametrizations.weight.original0")
        yield name.replace(".weight_v", ".parametrizations.weight.original1"), tensor.float()
