"""The converter T.

Letters: ``B`` batch, ``T`` frames of the input, ``P`` frames of the prompt, ``D`` feature dimension, ``W`` width.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bowerbird.artifacts.models import load_weights, read_model_config
from bowerbird.nn.transformer import AttentionMemory, Transformer

INPUT, PROMPT = 0, 1  # rows of the segment embedding
SIZES = ("layers", "heads", "width", "feedforward", "dropout", "conditioning")  # options that `Converter` is built from


class Converter(nn.Module):
    """T(B^; A): features of any voice to features of the prompt's (section 3.2: 6 layers, 16 heads, width 1024: 77 M).

    ``concat``: prompt and input are one sequence, told apart by segment embeddings. ``cross_attention``: the input's
    layers also attend to the prompt.
    """

    def __init__(
        self,
        feature_dim: int,
        layers: int,
        heads: int,
        width: int,
        feedforward: int,
        dropout: float,
        conditioning: str = "concat",
    ) -> None:
        super().__init__()
        self.conditioning = conditioning
        cross = conditioning == "cross_attention"
        self.inward = nn.Linear(feature_dim, width)
        self.segment = nn.Embedding(2, width)
        self.transformer = Transformer(layers, width, heads, feedforward, dropout, cross=cross)
        self.outward = nn.Linear(width, feature_dim)
        nn.init.normal_(self.segment.weight, std=0.02)
        nn.init.zeros_(self.outward.weight)
        nn.init.zeros_(self.outward.bias)

    def forward(self, features: Tensor, prompt: Tensor, prompt_frames: Tensor, frames: Tensor | None = None) -> Tensor:
        """A~ ``(B, T, D)`` of ``features`` ``(B, T, D)`` and a ``prompt`` ``(B, P, D)``, of which ``prompt_frames`` ``(B,)`` are speech.

        ``frames`` ``(B,)``: how many of the features' frames are speech, where not all are.
        """
        batch, length, _ = features.shape
        x = self.inward(features) + self.segment.weight[INPUT]
        memory = self.inward(prompt) + self.segment.weight[PROMPT]
        is_input = torch.ones(batch, length, dtype=torch.bool, device=x.device)  # (B, T)
        if frames is not None:
            is_input = torch.arange(length, device=x.device) < frames[:, None]
        place = torch.arange(prompt.shape[1], device=x.device)
        is_speech = place < prompt_frames[:, None]  # (B, P)
        # The input begins at 0, and the prompt ends before it whatever its length: so padding moves nothing.
        positions, prompt_positions = torch.arange(length, device=x.device), place - prompt_frames[:, None]
        if self.conditioning == "cross_attention":
            x = self.transformer(x, positions, is_input, AttentionMemory(memory, prompt_positions, is_speech))
        else:
            sequence = torch.cat([memory, x], dim=1)  # (B, P + T, W)
            all_positions = torch.cat([prompt_positions, positions.expand(batch, -1)], dim=1)
            mask = torch.cat([is_speech, is_input], dim=1)
            x = self.transformer(sequence, all_positions, mask)[:, prompt.shape[1] :]
        return features + self.outward(x)


@torch.no_grad()
def convert_in_windows(converter: Converter, features: Tensor, prompt: Tensor, window: int) -> Tensor:
    """``features (T, D)`` of any length, prompted by ``prompt (P, D)``: A~ ``(T, D)``.

    T is at home at the lengths that it was trained on: longer features go through in windows of ``window`` frames that overlap
    by a quarter, where one fades into the other. Windows start evenly, the last one ends with the features.
    """
    frames = torch.tensor([len(prompt)], device=features.device)
    if len(features) <= window:
        return converter(features[None], prompt[None], frames)[0]
    count = 1 + -(-(len(features) - window) // (window - window // 4))
    starts = [round(place * (len(features) - window) / (count - 1)) for place in range(count)]
    rising = torch.arange(1, window + 1, device=features.device, dtype=features.dtype)
    weight = torch.minimum(rising, rising.flip(0))[
        :, None
    ]  # a triangle: wherever two overlap, one fades into the other
    total, weights = torch.zeros_like(features), torch.zeros_like(features[:, :1])
    for start in starts:
        part = slice(start, start + window)
        total[part] += weight * converter(features[None, part], prompt[None], frames)[0]
        weights[part] += weight
    return total / weights


def build_converter(config: Mapping[str, Any]) -> Converter:
    """The converter that `ConverterTraining.architecture` describes."""
    return Converter(config["feature_dim"], **{key: config[key] for key in SIZES})


def load_converter(folder: Path) -> Converter:
    """A trained converter, frozen."""
    converter = build_converter(read_model_config(folder))
    load_weights(converter, folder)
    return converter.eval().requires_grad_(False)
