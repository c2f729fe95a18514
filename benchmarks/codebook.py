"""How do the K-means of `codebook` compare with those of scikit-learn and faiss, at their defaults, on the same frames?

    python benchmarks/codebook.py --frames 50000 --dim 128 --codes 256

Prints seconds, inertia relative to bowerbird's, and the number of empty clusters. By default faiss starts from random frames and
fits on at most 256 frames per code. scikit-learn is slow, and left out where it is not installed.

Letters: ``T`` frames, ``D`` dimension, ``K`` codes.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable

import numpy as np

from bowerbird.config.sections.codebook import CodebookConfig
from bowerbird.nn.nearest import SearchPool
from bowerbird.stages.codebook.kmeans import fit_kmeans

Fit = Callable[[np.ndarray], np.ndarray]  # frames (T, D) to centroids (K, D)


def main() -> None:
    """Fit with every method, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=50_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--codes", type=int, default=256)
    parser.add_argument("--iterations", type=int, default=25)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((2 * options.codes, options.dim))
    noise = 0.7 * rng.standard_normal((options.frames, options.dim))
    frames = (centers[rng.integers(len(centers), size=options.frames)] + noise).astype(np.float32)
    results = {}
    for name, fit in methods(options).items():
        start = time.perf_counter()
        centroids = fit(frames)
        results[name] = (time.perf_counter() - start, *score(frames, centroids))
    reference = results["bowerbird kmeans++"][1]
    print(f"{'method':<26}{'seconds':>9}{'inertia':>10}{'empty':>7}")
    for name, (seconds, inertia, empty) in results.items():
        print(f"{name:<26}{seconds:>9.2f}{inertia / reference:>10.4f}{empty:>7}")


def methods(options: argparse.Namespace) -> dict[str, Fit]:
    """The methods that are installed, by name."""
    config = CodebookConfig(num_codes=options.codes, iterations=options.iterations)

    def by_faiss(frames: np.ndarray) -> np.ndarray:
        import faiss

        faiss.omp_set_num_threads(1)
        kmeans = faiss.Kmeans(frames.shape[1], options.codes, niter=options.iterations, seed=0)
        kmeans.train(frames)
        return kmeans.centroids

    def by_sklearn(frames: np.ndarray) -> np.ndarray:
        from sklearn.cluster import KMeans

        kmeans = KMeans(options.codes, n_init=1, max_iter=options.iterations, tol=0, random_state=0, algorithm="lloyd")
        return kmeans.fit(frames).cluster_centers_.astype(np.float32)

    found: dict[str, Fit] = {
        "bowerbird kmeans++": lambda frames: fit_kmeans(frames, config).centroids,
        "bowerbird random": lambda frames: fit_kmeans(frames, config.model_copy(update={"init": "random"})).centroids,
        "faiss defaults": by_faiss,
    }
    if importlib.util.find_spec("sklearn"):
        found["scikit-learn kmeans++"] = by_sklearn
    return found


def score(frames: np.ndarray, centroids: np.ndarray) -> tuple[float, int]:
    """Inertia of ``(T, D)`` and the number of empty clusters, by exact assignment to centroids ``(K, D)``."""
    codes = SearchPool(centroids, "euclidean").best(frames)
    inertia = sum(
        float(((part - centroids[codes[start : start + len(part)]]) ** 2).sum(dtype=np.float64))
        for start in range(0, len(frames), 8192)
        for part in [frames[start : start + 8192]]
    )
    return inertia, len(centroids) - len(np.unique(codes))


if __name__ == "__main__":
    main()
