"""A linear phone head on one layer of a self-supervised encoder.

A head's folder holds ``config.json`` (encoder, layer, phones in order) and ``model.safetensors``: weight ``(P, D)`` and bias
``(P,)``.

Shapes: ``T`` frames, ``D`` feature dimension of the encoder below, ``P`` phones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from bowerbird.artifacts.models import read_model_config
from bowerbird.config.base import ModelReference
from bowerbird.encoders.checkpoint import PHONE_HEAD, Checkpoint, find_checkpoint
from bowerbird.errors import BowerbirdError


@dataclass(frozen=True)
class PhoneHead:
    """A head, and the encoder and layer that it reads."""

    checkpoint: Checkpoint
    encoder: str
    layer: int
    phones: tuple[str, ...]
    weight: Tensor  # (P, D)
    bias: Tensor  # (P,)

    @classmethod
    def load(cls, reference: ModelReference | str, key: str = "phone head") -> Self:
        """The head that ``reference`` names; ``key`` is the option that names it, for errors."""
        return cls.read(find_checkpoint(reference, key, PHONE_HEAD))

    @classmethod
    def read(cls, checkpoint: Checkpoint) -> Self:
        """The head in the files of ``checkpoint``."""
        config = read_model_config(checkpoint.folder)
        absent = [key for key in ("encoder", "layer", "phones") if key not in config]
        if absent:
            raise BowerbirdError(f"{checkpoint.name}: config.json lacks {', '.join(absent)}: not a phone head's")
        path = checkpoint.weights[0]
        try:
            state = load_file(path)
            weight, bias = state["weight"].float(), state["bias"].float()
        except (OSError, KeyError, SafetensorError) as error:
            raise BowerbirdError(f"{path}: not the weights of a phone head ({error})") from error
        return cls(checkpoint, config["encoder"], config["layer"], tuple(config["phones"]), weight, bias)

    def check_dim(self, dim: int) -> None:
        """Refuse a head whose weights do not fit its phones and the encoder's feature dimension ``dim``."""
        shapes, expected = (tuple(self.weight.shape), tuple(self.bias.shape)), (len(self.phones), dim)
        if shapes != (expected, expected[:1]):
            path = self.checkpoint.weights[0]
            raise BowerbirdError(f"{path}: weight and bias have shapes {shapes}; its config asks for {expected}")

    def posteriors(self, features: Tensor) -> Tensor:
        """Probabilities ``(T, P)`` of features ``(T, D)`` of the head's own layer; each row sums to 1."""
        if features.shape[-1] != self.weight.shape[1]:
            raise BowerbirdError(
                f"{self.checkpoint.name}: reads features of {self.weight.shape[1]} dimensions, not {features.shape[-1]}"
            )
        weight, bias = self.weight.to(features.device), self.bias.to(features.device)
        return F.linear(features.float(), weight, bias).softmax(dim=-1)

    def describe(self) -> dict[str, Any]:
        """The head's name and the SHA-256 of its weights."""
        return {"phonetic": self.checkpoint.name, "weights_sha256": self.checkpoint.weights_sha256}
