"""The disentangler: Q and R to H, as the package's docstring defines them.

Letters: ``B`` batch, ``T`` frames, ``D`` feature dimension, ``K`` codes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bowerbird.nn.quantizer import Quantizer


class Disentangler(nn.Module):
    """S to H by way of Q, v and s.

    ``centroids`` ``(K, D)`` are the codebook. ``variation_dim`` is the width of the bottleneck v (8 as published; 0: without
    compensation of speaking variation).
    """

    def __init__(self, centroids: Tensor, variation_dim: int = 8, assignment: str = "cosine") -> None:
        super().__init__()
        dim = centroids.shape[1]
        self.quantizer = Quantizer(centroids, assignment)
        self.content = nn.Conv1d(dim, dim - variation_dim, 3, padding=1)
        self.variation = nn.Conv1d(dim, variation_dim, 1) if variation_dim else None
        self.speaker = nn.Conv1d(dim, dim, 1)

    def start_near_identity(self) -> None:
        """Start with H = Q + s, except in the bottleneck's channels: right for a generator that was trained on S already."""
        dim = self.content.in_channels
        with torch.no_grad():
            for layer in (self.content, self.speaker):
                assert layer.bias is not None
                layer.weight.mul_(0.02)
                nn.init.zeros_(layer.bias)
            rows = torch.arange(self.content.out_channels)
            self.content.weight[rows, rows, 1] += 1.0
            self.speaker.weight[torch.arange(dim), torch.arange(dim), 0] += 1.0

    def split(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """S ``(B, T, D)`` to Q and R ``(B, T, D)``."""
        quantized, _ = self.quantizer(features)
        return quantized, features - quantized

    def combine(self, quantized: Tensor, residual: Tensor, speaker: Tensor, own: Tensor | None = None) -> Tensor:
        """Q and R ``(B, T, D)`` of the source and s ``(B, D)`` of the target to H ``(B, T, D)``.

        ``own`` ``(B, D)`` is the mean of R over the source's speech, if R is padded. Linear in its arguments together, up to
        the biases.
        """
        own = residual.mean(dim=1) if own is None else own
        hidden = self.content(quantized.transpose(1, 2))  # (B, D - variation_dim, T)
        if self.variation is not None:
            variation = self.variation((residual - own[:, None]).transpose(1, 2))
            hidden = torch.cat([hidden, variation], dim=1)
        return (hidden + self.speaker(speaker.unsqueeze(-1))).transpose(1, 2)

    def forward(self, features: Tensor, frames: Tensor | None = None) -> Tensor:
        """Resynthesis: S ``(B, T, D)`` to H ``(B, T, D)``, everything from one utterance.

        ``frames`` ``(B,)``: how many frames are speech, where not all are.
        """
        quantized, residual = self.split(features)
        if frames is None:
            return self.combine(quantized, residual, residual.mean(dim=1))
        is_speech = torch.arange(features.shape[1], device=features.device) < frames[:, None]
        own = (residual * is_speech[..., None]).sum(dim=1) / frames[:, None]
        return self.combine(quantized, residual, own, own)
