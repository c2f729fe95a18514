"""K-means: several starts, Lloyd iterations by faiss, and no cluster left empty.

Letters: ``n`` frames of the sample, ``D`` feature dimension, ``K`` codes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from bowerbird.config.sections.codebook import CodebookConfig
from bowerbird.errors import BowerbirdError
from bowerbird.nn.nearest import SearchPool
from bowerbird.stages.codebook.usage import perplexity

logger = logging.getLogger(__name__)

FRAMES_AT_ONCE = 8192  # that are assigned
START_FRAMES_PER_CODE = 64  # k-means++ chooses its start among this many frames per code


@dataclass(frozen=True)
class KMeansFit:
    """One fit; its inertia is the sum of the squared distances of all frames to their nearest centroid."""

    centroids: np.ndarray  # (K, D) float32
    sizes: np.ndarray  # (K,) int64
    inertia_per_cluster: np.ndarray  # (K,) float32
    inertia_per_iteration: list[float]
    repaired: int  # empty clusters that were given a frame of another cluster
    restart_inertias: list[float] = field(default_factory=list)

    @property
    def inertia(self) -> float:
        """Inertia of the whole fit."""
        return float(self.inertia_per_cluster.sum(dtype=np.float64))

    def stats(self) -> dict[str, Any]:
        """The statistics of the fit that its artifact records."""
        return {
            "sample_frames": int(self.sizes.sum()),
            "inertia": self.inertia,
            "inertia_per_iteration": self.inertia_per_iteration,
            "restart_inertias": self.restart_inertias,
            "repaired_clusters": self.repaired,
            "perplexity": perplexity(self.sizes),
            "dead_codes": int((self.sizes == 0).sum()),
            "smallest_cluster": int(self.sizes.min()),
            "median_cluster": float(np.median(self.sizes)),
            "largest_cluster": int(self.sizes.max()),
        }


def fit_kmeans(frames: np.ndarray, options: CodebookConfig, device: torch.device | str = "cpu") -> KMeansFit:
    """The best of ``options.restarts`` fits of K-means to ``frames (n, D)`` float32, by inertia.

    On the CPU the result has the same bytes for any number of threads: faiss runs the Lloyd iterations on one. Raises
    `BowerbirdError` where there are fewer frames, or fewer distinct ones, than codes.
    """
    num_codes = options.num_codes
    if num_codes > len(frames):
        raise BowerbirdError(
            f"codebook.<name>.num_codes: {num_codes}: more codes than the {len(frames)} sampled "
            "frames; lower it, raise sample_frames, or add training speech"
        )
    distinct = count_distinct(frames, num_codes)
    if distinct < num_codes:
        raise BowerbirdError(
            f"codebook.<name>.num_codes: {num_codes}: the {len(frames)} sampled frames hold only "
            f"{distinct} distinct vectors; lower it, or look for silent or repeated audio"
        )
    fits = []
    for restart in range(options.restarts):
        rng = np.random.default_rng([options.seed, restart])
        with _one_thread():
            start = choose_start(frames, num_codes, options.init, rng)
            centroids, history = _lloyd(frames, start, options, restart, torch.device(device))
        fits.append(_finish(frames, centroids, history, device))
        logger.info("restart %d of %d: inertia %.6g", restart + 1, options.restarts, fits[-1].inertia)
    best = min(fits, key=lambda fit: fit.inertia)
    return replace(best, restart_inertias=[fit.inertia for fit in fits])


def choose_start(frames: np.ndarray, num_codes: int, init: str, rng: np.random.Generator) -> np.ndarray:
    """Start centroids ``(K, D)`` out of ``frames (n, D)``: random ones, or greedy k-means++ among at most 64 K of them.

    k-means++ (Arthur and Vassilvitskii 2007) draws each start in proportion to the squared distance to the nearest
    start so far; the greedy form takes, of ``2 + ln K`` such draws, the one that lowers the inertia most.
    """
    if init == "random":
        return frames[np.sort(rng.choice(len(frames), num_codes, replace=False))]
    if len(frames) > START_FRAMES_PER_CODE * num_codes:
        frames = frames[np.sort(rng.choice(len(frames), START_FRAMES_PER_CODE * num_codes, replace=False))]
    points = torch.from_numpy(frames)
    squares = points.square().sum(1)
    draws = 2 + int(np.log(num_codes))
    chosen = [int(rng.integers(len(frames)))]
    nearest = _squared_distances(points, squares, chosen)[:, 0]
    while len(chosen) < num_codes:
        mass = nearest.double().cumsum(0)
        if mass[-1] <= 0:  # there are fewer distinct frames here than codes: the repair after the fit finds others
            chosen.append(int(rng.integers(len(frames))))
            continue
        drawn = torch.searchsorted(mass, torch.from_numpy(rng.random(draws)) * mass[-1], right=True)
        candidates = drawn.clamp_max(len(frames) - 1).tolist()
        distances = torch.minimum(_squared_distances(points, squares, candidates), nearest[:, None])
        best = int(distances.sum(0, dtype=torch.float64).argmin())
        chosen.append(candidates[best])
        nearest = distances[:, best].contiguous()
    return frames[chosen]


def _squared_distances(points: torch.Tensor, squares: torch.Tensor, rows: list[int]) -> torch.Tensor:
    """Squared distances ``(n, r)`` of all ``points (n, D)`` to the ``r`` in ``rows``; exactly 0 of a point to itself.

    ``squares (n,)`` are the points' squared lengths.
    """
    distances = (squares[:, None] - 2 * (points @ points[rows].T) + squares[rows]).clamp_min_(0)
    distances[rows, range(len(rows))] = 0
    return distances


def _lloyd(
    frames: np.ndarray, start: np.ndarray, options: CodebookConfig, restart: int, device: torch.device
) -> tuple[np.ndarray, list[float]]:
    """Lloyd iterations by faiss, on the GPU where faiss can: centroids ``(K, D)``, and the inertia before each iteration.

    ``frames (n, D)`` and ``start (K, D)`` are float32. faiss stops early when nothing moves any more, and splits empty
    clusters on the way.
    """
    import faiss

    gpu = device.type == "cuda" and hasattr(faiss, "StandardGpuResources")
    if device.type == "cuda" and not gpu:
        logger.info("K-means runs on the CPU: this faiss is built without GPU support (extra: gpu)")
    kmeans = faiss.Kmeans(
        frames.shape[1],
        options.num_codes,
        niter=options.iterations,
        gpu=1 if gpu else False,
        seed=(options.seed + restart) % 2**31,
        min_points_per_centroid=1,
        max_points_per_centroid=len(frames),
    )
    kmeans.train(frames, init_centroids=np.ascontiguousarray(start, dtype=np.float32))
    history = [step["obj"] for step in kmeans.iteration_stats or []]
    return np.array(kmeans.centroids, dtype=np.float32), [float(value) for value in history]


def _finish(frames: np.ndarray, centroids: np.ndarray, history: list[float], device: torch.device | str) -> KMeansFit:
    """The fit with exact sizes and inertia of ``frames (n, D)``, after each empty one of ``centroids (K, D)`` got a frame.

    An empty cluster takes the farthest frame of the cluster of largest inertia. Each round lowers the total inertia, so the
    loop ends.
    """
    repaired = 0
    for _ in range(len(centroids) + 1):
        codes, distances = _assign(frames, centroids, device)
        sizes = np.bincount(codes, minlength=len(centroids))
        inertia = np.bincount(codes, weights=distances, minlength=len(centroids))
        empty = np.flatnonzero(sizes == 0)
        if not len(empty):
            return KMeansFit(centroids, sizes.astype(np.int64), inertia.astype(np.float32), history, repaired)
        centroids = _means(frames, codes, centroids)
        distances = ((frames - centroids[codes]).astype(np.float64) ** 2).sum(axis=1)
        for code in empty:
            largest = np.argmax(np.bincount(codes, weights=distances, minlength=len(centroids)))
            members = np.flatnonzero(codes == largest)
            farthest = members[np.argmax(distances[members])]
            centroids[code] = frames[farthest]
            codes[farthest], distances[farthest] = code, 0.0
        repaired += len(empty)
    raise BowerbirdError(
        f"codebook.<name>.num_codes: {len(centroids)}: {len(empty)} clusters stay empty; "
        "lower it: the sampled frames have too few distinct values"
    )


def _assign(frames: np.ndarray, centroids: np.ndarray, device: torch.device | str) -> tuple[np.ndarray, np.ndarray]:
    """Code int64 ``(n,)`` of each of ``frames (n, D)``, and its squared distance float64 ``(n,)`` to that centroid."""
    pool = SearchPool(centroids, "euclidean", device)
    codes, distances = np.empty(len(frames), np.int64), np.empty(len(frames), np.float64)
    for start in range(0, len(frames), FRAMES_AT_ONCE):
        part = slice(start, start + FRAMES_AT_ONCE)
        codes[part] = pool.best(frames[part])
        distances[part] = ((frames[part].astype(np.float64) - centroids[codes[part]]) ** 2).sum(axis=1)
    return codes, distances


def _means(frames: np.ndarray, codes: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Mean ``(K, D)`` of each cluster's ``frames (n, D)``, by ``codes (n,)``; an empty cluster keeps its centroid."""
    result = centroids.copy()
    order = np.argsort(codes, kind="stable")
    used, starts = np.unique(codes[order], return_index=True)
    for code, members in zip(used, np.split(order, starts[1:]), strict=True):
        result[code] = frames[members].mean(axis=0, dtype=np.float64)
    return result


def count_distinct(frames: np.ndarray, enough: int) -> int:
    """Number of distinct rows in ``frames (n, D)``, counted no further than ``enough``."""
    seen: set[bytes] = set()
    for frame in frames:
        seen.add(frame.tobytes())
        if len(seen) >= enough:
            break
    return len(seen)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Run faiss and torch on one thread, so that sums are taken in one order."""
    import faiss

    before = faiss.omp_get_max_threads(), torch.get_num_threads()
    faiss.omp_set_num_threads(1)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before[0])
        torch.set_num_threads(before[1])
