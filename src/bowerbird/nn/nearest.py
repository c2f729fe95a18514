"""Exact nearest neighbors whose answer does not depend on how they were computed.

A float32 matrix product rounds differently with another block size, another number of threads or another device,
and near ties then come out in another order. Here the float32 product only proposes candidates; their scores are
computed again in float64, and a row whose proposal cannot be *proven* to hold the true neighbors (by the rounding
bound of a float32 dot product) is searched among everything the bound leaves open. Ties go to the lower index.

Letters: ``P`` vectors of the pool, ``m`` queries, ``D`` their dimension, ``k`` neighbors, ``c`` candidates.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Metric = Literal["cosine", "euclidean"]

SPARE_CANDIDATES = 8  # proposed beyond k
SCORES_AT_ONCE = 1 << 24  # 64 MiB of float32
GROUP_COLUMNS = 32  # columns whose maximum stands for them in the first pass of `_top`
UNIT_ROUNDOFF = 2.0**-24  # of float32
VALUES_AT_ONCE = 1 << 18  # float64 values on the CPU (2 MiB: they stay in the cache)


class SearchPool:
    """Vectors ``(P, D)`` to search in, prepared once for many queries.

    ``metric`` "cosine" scores by ``q·p / (|q| |p|)``; "euclidean" by ``q·p - |p|²/2``, whose largest value is the
    smallest distance (``|q - p|² = |q|² - 2 score``). A zero vector has cosine 0 to everything. Raises `ValueError` if
    a value is not finite.
    """

    def __init__(self, vectors: np.ndarray, metric: Metric = "cosine", device: torch.device | str = "cpu") -> None:
        self.device, self.metric = torch.device(device), metric
        self.vectors = _to_tensor(vectors, self.device)
        self.norms = _norms(self.vectors)
        if not torch.isfinite(self.norms).all():
            raise ValueError("the pool holds values that are not finite")
        self.keys = _unit(self.vectors, self.norms) if metric == "cosine" else self.vectors.float()
        self._bias = None if metric == "cosine" else (-0.5 * self.norms.square()).float()

    def __len__(self) -> int:
        """Vectors in the pool."""
        return len(self.vectors)

    def nearest(self, queries: np.ndarray, k: int, allowed: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The k best for each of ``queries (m, D)``: indices ``(m, k)`` int64 and scores ``(m, k)`` float64.

        The best comes first. ``allowed (P,)`` bool restricts the search to a part of the pool. Raises `ValueError` if
        that part holds fewer than k vectors.
        """
        banned = None if allowed is None else torch.from_numpy(~allowed).to(self.device)
        available = len(self) if allowed is None else int(allowed.sum())
        if not 1 <= k <= available:
            raise ValueError(f"{k} neighbors of a pool of {available}")
        query = _to_tensor(queries, self.device)
        indices = torch.empty(len(query), k, dtype=torch.int64, device=self.device)
        scores = torch.empty(len(query), k, dtype=torch.float64, device=self.device)
        for rows in _blocks(len(query), SCORES_AT_ONCE // len(self)):
            indices[rows], scores[rows] = self._nearest_block(query[rows], k, banned)
        return indices.cpu().numpy(), scores.cpu().numpy()

    def best(self, queries: np.ndarray) -> np.ndarray:
        """The single best for each of ``queries (m, D)``: indices ``(m,)`` int64, those of ``nearest(queries, 1)``.

        Exact scores are computed only where the two best are too close for float32 to tell them apart.
        """
        query = _to_tensor(queries, self.device)
        if len(self) == 1:
            return np.zeros(len(query), dtype=np.int64)
        indices = torch.empty(len(query), dtype=torch.int64, device=self.device)
        for rows in _blocks(len(query), SCORES_AT_ONCE // len(self)):
            block = query[rows]
            norms = _norms(block)
            top, places = self._scores(block, norms).topk(2, dim=1)
            best = places[:, 0]
            close = (top[:, 0] - top[:, 1]).double() <= 2 * self._tolerance(norms)
            if close.any():
                best[close] = self._nearest_block(block[close], 1, None)[0][:, 0]
            indices[rows] = best
        return indices.cpu().numpy()

    def score(self, queries: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """Exact scores float64 ``(m, c)`` of ``queries (m, D)`` with given members ``indices (m, c)`` of the pool."""
        query = _to_tensor(queries, self.device)
        return self._exact(query, _norms(query), torch.from_numpy(indices).to(self.device)).cpu().numpy()

    def similarities(self, queries: np.ndarray) -> np.ndarray:
        """Cosines of ``queries (m, D)`` with the whole pool, float64 ``(m, P)``, to nine places: the rest is rounding."""
        query = _to_tensor(queries, self.device).double()
        norms = (_norms(query)[:, None] * self.norms).clamp_min(torch.finfo(torch.float64).tiny)
        return (query @ self.vectors.double().T / norms).cpu().numpy().round(9)

    def _nearest_block(self, query: Tensor, k: int, banned: Tensor | None) -> tuple[Tensor, Tensor]:
        """`nearest` for a block ``(m, D)`` whose scores fit in memory; ``banned (P,)`` is true for vectors left out."""
        norms = _norms(query)
        rough = self._scores(query, norms)
        if banned is not None:
            rough[:, banned] = -torch.inf
        count = min(k + SPARE_CANDIDATES, len(self))
        values, candidates = _top(rough, count)
        candidates, order = candidates.sort(dim=1)  # a stable sort by score then leaves ties in order of index
        exact = self._exact(query, norms, candidates)
        exact[torch.isinf(values.gather(1, order))] = -torch.inf
        scores, order = exact.sort(dim=1, descending=True, stable=True)
        indices, scores = candidates.gather(1, order)[:, :k], scores[:, :k]
        if count < len(self):
            tolerance = self._tolerance(norms)
            unproven = scores[:, -1] <= values[:, -1].double() + tolerance
            for row in unproven.nonzero()[:, 0].tolist():
                open_ = (rough[row].double() >= scores[row, -1] - tolerance[row]).nonzero()[:, 0]
                all_ = self._exact(query[row : row + 1], norms[row : row + 1], open_[None])[0]
                scores[row], order = (item[:k] for item in all_.sort(descending=True, stable=True))
                indices[row] = open_[order]
        return indices, scores

    def _scores(self, query: Tensor, norms: Tensor) -> Tensor:
        """Float32 scores ``(m, P)`` of ``query (m, D)`` with ``norms (m,)``, right to within `_tolerance`."""
        with _full_precision():
            if self._bias is None:
                return _unit(query, norms) @ self.keys.T
            return torch.addmm(self._bias, query.float(), self.keys.T)

    def _exact(self, query: Tensor, norms: Tensor, indices: Tensor) -> Tensor:
        """Float64 scores ``(m, c)`` of ``query (m, D)``, of ``norms (m,)``, with the vectors ``indices (m, c)``."""
        dots = torch.empty(indices.shape, dtype=torch.float64, device=self.device)
        for rows in _blocks(
            len(query), _values_at_once(self.device) // (self.vectors.shape[1] * max(1, indices.shape[1]))
        ):
            members = self.vectors[indices[rows]].double()
            dots[rows] = members.mul_(query[rows].double()[:, None]).sum(-1)
        if self.metric == "cosine":
            return dots / (norms[:, None] * self.norms[indices]).clamp_min(torch.finfo(torch.float64).tiny)
        return dots - 0.5 * self.norms[indices].square()

    def _tolerance(self, norms: Tensor) -> Tensor:
        """Bound ``(m,)`` on the error of a float32 score: ``|fl(x·y) - x·y| <= dim u |x| |y|``, whatever the order."""
        unit = (self.vectors.shape[1] + 8) * UNIT_ROUNDOFF
        if self.metric == "cosine":
            return torch.full_like(norms, unit)
        largest = self.norms.max()
        return unit * (norms * largest + largest.square())


def _top(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """`torch.topk` of wide rows ``(m, P)``: values and columns ``(m, count)``.

    The best ``count`` of a row lie in the ``count`` groups of best maxima.
    """
    width = scores.shape[1]
    groups = width // GROUP_COLUMNS
    if groups < 4 * count:
        return scores.topk(count, dim=1)
    whole = groups * GROUP_COLUMNS
    folded = scores[:, :whole].view(len(scores), GROUP_COLUMNS, groups)  # a group is a stride: one vectorized maximum
    kept = folded.amax(dim=1).topk(count, dim=1).indices
    places = (kept[:, None, :] + groups * torch.arange(GROUP_COLUMNS, device=scores.device)[None, :, None]).flatten(1)
    if whole < width:
        rest = torch.arange(whole, width, device=scores.device).expand(len(scores), -1)
        places = torch.cat([places, rest], dim=1)
    values, order = scores.gather(1, places).topk(count, dim=1)
    return values, places.gather(1, order)


@contextmanager
def _full_precision() -> Iterator[None]:
    """No TF32 or bfloat16 inside float32 products, whatever the rest of the process asked for."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _values_at_once(device: torch.device) -> int:
    """Float64 values to work on at a time on a device."""
    return VALUES_AT_ONCE if device.type == "cpu" else 64 * VALUES_AT_ONCE


def _blocks(total: int, size: int) -> list[slice]:
    """Slices of at most ``size`` rows, at least one, that cover ``total`` rows."""
    size = max(1, size)
    return [slice(start, min(start + size, total)) for start in range(0, total, size)]


def _to_tensor(vectors: np.ndarray, device: torch.device) -> Tensor:
    """A tensor ``(n, D)`` of the same type, so that nothing is lost; a read-only memory map is copied."""
    array = np.ascontiguousarray(vectors)
    return torch.from_numpy(array if array.flags.writeable else array.copy()).to(device)


def _norms(vectors: Tensor) -> Tensor:
    """Euclidean norms, float64 ``(n,)``, of vectors ``(n, D)``."""
    rows_at_once = _values_at_once(vectors.device) // max(1, vectors.shape[1])
    norms = [
        vectors[rows].to(torch.float64, copy=True).square_().sum(-1).sqrt()
        for rows in _blocks(len(vectors), rows_at_once)
    ]
    return torch.cat(norms) if norms else torch.zeros(0, dtype=torch.float64, device=vectors.device)


def _unit(vectors: Tensor, norms: Tensor) -> Tensor:
    """Vectors ``(n, D)`` of length one, float32; zero vectors stay zero."""
    return vectors.to(torch.float32, copy=True).div_(norms.float().clamp_min(torch.finfo(torch.float32).tiny)[:, None])
