"""A linear phone head on one layer of a self-supervised encoder.

A head's folder holds ``config.json`` (encoder, layer, phones in order) and ``model.safetensors``: weight ``(P, D)`` and bias
``(P,)``, where ``P`` counts phones and ``D`` is the dimension of the encoder's features.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from bowerbird.artifacts.files import file_sha256
from bowerbird.config.paths import bundled
from bowerbird.errors import BowerbirdError


@dataclass(frozen=True)
class PhoneHead:
    """The head in a folder, and the encoder and layer that it reads."""

    spec: str
    folder: Path
    encoder: str
    layer: int
    phones: tuple[str, ...]
    weight: Tensor  # (P, D)
    bias: Tensor  # (P,)

    @classmethod
    def load(cls, spec: str) -> Self:
        """Read the head that ``spec`` names: bundled:NAME or a folder."""
        folder = Path(bundled(spec)).expanduser()
        config = read_config(folder, spec)
        path, phones = folder / "model.safetensors", tuple(config["phones"])
        try:
            state = load_file(path)
            weight, bias = state["weight"].float(), state["bias"].float()
        except (OSError, KeyError, SafetensorError) as error:
            raise BowerbirdError(f"{path}: not the head of a phonetic encoder ({error})") from error
        return cls(spec, folder, config["encoder"], config["layer"], phones, weight, bias)

    def check_dim(self, dim: int) -> None:
        """Refuse a head whose weights do not fit its phones and the encoder's ``dim``."""
        shapes, expected = (tuple(self.weight.shape), tuple(self.bias.shape)), (len(self.phones), dim)
        if shapes != (expected, expected[:1]):
            path = self.folder / "model.safetensors"
            raise BowerbirdError(f"{path}: weight and bias have shapes {shapes}; its config asks for {expected}")

    def posteriors(self, features: Tensor) -> Tensor:
        """Probabilities ``(T, P)`` of features ``(T, D)`` of the head's own layer; each row sums to 1."""
        if features.shape[-1] != self.weight.shape[1]:
            raise BowerbirdError(
                f"{self.spec}: reads features of {self.weight.shape[1]} dimensions, not {features.shape[-1]}"
            )
        weight, bias = self.weight.to(features.device), self.bias.to(features.device)
        return F.linear(features.float(), weight, bias).softmax(dim=-1)

    def describe(self) -> dict[str, Any]:
        """The head by name, with the SHA-256 of its weights."""
        name = self.spec if self.spec.startswith("bundled:") else self.folder.resolve().name
        return {"phonetic": name, "weights_sha256": file_sha256(self.folder / "model.safetensors")}


def read_config(folder: Path, spec: str) -> dict[str, Any]:
    """``config.json`` of a phonetic encoder: encoder, layer, phones."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BowerbirdError(f"{spec}: no phonetic encoder there ({error})") from error
    absent = [key for key in ("encoder", "layer", "phones") if key not in config]
    if absent:
        raise BowerbirdError(f"{spec}: config.json lacks {', '.join(absent)}; it is no phonetic encoder's")
    return config
