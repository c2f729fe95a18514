"""Residual vector quantization; codebooks follow the data by moving averages (van den Oord et al. 2017, appendix A).

Codebooks start from k-means of the first batch; codes that are no longer used start again from a vector of the batch
(Dhariwal et al. 2020, Zeghidour et al. 2021). Over several processes the averages are of all of them together.

Letters: ``V`` vectors, ``D`` their dimension, ``K`` codes, ``Q`` levels; `ResidualQuantizer` reads ``(..., D)`` of any
leading dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as distributed
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Quantized:
    """The quantization of vectors ``(..., D)``."""

    vectors: Tensor  # (..., D): the sum of the codes' vectors; gradients pass straight through
    codes: Tensor  # (..., Q) int64
    commitment: Tensor  # scalar: mean squared distance of the vectors to their codes, summed over levels


class EmaCodebook(nn.Module):
    """One level: ``codes`` vectors, moved by exponential moving averages with ``decay`` while training.

    A code that is used less than ``restart_below`` times the average is dead and starts again.
    """

    centroids: Tensor  # (K, D)
    usage: Tensor  # (K,): moving average of vectors per batch that fall to each code
    sums: Tensor  # (K, D): moving average of their sum; centroids = sums / usage
    started: Tensor  # (1,): 1 once the centroids come from data

    def __init__(self, codes: int, dim: int, decay: float = 0.99, restart_below: float = 0.03) -> None:
        super().__init__()
        self.decay, self.restart_below = decay, restart_below
        self.register_buffer("centroids", torch.randn(codes, dim) / dim**0.5)
        self.register_buffer("usage", torch.ones(codes))
        self.register_buffer("sums", self.centroids.clone())
        self.register_buffer("started", torch.zeros(1))

    @torch.no_grad()
    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors ``(V, D)`` float32 to the nearest centroids ``(V, D)`` and their codes ``(V,)`` int64.

        In training, the codebook then follows the vectors.
        """
        if self.training and not self.started.item():
            self.start(vectors)
        codes = self.nearest(vectors)
        quantized = self.centroids[codes]
        if self.training:
            self.follow(vectors, codes)
        return quantized, codes

    def nearest(self, vectors: Tensor) -> Tensor:
        """The code ``(V,)`` of least Euclidean distance to each of ``vectors (V, D)``; of equals the lowest."""
        return (vectors @ self.centroids.T - self.centroids.square().sum(-1) / 2).argmax(-1)

    def start(self, vectors: Tensor, iterations: int = 10) -> None:
        """Sets the centroids by k-means of ``vectors (V, D)`` (of the first process).

        With fewer vectors than codes, some repeat.
        """
        count = len(self.centroids)
        self.centroids.copy_(self._draw(vectors, count))
        for _ in range(iterations):
            codes = self.nearest(vectors)
            usage, sums = self._totals(vectors, codes)
            self.centroids.copy_(torch.where(usage[:, None] > 0, sums / usage.clamp_min(1)[:, None], self.centroids))
        _from_first_process(self.centroids)
        usage = _over_processes(torch.full_like(self.usage, len(vectors) / count))
        self.usage.copy_(usage)
        self.sums.copy_(self.centroids * usage[:, None])
        self.started.fill_(1)

    def follow(self, vectors: Tensor, codes: Tensor) -> None:
        """Moves each centroid towards the mean of the ``vectors (V, D)`` that have its code, by ``codes (V,)``.

        Dead codes start again from one of the vectors.
        """
        usage, sums = (_over_processes(total) for total in self._totals(vectors, codes))
        self.usage.lerp_(usage, 1 - self.decay)
        self.sums.lerp_(sums, 1 - self.decay)
        average = self.usage.mean()
        fresh = _from_first_process(self._draw(vectors, len(self.centroids)))  # drawn always: the same random numbers
        dead = (self.usage < self.restart_below * average)[:, None]
        self.sums.copy_(torch.where(dead, fresh * average, self.sums))
        self.usage.copy_(torch.where(dead[:, 0], average, self.usage))
        self.centroids.copy_(self.sums / self.usage[:, None])

    def _totals(self, vectors: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Number ``(K,)`` and sum ``(K, D)`` of the vectors of each code."""
        usage = torch.bincount(codes, minlength=len(self.centroids)).to(vectors.dtype)
        return usage, torch.zeros_like(self.centroids).index_add_(0, codes, vectors)

    @staticmethod
    def _draw(vectors: Tensor, count: int) -> Tensor:
        """``count`` of the vectors ``(count, D)``, each at most once if there are that many."""
        order = torch.randperm(len(vectors), device=vectors.device)
        return vectors[order.repeat(-(-count // len(vectors)))[:count]]


class ResidualQuantizer(nn.Module):
    """Levels of codebooks: each quantizes what the levels before it left."""

    def __init__(self, levels: int, codes: int, dim: int, decay: float = 0.99) -> None:
        super().__init__()
        self.levels = nn.ModuleList(EmaCodebook(codes, dim, decay) for _ in range(levels))

    def forward(self, vectors: Tensor) -> Quantized:
        """Vectors ``(..., D)`` to their quantization: vectors ``(..., D)``, codes ``(..., Q)``, and the commitment."""
        with torch.autocast(vectors.device.type, enabled=False):
            flat = vectors.float().flatten(0, -2)
            residual, total, codes = flat.detach(), torch.zeros_like(flat), []
            commitment = flat.new_zeros(())
            for level in self.levels:
                quantized, chosen = level(residual)
                commitment = commitment + F.mse_loss(flat - total, quantized)
                total, residual = total + quantized, residual - quantized
                codes.append(chosen)
            through = flat + (total - flat).detach()
        shape = vectors.shape[:-1]
        return Quantized(through.view(*shape, -1), torch.stack(codes, -1).view(*shape, -1), commitment)


def _over_processes(total: Tensor) -> Tensor:
    """The sum of a tensor over all processes of a training, in place."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(total)
    return total


def _from_first_process(tensor: Tensor) -> Tensor:
    """The first process's values of a tensor, on every process, in place."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.broadcast(tensor, 0)
    return tensor
