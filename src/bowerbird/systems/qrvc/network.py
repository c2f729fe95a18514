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

    def combine(self, quantized: Tensor, residual: Tensor, speaker: Tensor) -> Tensor:
        """Q and R ``(B, T, D)`` of the source and s ``(B, D)`` of the target to H ``(B, T, D)``.

        Linear in its three arguments together, up to the biases.
        """
        hidden = self.content(quantized.transpose(1, 2))  # (B, D - variation_dim, T)
        if self.variation is not None:
            variation = self.variation((residual - residual.mean(dim=1, keepdim=True)).transpose(1, 2))
            hidden = torch.cat([hidden, variation], dim=1)
        return (hidden + self.speaker(speaker.unsqueeze(-1))).transpose(1, 2)

    def forward(self, features: Tensor) -> Tensor:
        """Resynthesis: S ``(B, T, D)`` to H ``(B, T, D)``, everything from one utterance."""
        quantized, residual = self.split(features)
        return self.combine(quantized, residual, residual.mean(dim=1))
