"""Small helpers of the tests of networks: noise that is the same every time, and sizes."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal values of a seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def millions(*modules: nn.Module) -> float:
    """Parameters, in millions."""
    return sum(p.numel() for module in modules for p in module.parameters()) / 1e6
