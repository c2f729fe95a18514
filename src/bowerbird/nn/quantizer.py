"""A frozen codebook as a layer.

Letters: ``K`` codes, ``D`` feature dimension; features are ``(..., D)`` of any leading dimensions.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Quantizer(nn.Module):
    """Nearest centroid of each frame; nothing in it is trained, and no gradient passes.

    ``assignment`` "cosine" compares directions and returns the centroid as it is, not normalized; "euclidean" compares
    distances. Of equally near centroids the one of lowest index is taken.
    """

    centroids: Tensor  # (K, D)

    def __init__(self, centroids: Tensor, assignment: str = "cosine") -> None:
        super().__init__()
        self.assignment = assignment
        self.register_buffer("centroids", centroids.float())

    @torch.no_grad()
    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Features ``(..., D)`` to centroids ``(..., D)`` and codes ``(...)`` int64."""
        with torch.autocast(features.device.type, enabled=False):
            frames = features.float()
            if self.assignment == "cosine":
                scores = frames @ F.normalize(self.centroids, dim=-1).T
            else:
                scores = frames @ self.centroids.T - self.centroids.square().sum(-1) / 2
            codes = scores.argmax(dim=-1)
            return self.centroids[codes], codes
