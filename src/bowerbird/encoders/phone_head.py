"""A phone head: a small network that reads phones from one layer, or several, of an encoder below it.

A head's folder holds ``config.json`` and ``model.safetensors``:

    encoder            what is below: bundled:NAME, whisper-base, a folder or hub id (of a Whisper with kind: phonetic)
    layer or layers    of it, as in `features`
    phones             in order
    hidden             width of a hidden layer; 0 or absent: the head is linear
    context            frames on each side that the hidden layer sees; 0 or absent: none
    discriminants      how many directions of a linear discriminant analysis (LDA) it has besides; 0 or absent: none

Letters: ``T`` frames, ``D`` feature dimension of the encoder below, ``P`` phones, ``H`` hidden width, ``L`` discriminants.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from bowerbird.artifacts.models import read_model_config
from bowerbird.config.base import ModelReference
from bowerbird.config.sections.features import FeaturesConfig
from bowerbird.encoders.checkpoint import PHONE_HEAD, Checkpoint, find_checkpoint
from bowerbird.errors import BowerbirdError

HeadOutput = Literal["posteriors", "roots", "discriminants"]


class PhoneHead(nn.Module):
    """The network of a head."""

    def __init__(self, dim: int, phones: int, hidden: int = 0, context: int = 0, discriminants: int = 0) -> None:
        super().__init__()
        self.hidden = nn.Linear(dim, hidden) if hidden else None
        self.context = nn.Conv1d(hidden, hidden, 2 * context + 1, padding=context) if hidden and context else None
        self.phones = nn.Linear(hidden or dim, phones)
        self.discriminants = nn.Linear(dim, discriminants) if discriminants else None
        self.dropout = nn.Dropout(0.3)

    def forward(self, features: Tensor) -> Tensor:
        """Features ``(..., T, D)`` to logits ``(..., T, P)``."""
        states = features if self.hidden is None else F.gelu(self.hidden(self.dropout(features)))
        if self.context is not None:
            around = self.context(self.dropout(states).transpose(-1, -2)).transpose(-1, -2)
            states = states + F.gelu(around)
        logits: Tensor = self.phones(self.dropout(states) if self.hidden is not None else states)
        return logits

    def read(self, features: Tensor, output: HeadOutput) -> Tensor:
        """Features ``(T, D)`` to probabilities ``(T, P)``, their square roots, or discriminants ``(T, L)``."""
        if output == "discriminants":
            if self.discriminants is None:
                raise ValueError("has no discriminants")
            projected: Tensor = self.discriminants(features)
            return projected
        posteriors = self.forward(features).softmax(dim=-1)
        return posteriors.sqrt() if output == "roots" else posteriors


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
            head = PhoneHead(dim, len(config["phones"]), **sizes)
            head.load_state_dict(state)
        except (OSError, KeyError, RuntimeError, SafetensorError) as error:
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
