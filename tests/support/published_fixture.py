"""A folder in the format of NVIDIA's BigVGAN repositories, with random weights: config.json and bigvgan_generator.pt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bowerbird.nn.bigvgan import low_pass

BASE = {"upsample_initial_channel": 512, "upsample_rates": [8, 8, 2, 2], "upsample_kernel_sizes": [16, 16, 4, 4]}
LARGE = {
    "upsample_initial_channel": 1536,
    "upsample_rates": [4, 4, 2, 2, 2, 2],
    "upsample_kernel_sizes": [8, 8, 4, 4, 4, 4],
}
SMALL = {"upsample_initial_channel": 32, "upsample_rates": [8, 8, 4], "upsample_kernel_sizes": [16, 16, 8]}
COMMON: dict[str, Any] = {
    "resblock": "1",
    "num_gpus": 0,
    "batch_size": 32,
    "learning_rate": 0.0001,
    "activation": "snakebeta",
    "snake_logscale": True,
    "resblock_kernel_sizes": [3, 7, 11],
    "resblock_dilation_sizes": [[1, 3, 5], [1, 3, 5], [1, 3, 5]],
    "num_mels": 100,
    "n_fft": 1024,
    "hop_size": 256,
    "win_size": 1024,
    "sampling_rate": 24000,
    "fmin": 0,
    "fmax": 12000,
}
SECOND = {"use_tanh_at_final": False, "use_bias_at_final": False, "fmax": None}  # what version 2 says besides


def published_config(**values: Any) -> dict[str, Any]:
    return {**COMMON, **SMALL, **values}


def shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Names and shapes as in the file, in its order."""
    found: dict[str, tuple[int, ...]] = {}
    channels = config["upsample_initial_channel"]

    def conv(name: str, first: int, second: int, kernel: int, bias: int | None = None) -> None:
        found[f"{name}.weight_g"], found[f"{name}.weight_v"] = (first, 1, 1), (first, second, kernel)
        if bias != 0:
            found[f"{name}.bias"] = (bias or first,)

    def activation(name: str, width: int) -> None:
        found[f"{name}.act.alpha"] = found[f"{name}.act.beta"] = (width,)
        found[f"{name}.upsample.filter"] = found[f"{name}.downsample.lowpass.filter"] = (1, 1, 12)

    conv("conv_pre", channels, config["num_mels"], 7)
    for number, kernel in enumerate(config["upsample_kernel_sizes"]):
        conv(f"ups.{number}.0", channels >> number, channels >> (number + 1), kernel, bias=channels >> (number + 1))
    kernels = config["resblock_kernel_sizes"]
    for layer in range(len(config["upsample_rates"])):
        width = channels >> (layer + 1)
        for place, kernel in enumerate(kernels):
            block = f"resblocks.{layer * len(kernels) + place}"
            for dilation in range(3):
                conv(f"{block}.convs1.{dilation}", width, width, kernel)
                conv(f"{block}.convs2.{dilation}", width, width, kernel)
            for number in range(6):
                activation(f"{block}.activations.{number}", width)
    last = channels >> len(config["upsample_rates"])
    activation("activation_post", last)
    conv("conv_post", 1, last, 7, bias=1 if config.get("use_bias_at_final", True) else 0)
    return found


def random_tensors(config: dict[str, Any], seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    tensors = {name: 0.3 * torch.randn(shape, generator=generator) for name, shape in shapes(config).items()}
    return {name: low_pass(0.25, 0.3).view(1, 1, 12) if name.endswith("filter") else t for name, t in tensors.items()}


def write_published(
    folder: Path, config: dict[str, Any] | None = None, tensors: dict[str, Tensor] | None = None
) -> Path:
    """The folder, as a download of the repository would leave it."""
    config = config or published_config()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=4))
    torch.save({"generator": random_tensors(config) if tensors is None else tensors}, folder / "bigvgan_generator.pt")
    return folder
