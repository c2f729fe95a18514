"""A phone head: a small network that reads phones from one layer, or several, of an encoder below it.

A head's folder holds ``config.json`` and ``model.safetensors``:

    encoder            what is below: bundled:NAME, whisper-base, a folder or hub id (of a Whisper with kind: phonetic)
    layer or layers    of it, as in `features`
    phones             in order
    hidden             width of a hidden layer; 0 or absent: the head is linear
    context            frames on each side that the hidden layer sees; 0 or absent: none
    discriminants      how many directions of a linear discriminant analysis (LDA) it has besides; 0 or absent: none
    key_layers         of ``layers``: those whose states are part of the keys

Keys are what retrieval compares frames by: roots of posteriors, discriminants, and states, each of length one, end to end. So
their cosine is the mean of three: of phones, of what tells phones apart, and of the sound in its context.

Letters: ``T`` frames, ``D`` feature dimension of the encoder below, ``P`` phones, ``H`` hidden width, ``L`` discriminants.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from bowerbird.artifacts.models import read_model_config
from bowerbird.config.base import ModelReference
from bowerbird.config.sections.features import FeaturesConfig
from bowerbird.encoders.checkpoint import PHONE_HEAD, Checkpoint, find_checkpoint
from bowerbird.errors import BowerbirdError

HeadOutput = Literal["posteriors", "roots", "discriminants", "keys"]


class PhoneHead(nn.Module):
    """The network of a head."""

    def __init__(
        self,
        dim: int,
        phones: int,
        hidden: int = 0,
        context: int = 0,
        discriminants: int = 0,
        key_columns: Sequence[int] = (),
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        self.key_columns = list(key_columns)  # of the features: states that are part of the keys
        self.hidden = nn.Linear(dim, hidden) if hidden else None
        self.context = nn.Conv1d(hidden, hidden, 2 * context + 1, padding=context) if hidden and context else None
        self.phones = nn.Linear(hidden or dim, phones)
        self.discriminants = nn.Linear(dim, discriminants) if discriminants else None
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Tensor) -> Tensor:
        """Features ``(..., T, D)`` to logits ``(..., T, P)``."""
        states = features if self.hidden is None else F.gelu(self.hidden(self.dropout(features)))
        if self.context is not None:
            around = self.context(self.dropout(states).transpose(-1, -2)).transpose(-1, -2)
            states = states + F.gelu(around)
        logits: Tensor = self.phones(self.dropout(states) if self.hidden is not None else states)
        return logits

    def read(self, features: Tensor, output: HeadOutput) -> Tensor:
        """Features ``(T, D)`` to probabilities ``(T, P)``, their square roots, discriminants ``(T, L)``, or keys ``(T, K)``."""
        if output == "discriminants":
            return self._discriminants(features)
        posteriors = self.forward(features).softmax(dim=-1)
        if output == "keys":
            parts = (posteriors.sqrt(), self._discriminants(features), features[..., self.key_columns])
            return torch.cat([F.normalize(part, dim=-1) for part in parts if part.shape[-1]], dim=-1)
        return posteriors.sqrt() if output == "roots" else posteriors

    def width_of(self, output: HeadOutput) -> int:
        """Values per frame of an output."""
        phones, discriminants = self.phones.out_features, self.discriminants.out_features if self.discriminants else 0
        widths = {"discriminants": discriminants, "keys": phones + discriminants + len(self.key_columns)}
        return widths.get(output, phones)

    def _discriminants(self, features: Tensor) -> Tensor:
        """``(T, D)`` to ``(T, L)``; L is 0 of a head without them."""
        return features[..., :0] if self.discriminants is None else self.discriminants(features)


class PhoneReader:
    """A head from its folder, with what it reads."""

    def __init__(self, checkpoint: Checkpoint, config: dict[str, Any], head: PhoneHead, dim: int) -> None:
        self.checkpoint, self.config, self.head, self.dim = checkpoint, config, head, dim

    @classmethod
    def load(cls, reference: ModelReference | str, key: str = "phone head") -> Self:
        """The head that ``reference`` names; ``key`` is the option that names it, for errors."""
        return cls.open(find_checkpoint(reference, key, PHONE_HEAD))

    @classmethod
    def open(cls, checkpoint: Checkpoint) -> Self:
        """The head in the files of ``checkpoint``, frozen."""
        config = read_head_config(checkpoint)
        path = checkpoint.weights[0]
        try:
            state = {name: tensor.float() for name, tensor in load_file(path).items()}
            if "weight" in state:  # a linear head as it was first written
                state = {f"phones.{name}": tensor for name, tensor in state.items()}
            dim = state["hidden.weight" if config.get("hidden") else "phones.weight"].shape[1]
            sizes = {name: config.get(name, 0) for name in ("hidden", "context", "discriminants")}
            head = PhoneHead(dim, len(config["phones"]), **sizes, key_columns=key_columns(config, dim))
            head.load_state_dict(state)
        except (OSError, KeyError, ValueError, RuntimeError, SafetensorError) as error:
            reason = str(error).splitlines()[-1].strip()
            raise BowerbirdError(f"{path}: not the weights of the phone head in its config.json ({reason})") from error
        return cls(checkpoint, config, head.eval().requires_grad_(False), dim)

    @property
    def phones(self) -> tuple[str, ...]:
        """The phones that the columns of the posteriors stand for, in order."""
        return tuple(self.config["phones"])

    @property
    def below(self) -> FeaturesConfig:
        """The features that the head reads."""
        given = {name: self.config[name] for name in ("kind", "layer", "layers") if name in self.config}
        return FeaturesConfig(encoder=self.config["encoder"], **given)

    def check_dim(self, dim: int) -> None:
        """Refuse a head whose weights do not fit the feature dimension ``dim`` of the encoder below."""
        if dim != self.dim:
            path = self.checkpoint.weights[0]
            raise BowerbirdError(f"{path}: reads {self.dim} values a frame; {self.config['encoder']} gives {dim}")

    def posteriors(self, features: Tensor) -> Tensor:
        """Probabilities ``(T, P)`` of features ``(T, D)`` of the head's own layers; each row sums to 1."""
        if features.shape[-1] != self.dim:
            raise BowerbirdError(
                f"{self.checkpoint.name}: reads features of {self.dim} dimensions, not {features.shape[-1]}"
            )
        return self.head.to(features.device).read(features.float(), "posteriors")

    def describe(self) -> dict[str, Any]:
        """The head's name and the SHA-256 of its weights."""
        return {"phonetic": self.checkpoint.name, "weights_sha256": self.checkpoint.weights_sha256}


def key_columns(config: Mapping[str, Any], dim: int) -> list[int]:
    """The columns of features ``(T, D)`` that hold the states of ``key_layers``: layers lie side by side."""
    layers = list(config.get("layers", ()))
    width = dim // max(1, len(layers))
    places = [layers.index(layer) for layer in config.get("key_layers", ())]
    return [column for place in places for column in range(place * width, (place + 1) * width)]


def read_head_config(checkpoint: Checkpoint) -> dict[str, Any]:
    """``config.json`` of a phone head."""
    config = read_model_config(checkpoint.folder)
    wanted = ("encoder", "layers" if "layers" in config else "layer", "phones")
    absent = [key for key in wanted if key not in config]
    if absent:
        raise BowerbirdError(f"{checkpoint.name}: config.json lacks {', '.join(absent)}: not a phone head's")
    return config


def is_phone_head(folder: Path) -> bool:
    """Whether a folder's ``config.json`` is that of a phone head."""
    return "phones" in read_model_config(folder)
