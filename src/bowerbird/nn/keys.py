"""Keys: what frames are compared by in retrieval, where it is not the features themselves.

Letters: ``T`` frames of an utterance, ``m`` queries, ``P`` frames of a pool, ``D`` dimension, ``k`` neighbors.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bowerbird.nn.nearest import SearchPool

QUERIES_AT_ONCE = 256  # whose distances to the whole pool are held in memory


def join_spaces(spaces: Sequence[np.ndarray], weights: Sequence[float]) -> np.ndarray:
    """Keys ``(T, D)`` out of the frames of several spaces, ``(T, D_i)`` each.

    Their cosine is the mean of the spaces' cosines by ``weights``. One space stays as it is. Where encoders differ by a frame
    at the end, the shorter one counts.
    """
    if len(spaces) == 1:
        return spaces[0]
    frames = min(map(len, spaces))
    parts = [weight**0.5 * unit(space[:frames]) for space, weight in zip(spaces, weights, strict=True)]
    return np.concatenate(parts, axis=1)


def with_context(keys: np.ndarray, context: int) -> np.ndarray:
    """Keys ``(T, (2 context + 1) D)``: each frame of ``keys (T, D)`` with those around it; at the ends, the last one stands for more.

    Frames count by direction alone, so the cosine of two keys is the mean cosine of both neighborhoods.
    """
    if not context or not len(keys):
        return keys
    directions = unit(keys)
    places = np.arange(len(keys))[:, None] + np.arange(-context, context + 1)
    return directions[places.clip(0, len(keys) - 1)].reshape(len(keys), -1)


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows ``(T, D)`` float32 of length one; zeros stay zeros."""
    rows = rows.astype(np.float32)
    lengths = np.sqrt(np.einsum("td,td->t", rows, rows, dtype=np.float64))
    return (rows / np.maximum(lengths, np.finfo(np.float32).tiny)[:, None]).astype(np.float32)


def nearest_with_continuity(
    pool: SearchPool, queries: np.ndarray, k: int, jump: float, follows: np.ndarray, allowed: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """As `SearchPool.nearest`, where the first neighbor is that of the cheapest path through ``queries (m, D)``.

    A path costs the cosine distance of each frame, and ``jump`` wherever a frame is not the successor of the one before.
    ``follows (P,)`` is true for frames of the pool whose predecessor is the frame before them; ``allowed (P,)`` restricts the
    path too. The other k - 1 neighbors are the nearest ones besides.
    """
    path = cheapest_path(pool, queries, jump, follows, allowed)
    near, _ = pool.nearest(queries, k, allowed)
    is_there = near == path[:, None]
    last = np.where(is_there.any(axis=1), is_there.argmax(axis=1), k - 1)  # gives way to the path's frame
    shifted = np.concatenate([path[:, None], near], axis=1)
    keep = np.ones(shifted.shape, bool)
    keep[np.arange(len(near)), last + 1] = False
    chosen = shifted[keep].reshape(len(near), k)
    return chosen, pool.score(queries, chosen)


def cheapest_path(
    pool: SearchPool, queries: np.ndarray, jump: float, follows: np.ndarray, allowed: np.ndarray | None = None
) -> np.ndarray:
    """The pool's frame int64 ``(m,)`` for each query on the cheapest path (Viterbi 1967); see `nearest_with_continuity`."""
    banned = np.zeros(len(pool), bool) if allowed is None else ~allowed
    came_from_jump = np.zeros((len(queries), len(pool)), bool)
    best_before = np.zeros(len(queries), np.int64)
    costs = np.zeros(len(pool))
    for number in range(len(queries)):
        if number % QUERIES_AT_ONCE == 0:
            distances = 1.0 - pool.similarities(queries[number : number + QUERIES_AT_ONCE])
        distance = np.where(banned, np.inf, distances[number % QUERIES_AT_ONCE])
        if number:
            best_before[number] = costs.argmin()
            jumped = costs[best_before[number]] + jump
            following = np.where(follows, np.concatenate([[np.inf], costs[:-1]]), np.inf)
            came_from_jump[number] = jumped < following
            costs = distance + np.minimum(jumped, following)
        else:
            costs = distance
    path = np.zeros(len(queries), np.int64)
    place = int(costs.argmin()) if len(queries) else 0
    for number in range(len(queries) - 1, -1, -1):
        path[number] = place
        place = int(best_before[number]) if came_from_jump[number, place] else place - 1
    return path
