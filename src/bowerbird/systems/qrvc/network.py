"""The disentangler."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bowerbird.nn.quantizer import Quantizer


class Disentangler(nn.Module):
    """S to H by way of Q, v and s; see the top of this file.

    ``variation_dim`` is the width of the bottleneck (8; 0: no compensation of speaking variation).
    """

    def __init__(self, centroids: Tensor, variation_dim: int = 8, assignment: str = "cosine") -> None:
        super().__init__()
        dim = centroids.shape[1]
        self.quantizer = Quantizer(centroids, assignment)
        self.content = nn.Conv1d(dim, dim - variation_dim, 3, padding=1)
        self.variation = nn.Conv1d(dim, variation_dim, 1) if variation_dim else None
        self.speaker = nn.Conv1d(dim, dim, 1)

    def start_near_identity(self) -> None:
        """Start with H = Q + s, but for the bottleneck's channels: right where the generator was trained on S already."""
        dim = self.content.in_channels
        with torch.no_grad():
            for layer in (self.content, self.speaker):
                layer.weight.mul_(0.02)
                nn.init.zeros_(layer.bias)
            rows = torch.arange(self.content.out_channels)
            self.content.weight[rows, rows, 1] += 1.0
            self.speaker.weight[torch.arange(dim), torch.arange(dim), 0] += 1.0

    def split(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """S ``(batch, T, dim)`` to Q and R, the same shape."""
        quantized, _ = self.quantizer(features)
        return quantized, features - quantized

    def combine(self, quantized: Tensor, residual: Tensor, speaker: Tensor) -> Tensor:
        """Q and R ``(batch, T, dim)`` of the source, s ``(batch, dim)`` of whom it shall sound like, to H ``(batch, T, dim)``.

        Linear in its three arguments together, up to the biases.
        """
        hidden = self.content(quantized.transpose(1, 2))  # (batch, dim - variation_dim, T)
        if self.variation is not None:
            variation = self.variation((residual - residual.mean(dim=1, keepdim=True)).transpose(1, 2))
            hidden = torch.cat([hidden, variation], dim=1)
        return (hidden + self.speaker(speaker.unsqueeze(-1))).transpose(1, 2)

    def forward(self, features: Tensor) -> Tensor:
        """Resynthesis: everything from one utterance."""
        quantized, residual = self.split(features)
        return self.combine(quantized, residual, residual.mean(dim=1))
