"""Content encoder, timbre modules and field.

Letters: ``B`` batch, ``T`` frames, ``R`` frames of the reference's mel, ``D`` feature dimension, ``C`` content dimension,
``M`` mel bands, ``E`` dimension of the speaker embedding.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bowerbird.audio import FRAMES_PER_SECOND
from bowerbird.errors import BowerbirdError
from bowerbird.nn.flow import guided, sample
from bowerbird.nn.rvq import Quantized, ResidualQuantizer
from bowerbird.nn.timbre import ContextTimbre, TimbreMemory
from bowerbird.nn.unet import UNet

MEL_MEAN, MEL_SCALE = -5.5, 2.0  # of the logarithm of speech's mel spectrograms: what the flow makes is near N(0, 1)

# What `HybridContent` and the rest of `Takin` are built from, by the names of options and of config.json.
CONTENT = ("feature_dim", "phones_dim", "codes", "levels", "code_dim", "content_dim", "fusion", "ssl")
FLOW = (
    "bands",
    "speaker_dim",
    "context_layers",
    "context_width",
    "heads",
    "memory_layers",
    "memory_width",
    "width",
    "layers",
    "blocks",
    "dropout",
)


class HybridContent(nn.Module):
    """X_s and X_p to c; without phonetic features (``phones_dim`` 0), or without the others (``ssl`` false), one alone."""

    def __init__(
        self,
        feature_dim: int,
        phones_dim: int,
        codes: int,
        levels: int,
        code_dim: int,
        content_dim: int,
        fusion: str = "product",
        ssl: bool = True,
    ) -> None:
        super().__init__()
        if not ssl and not phones_dim:
            raise BowerbirdError("--phones: missing: with ssl: false nothing else is left of the content")
        self.fusion, self.content_dim = fusion, content_dim
        self.quantizer: ResidualQuantizer | None = None
        if ssl:
            self.inward = nn.Linear(feature_dim, code_dim)
            self.quantizer = ResidualQuantizer(levels, codes, code_dim)
            self.project = nn.Conv1d(code_dim, content_dim, 3, padding=1)
            if feature_dim == code_dim:
                nn.init.eye_(self.inward.weight)
                nn.init.zeros_(self.inward.bias)
        self.phonetic: nn.Module | None = None
        if phones_dim:
            self.phonetic = nn.Linear(phones_dim, content_dim) if phones_dim != content_dim else nn.Identity()
        if self.quantizer is not None and self.phonetic is not None and fusion == "weighted_sum":
            self.balance = nn.Parameter(torch.zeros(content_dim))  # its sigmoid is the weight of the quantized features

    def forward(self, features: Tensor, phones: Tensor | None) -> tuple[Tensor, Tensor]:
        """``features`` ``(B, T, D)`` and ``phones`` ``(B, T, D)`` to c ``(B, T, C)`` and the commitment, a scalar."""
        if self.quantizer is None:
            assert self.phonetic is not None
            return self.phonetic(phones), features.new_zeros(())
        quantized: Quantized = self.quantizer(self.inward(features))
        projected = self.project(quantized.vectors.to(features.dtype).transpose(1, 2)).transpose(1, 2)
        content = F.leaky_relu(projected, 0.2)
        if self.phonetic is not None:
            phonetic = self.phonetic(phones)
            if self.fusion == "product":
                content = content * phonetic
            else:
                weight = self.balance.sigmoid()
                content = weight * content + (1 - weight) * phonetic
        return content, quantized.commitment


@dataclass(frozen=True)
class Condition:
    """What v is conditioned on; all zeros are no condition."""

    context: Tensor  # (B, T, width of the context)
    memory: Tensor | None  # (B, width of the memory)

    def dropped(self, which: Tensor) -> Condition:
        """The condition with zeros where ``which`` ``(B,)`` is true."""
        keep = (~which).to(self.context.dtype)
        memory = None if self.memory is None else self.memory * keep[:, None]
        return Condition(self.context * keep[:, None, None], memory)


@dataclass(frozen=True)
class Reference:
    """The speech whose timbre is wanted."""

    mels: Tensor  # (B, R, M), normalized and zero-padded
    frames: Tensor  # (B,) int64: how many of its frames are speech
    speaker_embedding: Tensor | None  # e: (B, E)


class Takin(nn.Module):
    """All that is learned but the vocoder: content encoder, both timbre modules, and the field v."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        bands, width, heads = config["bands"], config["context_width"], config["heads"]
        dropout = config["dropout"]
        self.content = HybridContent(**{key: config[key] for key in CONTENT})
        self.context: ContextTimbre | None = None
        condition_dim = self.content.content_dim
        if config["context_layers"]:
            self.context = ContextTimbre(
                condition_dim, bands, config["speaker_dim"], width, config["context_layers"], heads, dropout
            )
            condition_dim = width
        self.memory: TimbreMemory | None = None
        memory_dim = 0
        if config["memory_layers"]:
            memory_dim = config["memory_width"]
            self.memory = TimbreMemory(bands, memory_dim, config["memory_layers"], heads, dropout)
        self.field = UNet(
            bands, condition_dim, memory_dim, config["width"], config["layers"], config["blocks"], dropout
        )

    def condition(
        self, features: Tensor, phones: Tensor | None, reference: Reference, num_frames: int
    ) -> tuple[Condition, Tensor]:
        """The condition of a mel of ``num_frames``, and the content encoder's commitment.

        ``features`` ``(B, T, D)`` and ``phones`` ``(B, T, D)`` are of the source; where T is not ``num_frames`` (mels of another
        rate), the context is interpolated.
        """
        context, commitment = self.content(features, phones)
        is_speech = torch.arange(reference.mels.shape[1], device=reference.mels.device) < reference.frames[:, None]
        if self.context is not None:
            context = self.context(context, reference.mels, is_speech, reference.speaker_embedding)
        if num_frames != context.shape[1]:
            context = F.interpolate(context.transpose(1, 2), num_frames, mode="linear").transpose(1, 2)
        return Condition(context, None if self.memory is None else self.memory(reference.mels, is_speech)), commitment

    def forward(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """v(x_t, t | condition) ``(B, T, M)`` of ``x`` ``(B, T, M)`` and ``t`` ``(B,)``."""
        return self.field(x, t, condition.context, condition.memory)

    def sample(
        self, condition: Condition, noise: Tensor, steps: int = 10, sampler: str = "euler", guidance: float = 0.0
    ) -> Tensor:
        """Log-mel spectrograms ``(B, T, M)`` from ``noise`` ``(B, T, M)``."""
        nothing = condition.dropped(torch.ones(len(noise), dtype=torch.bool, device=noise.device))
        field = guided(lambda x, t: self(x, t, condition), lambda x, t: self(x, t, nothing), guidance)
        return denormalize(sample(field, noise, steps, sampler))


def normalize(mels: Tensor) -> Tensor:
    """Log-mel values ``(...)`` to the flow's scale."""
    return (mels - MEL_MEAN) / MEL_SCALE


def denormalize(mels: Tensor) -> Tensor:
    """Inverse of `normalize`."""
    return mels * MEL_SCALE + MEL_MEAN


def item_generator(*names: object) -> torch.Generator:
    """Random numbers of one item: they depend on what it is called, not on its place in a batch or on the device."""
    digest = hashlib.sha256("\0".join(map(str, names)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def mel_frames(frames: Tensor, rate: float) -> Tensor:
    """Frames ``(...)`` int64 of a mel at ``rate`` per second that stand for ``frames`` of features."""
    return frames if rate == FRAMES_PER_SECOND else (frames * rate / FRAMES_PER_SECOND).round().long()


def same_length(rows: Tensor, count: int) -> Tensor:
    """``rows`` ``(n, D)`` cut to ``count``, or with the last one repeated: encoders differ by a frame at the end."""
    return torch.cat([rows[:count], rows[-1:].expand(max(0, count - len(rows)), -1)])
