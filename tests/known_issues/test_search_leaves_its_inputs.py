"""A search in float64 squared the caller's vectors in place: `.double()` copies nothing that is float64 already."""

from __future__ import annotations

import numpy as np

from bowerbird.nn.nearest import SearchPool


def test_vectors_and_queries_in_float64_are_left_as_they_are() -> None:
    generator = np.random.default_rng(0)
    vectors, queries = generator.normal(size=(40, 6)), generator.normal(size=(9, 6))
    before = vectors.copy(), queries.copy()
    pool = SearchPool(vectors)
    places, scores = pool.nearest(queries, 3)
    pool.best(queries), pool.score(queries, places), pool.similarities(queries)
    assert np.array_equal(vectors, before[0]) and np.array_equal(queries, before[1])
    cosines = queries @ vectors.T / np.linalg.norm(queries, axis=1)[:, None] / np.linalg.norm(vectors, axis=1)
    assert np.array_equal(places, np.argsort(-cosines, axis=1)[:, :3])
    np.testing.assert_allclose(scores, np.take_along_axis(cosines, places, axis=1), atol=1e-12)
