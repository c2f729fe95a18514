"""Phonetic encoders: what is said, frame by frame, as probabilities of phones (a phonetic posteriorgram, PPG).

A linear head on one layer of a self-supervised encoder. A model's folder holds ``config.json`` (encoder, layer, phones
in order) and ``model.safetensors`` (weight ``(phones, dim)``, bias ``(phones,)``).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from bowerbird.artifacts import BowerbirdError, file_sha256
from bowerbird.config import FeaturesConfig, bundled
from bowerbird.encoders.selfsupervised import FeatureExtractor


class PhoneticEncoder:
    """Waves in, phone posteriors at 50 frames a second out; ``phones`` names their columns."""

    def __init__(self, spec: str = "bundled:nano-phones", device: str | torch.device = "cpu") -> None:
        self.spec, self.folder = spec, Path(bundled(spec)).expanduser()
        config = read_config(self.folder, spec)
        self.phones: tuple[str, ...] = tuple(config["phones"])
        options = FeaturesConfig(encoder=config["encoder"], layer=config["layer"])
        self.extractor = FeatureExtractor(options, device, key=spec)
        self.weight, self.bias = self._load_head(self.folder / "model.safetensors")

    def _load_head(self, path: Path) -> tuple[Tensor, Tensor]:
        try:
            state = load_file(path)
            weight, bias = state["weight"].float(), state["bias"].float()
        except (OSError, KeyError, SafetensorError) as error:
            raise BowerbirdError(f"{path}: not the head of a phonetic encoder ({error})") from error
        shapes, expected = (tuple(weight.shape), tuple(bias.shape)), (len(self.phones), self.extractor.dim)
        if shapes != (expected, expected[:1]):
            raise BowerbirdError(f"{path}: weight and bias have shapes {shapes}; its config asks for {expected}")
        return weight, bias

    def posteriors(self, wave: np.ndarray | Tensor) -> Tensor:
        """Probabilities ``(frames, phones)`` float32 of a wave ``(samples,)`` at 16 kHz; each row sums to 1."""
        return self.from_features(self.extractor.extract(wave))

    def from_features(self, features: Tensor) -> Tensor:
        """Probabilities ``(frames, phones)`` of features ``(frames, dim)`` of this encoder's own layer."""
        if features.shape[-1] != self.weight.shape[1]:
            raise BowerbirdError(
                f"{self.spec}: reads features of {self.weight.shape[1]} dimensions, not {features.shape[-1]}"
            )
        weight, bias = self.weight.to(features.device), self.bias.to(features.device)
        return F.linear(features.float(), weight, bias).softmax(dim=-1)

    def describe(self) -> dict[str, Any]:
        """What runs: the head and the encoder below it, each with the SHA-256 of its weights."""
        head = file_sha256(self.folder / "model.safetensors")
        name = self.spec if self.spec.startswith("bundled:") else self.folder.resolve().name
        return {"phonetic": name, "weights_sha256": head, "below": self.extractor.describe()}


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
