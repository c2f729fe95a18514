"""The converter T."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bowerbird.artifacts.models import load_weights, read_model_config
from bowerbird.nn.transformer import Transformer

FRAMES_PER_SECOND = 50


INPUT, PROMPT = 0, 1  # rows of the segment embedding


class Converter(nn.Module):
    """T(B^; A): features of any voice to features of the prompt's (section 3.2: 6 layers, 16 heads, width 1024: 77 M).

    ``concat``: prompt and input are one sequence, told apart by segment embeddings. ``cross_attention``: the input's
    layers also look at the prompt.
    """

    def __init__(
        self,
        feature_dim: int,
        layers: int = 6,
        heads: int = 16,
        width: int = 1024,
        feedforward: int = 4096,
        dropout: float = 0.1,
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

    def forward(self, features: Tensor, prompt: Tensor, prompt_frames: Tensor) -> Tensor:
        """``features`` (batch, L1, dim), ``prompt`` (batch, L2, dim) of which ``prompt_frames`` (batch,) are speech.

        Returns A~ (batch, L1, dim).
        """
        batch, length, _ = features.shape
        x = self.inward(features) + self.segment.weight[INPUT]
        memory = self.inward(prompt) + self.segment.weight[PROMPT]
        everywhere = torch.ones(batch, length, dtype=torch.bool, device=x.device)
        heard = torch.arange(prompt.shape[1], device=x.device) < prompt_frames[:, None]  # (batch, L2)
        places, prompt_places = (torch.arange(n, device=x.device) for n in (length, prompt.shape[1]))
        if self.conditioning == "cross_attention":
            x = self.transformer(x, places, everywhere, memory, prompt_places, heard)
        else:
            sequence = torch.cat([memory, x], dim=1)  # (batch, L2 + L1, width)
            positions = torch.cat([prompt_places, places + prompt.shape[1]])
            mask = torch.cat([heard, everywhere], dim=1)
            x = self.transformer(sequence, positions, mask)[:, prompt.shape[1] :]
        return features + self.outward(x)


def build_converter(config: Mapping[str, Any]) -> Converter:
    """The converter that `ConverterTraining.architecture` describes."""
    keys = ("layers", "heads", "width", "feedforward", "dropout", "conditioning")
    return Converter(config["feature_dim"], **{key: config[key] for key in keys})


def load_converter(folder: Path) -> Converter:
    """A trained converter, frozen."""
    config = read_model_config(folder)
    converter = build_converter(config)
    load_weights(converter, folder)
    return converter.eval().requires_grad_(False)
