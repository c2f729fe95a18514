"""Flow matching: paths, a known target in two dimensions, samplers; the closed form and other libraries as oracles."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from bowerbird.nn.flow import SIGMA, flow_loss, guided, on_path, sample

CENTERS = torch.tensor([[2.0, 0.0], [-1.0, 1.5], [-1.0, -1.5]])
WEIGHTS, SPREAD = torch.tensor([0.5, 0.3, 0.2]), 0.3


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def mixture(count: int, generator: torch.Generator) -> Tensor:
    """Three round clouds in the plane."""
    which = torch.multinomial(WEIGHTS, count, replacement=True, generator=generator)
    return CENTERS[which] + SPREAD * torch.randn(count, 2, generator=generator)


def closed_form(x: Tensor, t: Tensor) -> Tensor:
    """E[u | x_t = x] for the mixture: in each cloud x_1, x_0 and x_t are jointly Gaussian."""
    a, b = (1 - (1 - SIGMA) * t)[:, None], t[:, None]
    variance = a**2 + (b * SPREAD) ** 2  # of x_t in a cloud
    away = x[:, None] - b[:, None] * CENTERS  # (n, clouds, 2)
    posterior = (WEIGHTS.log() - away.square().sum(-1) / (2 * variance)).softmax(-1)
    data = CENTERS + (b * SPREAD**2 / variance)[:, None] * away
    noise = (a / variance)[:, None] * away
    return (posterior[..., None] * (data - (1 - SIGMA) * noise)).sum(1)


def shares(points: Tensor) -> Tensor:
    """Of points nearest to each center."""
    return torch.cdist(points, CENTERS).argmin(1).bincount(minlength=3) / len(points)


class Field(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 96), nn.SiLU(), nn.Linear(96, 96), nn.SiLU(), nn.Linear(96, 2))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.layers(torch.cat([x, t[:, None]], dim=1))


def test_paths_lead_from_noise_to_data_and_u_is_their_velocity() -> None:
    data, noise = torch.randn(4, 5, 3, generator=seeded()), torch.randn(4, 5, 3, generator=seeded(1))
    start, _ = on_path(data, noise, torch.zeros(4))
    end, velocity = on_path(data, noise, torch.ones(4))
    assert torch.equal(start, noise)
    assert torch.allclose(end, data + SIGMA * noise)
    t = torch.tensor([0.0, 0.3, 0.6, 0.9])
    here, there = on_path(data, noise, t)[0], on_path(data, noise, t + 0.01)[0]
    assert torch.allclose((there - here) / 0.01, velocity, atol=1e-4)


@pytest.mark.slow
def test_a_trained_field_recovers_a_known_target() -> None:
    """A small network finds the closed form's field, and its samples the mixture's clouds."""
    torch.manual_seed(0)
    field, generator = Field(), seeded()
    optimizer = torch.optim.Adam(field.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 1500)
    for _ in range(1500):
        data, noise = mixture(512, generator), torch.randn(512, 2, generator=generator)
        t = torch.rand(512, generator=generator)
        x, target = on_path(data, noise, t)
        optimizer.zero_grad()
        flow_loss(field(x, t), target).backward()
        optimizer.step()
        schedule.step()
    data, noise, t = (
        mixture(4000, generator),
        torch.randn(4000, 2, generator=generator),
        torch.rand(4000, generator=generator),
    )
    x, target = on_path(data, noise, t)
    with torch.no_grad():
        learned, known = field(x, t), closed_form(x, t)
    assert flow_loss(learned, known) < 0.05 * flow_loss(torch.zeros_like(known), known)
    assert flow_loss(known, target) < flow_loss(learned, target) < 1.05 * flow_loss(known, target)  # the least there is
    points = sample(field, torch.randn(4000, 2, generator=seeded(7)), 50)
    assert torch.allclose(shares(points), WEIGHTS, atol=0.04)
    nearest = torch.cdist(points, CENTERS).min(1).values
    assert nearest.square().mean().sqrt() == pytest.approx(SPREAD * 2**0.5, rel=0.2)


def test_the_closed_forms_samples_are_the_target() -> None:
    points = sample(closed_form, torch.randn(8000, 2, generator=seeded(3)), 100, "midpoint")
    assert torch.allclose(shares(points), WEIGHTS, atol=0.02)
    for number, center in enumerate(CENTERS):
        cloud = points[torch.cdist(points, CENTERS).argmin(1) == number]
        assert torch.allclose(cloud.mean(0), center, atol=0.03)
        assert torch.allclose(cloud.std(0), torch.full((2,), SPREAD), atol=0.03)


def test_more_steps_converge_and_midpoint_is_of_higher_order() -> None:
    noise = torch.randn(500, 2, generator=seeded(5))
    exact = sample(closed_form, noise, 2000, "midpoint")
    euler, midpoint = (
        [(sample(closed_form, noise, steps, name) - exact).norm(dim=1).median() for steps in (5, 10, 20, 40, 80)]
        for name in ("euler", "midpoint")
    )
    for errors in (euler, midpoint):
        assert all(later < earlier for earlier, later in pairwise(errors)), errors
    assert euler[-2] / euler[-1] == pytest.approx(2, rel=0.2)  # first order: half the step, half the error
    assert midpoint[-2] / midpoint[-1] == pytest.approx(4, rel=0.35)  # second order
    assert midpoint[2] < euler[2] / 2


def test_guidance_moves_away_from_the_unconditional_field() -> None:
    one, other = (lambda x, t: x + 1), (lambda x, t: x - 1)
    x, t = torch.zeros(2, 3), torch.zeros(2)
    assert guided(one, other, 0.0) is one
    assert torch.equal(guided(one, other, 0.5)(x, t), torch.full((2, 3), 2.0))  # 1.5 * 1 - 0.5 * -1


@pytest.mark.parametrize(("steps", "sampler"), [(0, "euler"), (4, "heun")])
def test_a_sampler_that_is_not_there_is_an_error(steps: int, sampler: str) -> None:
    with pytest.raises(ValueError, match="at least one step of euler, midpoint"):
        sample(closed_form, torch.zeros(1, 2), steps, sampler)


def test_paths_agree_with_torchcfm() -> None:
    """Its target conditional flow matcher: the same x_t from the same noise, the same velocity."""
    torchcfm = pytest.importorskip("torchcfm.conditional_flow_matching")
    matcher = torchcfm.TargetConditionalFlowMatcher(sigma=SIGMA)
    data, noise = torch.randn(6, 2, generator=seeded()), torch.randn(6, 2, generator=seeded(1))
    t = torch.rand(6, generator=seeded(2)) * 0.95
    x, target = on_path(data, noise, t)
    theirs = matcher.sample_xt(noise, data, t, noise)
    assert torch.allclose(x, theirs, atol=1e-6)
    assert torch.allclose(target, matcher.compute_conditional_flow(noise, data, t, theirs), atol=1e-4)


@pytest.mark.parametrize("sampler", ["euler", "midpoint"])
def test_samplers_agree_with_torchdiffeq(sampler: str) -> None:
    torchdiffeq = pytest.importorskip("torchdiffeq")
    noise = torch.randn(50, 2, generator=seeded(8))
    times = torch.linspace(0, 1, 13)
    theirs = torchdiffeq.odeint(lambda t, x: closed_form(x, t.expand(len(x))), noise, times, method=sampler)[-1]
    assert torch.allclose(sample(closed_form, noise, 12, sampler), theirs, atol=1e-4)
