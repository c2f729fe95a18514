"""Residual vector quantization: codebooks by moving averages, levels, gradients."""

from __future__ import annotations

import pytest
import torch
from tensors import noise

from bowerbird.nn.rvq import EmaCodebook, ResidualQuantizer


def test_the_codebook_starts_from_k_means_and_follows_the_data() -> None:
    torch.manual_seed(0)
    centres = 10 * noise(6, 3)
    codebook = EmaCodebook(24, 3, decay=0.5)
    vectors = centres.repeat(40, 1) + 0.1 * noise(240, 3, seed=1)
    for _ in range(20):
        codebook(vectors)
    assert torch.cdist(centres, codebook.centroids).min(1).values.max() < 0.25
    for _ in range(40):
        codebook(vectors + 1.0)
    assert torch.cdist(centres + 1.0, codebook.centroids).min(1).values.max() < 0.25


def test_dead_codes_start_again_and_none_move_in_evaluation() -> None:
    torch.manual_seed(0)
    codebook = EmaCodebook(16, 3, decay=0.8)
    for step in range(60):
        codebook(noise(64, 3, seed=step))
    with torch.no_grad():
        codebook.centroids[3:], codebook.sums[3:] = 100.0, 100.0 * codebook.usage[3:, None]
    assert codebook(noise(500, 3))[1].unique().numel() <= 3
    for step in range(60):
        codebook(noise(64, 3, seed=100 + step))
    codebook.eval()
    before = codebook.centroids.clone()
    assert codebook(noise(500, 3))[1].unique().numel() == 16
    assert torch.equal(codebook.centroids, before)


def test_each_level_quantizes_what_is_left_and_gradients_pass_straight_through() -> None:
    torch.manual_seed(0)
    quantizer = ResidualQuantizer(3, 16, 4)
    vectors = noise(200, 4).requires_grad_(True)
    for _ in range(5):
        quantizer(vectors.detach())
    quantizer.eval()
    quantized = quantizer(vectors[:50].view(5, 10, 4))
    assert quantized.codes.shape == (5, 10, 3)
    errors = [
        float(
            (
                vectors[:50]
                - sum(
                    level.centroids[quantized.codes.view(50, 3)[:, n]]
                    for n, level in enumerate(list(quantizer.levels)[:depth])
                )
            )
            .square()
            .mean()
            .detach()
        )
        for depth in (1, 2, 3)
    ]
    assert errors[0] > errors[1] > errors[2]
    assert float(quantized.commitment.detach()) == pytest.approx(sum(errors), rel=1e-4)
    weights = noise(5, 10, 4, seed=9)
    (quantized.vectors * weights).sum().backward()
    assert torch.allclose(vectors.grad[:50], weights.view(50, 4))
