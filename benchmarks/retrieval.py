"""How fast is exact cosine search in one speaker's pool: faiss, torch, numpy, and what `pairs` runs?

    python benchmarks/retrieval.py --pool 15000 60000 --dim 128 1024 --queries 1024 --threads 1

Prints query frames per second and the ratio to faiss. Only bowerbird's result is independent of block size and threads (candidates by
float32, decided in float64); the column "same" is the share of frames with the same k neighbors as bowerbird's.

Letters: ``Q`` query frames, ``F`` frames of the pool, ``D`` dimension, ``k`` neighbors. The libraries are imported after the number
of threads is set: they read it then.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable


def main() -> None:
    """Compare all methods on every size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--pool", type=int, nargs="+", default=[3000, 15000, 60000], help="frames of the donor, 50 per second"
    )
    parser.add_argument("--dim", type=int, nargs="+", default=[128, 1024])
    parser.add_argument("--queries", type=int, default=1024)
    parser.add_argument("--k", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu", help="of torch and bowerbird; faiss and numpy stay on the CPU")
    options = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(options.threads)
    print(f"{'pool':>7}{'dim':>6}  {'method':<22}{'frames/s':>10}{'to faiss':>10}{'same':>8}")
    for dim in options.dim:
        for pool in options.pool:
            compare(pool, dim, options)


def compare(pool_frames: int, dim: int, options: argparse.Namespace) -> None:
    """Time all methods on one size and print its rows; the data are clusters with noise, like speech, stored as float16."""
    import numpy as np

    rng = np.random.default_rng(0)
    centers = rng.standard_normal((100, dim))
    pool, queries = (
        (centers[rng.integers(100, size=count)] + 0.5 * rng.standard_normal((count, dim))).astype(np.float16)
        for count in (pool_frames, options.queries)
    )
    methods = build_methods(pool, options)
    reference = np.sort(methods["bowerbird (exact)"](queries), axis=1)
    seconds, same = {}, {}
    for name, method in methods.items():
        same[name] = float((np.sort(method(queries), axis=1) == reference).all(axis=1).mean())
        seconds[name] = min(timed(method, queries) for _ in range(options.repeats))
    for name in methods:
        ratio = seconds["faiss IndexFlatIP"] / seconds[name]
        rate = options.queries / seconds[name]
        print(f"{pool_frames:>7}{dim:>6}  {name:<22}{rate:>10.0f}{ratio:>10.2f}{same[name]:>8.4f}", flush=True)


def build_methods(pool, options: argparse.Namespace) -> dict[str, Callable]:
    """Searches in ``pool`` ``(F, D)`` by name: queries ``(Q, D)`` to indices ``(Q, k)``.

    Preparing the pool is not timed, normalizing the queries is.
    """
    import faiss
    import numpy as np
    import torch

    from bowerbird.nn.nearest import SearchPool

    torch.set_num_threads(options.threads)
    faiss.omp_set_num_threads(options.threads)
    unit = pool.astype(np.float32)
    faiss.normalize_L2(unit)
    index = faiss.IndexFlatIP(pool.shape[1])
    index.add(unit)
    keys, prepared = torch.from_numpy(unit).to(options.device), SearchPool(pool, "cosine", options.device)

    def normalized(queries):
        wide = queries.astype(np.float32)
        faiss.normalize_L2(wide)
        return wide

    def by_torch(queries):
        scores = torch.from_numpy(normalized(queries)).to(options.device) @ keys.T
        return scores.topk(options.k, dim=1).indices.cpu().numpy()

    def by_numpy(queries):
        return np.argpartition(-(normalized(queries) @ unit.T), options.k, axis=1)[:, : options.k]

    return {
        "faiss IndexFlatIP": lambda queries: index.search(normalized(queries), options.k)[1],
        "torch matmul + topk": by_torch,
        "numpy argpartition": by_numpy,
        "bowerbird (exact)": lambda queries: prepared.nearest(queries, options.k)[0],
    }


def timed(method: Callable, queries) -> float:
    """Seconds of one search of ``queries`` ``(Q, D)``."""
    start = time.perf_counter()
    method(queries)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
