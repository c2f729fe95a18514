"""A vocoder of two parts: a small network from any features to WORLD's parameters, and WORLD (`bowerbird.nn.world`) behind it.

What is learned is a regression: no wave is generated in training, and there is no discriminator, so it takes minutes where a
generator of waves takes hours.

Letters: ``B`` batch, ``T`` frames, ``D`` feature dimension, ``C`` channels, ``N`` samples (320 T).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bowerbird.nn import world

KERNEL = 5
HALF = KERNEL // 2


class WorldSynthesis(nn.Module):
    """WORLD alone: features that are its parameters to waves. It has no weights."""

    context_frames = 0

    def encode(self, features: Tensor) -> Tensor:
        """Parameters ``(B, T, 252)`` as they are."""
        return features

    def synthesize(self, encoded: Tensor) -> Tensor:
        """Parameters ``(B, T, 252)`` to waves ``(B, N)``, one by one, on the CPU."""
        waves = [torch.from_numpy(world.synthesize(rows)) for rows in encoded.float().cpu().numpy()]
        return torch.stack(waves).to(encoded.device)

    def forward(self, features: Tensor) -> Tensor:
        """Features ``(B, T, D)`` to waves ``(B, N)``. Nothing flows back through it: WORLD is no network."""
        return self.synthesize(self.encode(features))


class ResidualBlock(nn.Module):
    """Two convolutions, over time and over channels, each after a GELU; their sum with the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.over_time = nn.Conv1d(channels, channels, KERNEL, padding=HALF)
        self.over_channels = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, T)`` to ``(B, C, T)``."""
        return x + self.over_channels(F.gelu(self.over_time(F.gelu(x))))


class WorldVocoder(WorldSynthesis):
    """Features to WORLD's parameters by convolutions, and to waves by WORLD.

    The network sees features, and gives parameters, of mean 0 and deviation 1; the moments of both are part of its weights.
    """

    mean: Tensor  # (D,) of the features
    deviation: Tensor  # (D,)
    target_mean: Tensor  # (252,) of the parameters
    target_deviation: Tensor  # (252,)

    def __init__(self, input_dim: int, channels: int = 384, blocks: int = 4) -> None:
        super().__init__()
        for name, size in (("", input_dim), ("target_", world.DIM)):
            self.register_buffer(f"{name}mean", torch.zeros(size))
            self.register_buffer(f"{name}deviation", torch.ones(size))
        self.first = nn.Conv1d(input_dim, channels, KERNEL, padding=HALF)
        self.blocks = nn.Sequential(*(ResidualBlock(channels) for _ in range(blocks)))
        self.last = nn.Conv1d(channels, world.DIM, 1)

    def normalize(self, features: tuple[Tensor, Tensor], parameters: tuple[Tensor, Tensor]) -> None:
        """Take mean and deviation of features, each ``(D,)``, and of parameters, each ``(252,)``."""
        for name, moments in (("", features), ("target_", parameters)):
            getattr(self, f"{name}mean").copy_(moments[0])
            getattr(self, f"{name}deviation").copy_(moments[1].clamp_min(1.0e-3))

    @property
    def context_frames(self) -> int:  # type: ignore[override]
        """Frames on each side that a frame's parameters depend on."""
        return HALF * (1 + len(self.blocks))

    def predict(self, features: Tensor) -> Tensor:
        """Features ``(B, T, D)`` to normalized parameters ``(B, T, 252)``; those of voicing are logits."""
        x = ((features - self.mean) / self.deviation).transpose(1, 2)
        return self.last(F.gelu(self.blocks(self.first(x)))).transpose(1, 2)

    def encode(self, features: Tensor) -> Tensor:
        """Features ``(B, T, D)`` to parameters ``(B, T, 252)``; voicing is a probability."""
        predicted = self.predict(features).float()
        parameters = predicted * self.target_deviation + self.target_mean
        parameters[..., world.VOICING] = predicted[..., world.VOICING].sigmoid()
        return parameters
