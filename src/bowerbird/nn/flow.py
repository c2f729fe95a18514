"""Conditional flow matching along straight paths (Lipman et al. 2023; OT-CFM, section 4.1 there), and its samplers.

A path leads from noise x_0 to data x_1:    x_t = (1 - (1 - sigma) t) x_0 + t x_1,    sigma = 1e-4
its velocity is                             u = x_1 - (1 - sigma) x_0
and a field v learns to predict it:         L = E |v(x_t, t) - u|^2,    t uniform in [0, 1]

Sampling follows dx/dt = v(x, t) from noise at t = 0 to t = 1.

Letters: ``B`` batch; data are ``(B, ...)`` of any further dimensions.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Field = Callable[[Tensor, Tensor], Tensor]  # v(x (B, ...), t (B,)) -> (B, ...)

SIGMA = 1.0e-4
SAMPLERS = ("euler", "midpoint")


def on_path(data: Tensor, noise: Tensor, t: Tensor, sigma: float = SIGMA) -> tuple[Tensor, Tensor]:
    """The point x_t on the path from ``noise (B, ...)`` to ``data (B, ...)`` at ``t (B,)``, and its velocity u.

    Both have the shape of the data.
    """
    t = t.view(-1, *[1] * (data.ndim - 1))
    return (1 - (1 - sigma) * t) * noise + t * data, data - (1 - sigma) * noise


def flow_loss(velocity: Tensor, target: Tensor, frames: Tensor | None = None) -> Tensor:
    """The loss L of a predicted velocity ``(B, T, ...)``: a mean over items and over all values of an item (scalar).

    ``frames`` ``(B,)``: how many of the T count, where not all do.
    """
    squares = (velocity.float() - target).square()
    if frames is None:
        return squares.mean()
    counts = torch.arange(squares.shape[1], device=squares.device) < frames[:, None]
    return ((squares.flatten(2).mean(dim=2) * counts).sum(dim=1) / frames).mean()


@torch.no_grad()
def sample(field: Field, noise: Tensor, steps: int, sampler: str = "euler") -> Tensor:
    """x_1 ``(B, ...)`` from ``noise (B, ...)`` in ``steps`` equal steps.

    "midpoint" evaluates the field twice per step, "euler" once. Raises `ValueError` for any other sampler and for less
    than one step.
    """
    if steps < 1 or sampler not in SAMPLERS:
        raise ValueError(f"sample: {steps} steps of {sampler!r}: at least one step of {', '.join(SAMPLERS)}")
    x, size = noise, 1 / steps
    for step in range(steps):
        t = torch.full((len(x),), step * size, device=x.device)
        velocity = field(x, t)
        if sampler == "midpoint":
            velocity = field(x + size / 2 * velocity, t + size / 2)
        x = x + size * velocity
    return x


def guided(conditional: Field, unconditional: Field, weight: float) -> Field:
    """Classifier-free guidance (Ho and Salimans 2022): the field (1 + w) v(x | condition) - w v(x).

    With ``weight`` 0 it is the conditional field itself.
    """
    if not weight:
        return conditional
    return lambda x, t: (1 + weight) * conditional(x, t) - weight * unconditional(x, t)
