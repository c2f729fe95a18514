"""Linear probes: what is in the rows is found, what is not is at the chance level."""

from __future__ import annotations

import pytest
import torch

from bowerbird.nn.linear_probe import LabeledRows, linear_probe, second_means


def rows(values: torch.Tensor, labels: torch.Tensor) -> LabeledRows:
    """Two thirds of the rows to fit on."""
    return LabeledRows(values, {"speaker": labels}, torch.arange(len(values)) < 2 * len(values) // 3)


def test_a_probe_of_noise_is_at_its_chance_level() -> None:
    generator = torch.Generator().manual_seed(0)
    values, labels = torch.randn(900, 8, generator=generator), torch.randint(3, (900,), generator=generator)
    score = linear_probe(rows(values, labels), "speaker")
    assert score.accuracy == pytest.approx(1 / 3, abs=0.08)
    assert score.chance_level == pytest.approx(1 / 3, abs=0.08)
    assert (score.num_classes, score.num_fitted, score.num_tested) == (3, 600, 300)


def test_a_probe_finds_what_is_there_at_any_scale_and_twice_the_same() -> None:
    labels = torch.arange(300) % 3
    values = torch.nn.functional.one_hot(labels, 4) * torch.tensor([1e4, 1e4, 1e4, 1.0]) - 7e3
    score = linear_probe(rows(values, labels), "speaker")
    assert score.accuracy == 1.0
    torch.rand(5)
    assert linear_probe(rows(values, labels), "speaker") == score


def test_the_chance_level_is_that_of_the_commonest_fitted_class() -> None:
    labels = torch.cat([torch.zeros(40), torch.ones(20), torch.zeros(6), torch.ones(24)]).long()
    assert linear_probe(rows(torch.zeros(90, 2), labels), "speaker").chance_level == pytest.approx(6 / 30)


def test_rows_are_joined_in_order() -> None:
    parts = [LabeledRows.alike(torch.full((2, 1), float(n)), {"speaker": n}, n == 0) for n in range(2)]
    joined = LabeledRows.join(parts)
    assert joined.values[:, 0].tolist() == joined.labels["speaker"].tolist() == [0, 0, 1, 1]
    assert joined.is_fitted.tolist() == [True, True, False, False] and joined.can_be_probed
    assert not parts[0].can_be_probed and not parts[1].can_be_probed


def test_means_of_seconds_begin_with_start_and_leave_out_less_than_half_a_second() -> None:
    values = torch.arange(160.0)[:, None]
    assert second_means(values, 0, 150)[:, 0].tolist() == [24.5, 74.5, 124.5]
    assert second_means(values, 10, 135)[:, 0].tolist() == [34.5, 84.5]
    assert second_means(values, 0, 25).shape == (0, 1)
