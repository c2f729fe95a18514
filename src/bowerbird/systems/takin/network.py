"""Content encoder, timbre modules and field."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bowerbird.nn.flow import guided, sample
from bowerbird.nn.rvq import Quantized, ResidualQuantizer
from bowerbird.nn.timbre import ContextTimbre, TimbreMemory
from bowerbird.nn.unet import UNet

FRAMES_PER_SECOND = 50


MEL_MEAN, MEL_SCALE = -5.5, 2.0  # of the logarithm of speech's mel spectrograms: what the flow makes is near N(0, 1)


CONTENT = ("feature_dim", "phones_dim", "codes", "levels", "code_dim", "content_dim", "fusion", "ssl")  # of an encoder


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
    """X_s and X_p to c ``(batch, T, content_dim)``; without phonetic features, or without the others, the other alone."""

    def __init__(
        self,
        feature_dim: int,
        phones_dim: int,
        codes: int = 8200,
        levels: int = 1,
        code_dim: int = 1024,
        content_dim: int = 512,
        fusion: str = "product",
        ssl: bool = True,
    ) -> None:
        super().__init__()
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
        """c and the commitment, a scalar."""
        commitment = features.new_zeros(())
        if self.quantizer is None:
            return self.phonetic(phones), commitment
        quantized: Quantized = self.quantizer(self.inward(features))
        projected = self.project(quantized.vectors.to(features.dtype).transpose(1, 2)).transpose(1, 2)
        content, commitment = F.leaky_relu(projected, 0.2), quantized.commitment
        if self.phonetic is not None:
            spoken = self.phonetic(phones)
            if self.fusion == "product":
                content = content * spoken
            else:
                weight = self.balance.sigmoid()
                content = weight * content + (1 - weight) * spoken
        return content, commitment


@dataclass(frozen=True)
class Condition:
    """What v is conditioned on; all zeros: on nothing."""

    context: Tensor  # (batch, T, dim)
    memory: Tensor | None  # (batch, dim)

    def dropped(self, which: Tensor) -> Condition:
        """Without condition where ``which`` (batch,) is true."""
        keep = (~which).to(self.context.dtype)
        memory = None if self.memory is None else self.memory * keep[:, None]
        return Condition(self.context * keep[:, None, None], memory)


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
        self,
        features: Tensor,
        phones: Tensor | None,
        mels: Tensor,
        mel_frames: Tensor,
        voice: Tensor | None,
        made: int | None = None,
    ) -> tuple[Condition, Tensor]:
        """The condition, and the content encoder's commitment.

        ``features`` (batch, T, dim) and ``phones`` (batch, T, p) of the source; of the reference ``mels``
        (batch, R, bands), normalized, of which ``mel_frames`` (batch,) are speech, and its ``voice`` print (batch, d).
        ``made``: frames of the mel to make, where that is not T; the context is interpolated.
        """
        context, commitment = self.content(features, phones)
        heard = torch.arange(mels.shape[1], device=mels.device) < mel_frames[:, None]  # (batch, R)
        if self.context is not None:
            context = self.context(context, mels, heard, voice)
        if made not in (None, context.shape[1]):
            context = F.interpolate(context.transpose(1, 2), made, mode="linear").transpose(1, 2)
        return Condition(context, None if self.memory is None else self.memory(mels, heard)), commitment

    def forward(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """v(x_t, t | condition): ``x`` (batch, T, bands), ``t`` (batch,)."""
        return self.field(x, t, condition.context, condition.memory)

    def sample(
        self, condition: Condition, noise: Tensor, steps: int = 10, sampler: str = "euler", guidance: float = 0.0
    ) -> Tensor:
        """From ``noise`` (batch, T, bands) to log-mel spectrograms."""
        nothing = condition.dropped(torch.ones(len(noise), dtype=torch.bool, device=noise.device))
        field = guided(lambda x, t: self(x, t, condition), lambda x, t: self(x, t, nothing), guidance)
        return denormalize(sample(field, noise, steps, sampler))


def normalize(mels: Tensor) -> Tensor:
    """Log-mel values to the flow's scale."""
    return (mels - MEL_MEAN) / MEL_SCALE


def denormalize(mels: Tensor) -> Tensor:
    """And back."""
    return mels * MEL_SCALE + MEL_MEAN


def item_generator(*names: object) -> torch.Generator:
    """Random numbers of one item: they depend on what it is called, not on its place in a batch or on the device."""
    digest = hashlib.sha256("\0".join(map(str, names)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def mel_frames(frames: Tensor, rate: float) -> Tensor:
    """Frames of a mel at ``rate`` a second where there are ``frames`` of features."""
    return frames if rate == FRAMES_PER_SECOND else (frames * rate / FRAMES_PER_SECOND).round().long()


def same_length(rows: Tensor, count: int) -> Tensor:
    """``(n, dim)`` cut to ``count`` rows, or with its last one repeated: encoders differ by a frame at the end."""
    return torch.cat([rows[:count], rows[-1:].expand(max(0, count - len(rows)), -1)])
