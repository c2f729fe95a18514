"""Keys of retrieval: joined spaces, context, and paths that run on in the reference."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from bowerbird.nn.keys import cheapest_path, join_spaces, nearest_with_continuity, unit, with_context
from bowerbird.nn.nearest import SearchPool


def frames(seed: int, count: int, dim: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return unit(a) @ unit(b).T


def test_the_cosine_of_joined_spaces_is_the_weighted_mean() -> None:
    one, other = (100 * frames(0, 6), 100 * frames(1, 8)), (frames(2, 6, 3), frames(3, 8, 3))
    joined = [join_spaces([a, b], [1.0, 3.0]) for a, b in zip(one, other)]
    expected = (cosines(*one) + 3 * cosines(*other)) / 4
    assert cosines(*joined) == pytest.approx(expected, abs=1e-5)


def test_one_space_stays_as_it_is_and_the_shorter_one_counts() -> None:
    rows = frames(0, 4).astype(np.float16)
    assert join_spaces([rows], [2.0]) is rows
    assert join_spaces([frames(0, 5), frames(1, 4)], [1, 1]).shape == (4, 10)


def test_the_cosine_of_neighborhoods_is_the_mean_along_the_diagonal() -> None:
    a, b = frames(0, 9), frames(1, 7)
    similarity, mean = cosines(a, b), cosines(with_context(a, 1), with_context(b, 1))
    assert mean[4, 3] == pytest.approx(np.mean([similarity[3, 2], similarity[4, 3], similarity[5, 4]]), abs=1e-5)
    assert mean[0, 3] == pytest.approx(np.mean([similarity[0, 2], similarity[0, 3], similarity[1, 4]]), abs=1e-5)
    assert with_context(a, 0) is a


def test_the_path_is_the_cheapest_of_all() -> None:
    pool, queries, jump = frames(0, 6), frames(1, 4), 0.3
    follows = np.array([False, True, True, False, True, True])  # two utterances of three frames
    distance = 1 - cosines(queries, pool).astype(np.float64)

    def cost(path: tuple[int, ...]) -> float:
        jumps = sum(not (b == a + 1 and follows[b]) for a, b in itertools.pairwise(path))
        return distance[range(4), path].sum() + jump * jumps

    best = min(itertools.product(range(6), repeat=4), key=cost)
    assert tuple(cheapest_path(SearchPool(pool), queries, jump, follows)) == best


def test_a_path_runs_on_where_jumps_cost_and_not_into_another_utterance() -> None:
    pool = frames(0, 40)
    follows = np.arange(40) % 20 != 0
    queries = pool[5:15] + 0.2 * frames(1, 10)
    assert cheapest_path(SearchPool(pool), queries, 1.0, follows).tolist() == list(range(5, 15))
    # frame 20 begins another utterance: to go on from 19 into it is a jump like any other
    assert cheapest_path(SearchPool(pool), pool[19:21], 0.01, follows).tolist() == [19, 20]
    assert cheapest_path(SearchPool(pool), pool[19:21], 9.0, follows).tolist() != [19, 20]
    allowed = np.arange(40) >= 20
    assert (cheapest_path(SearchPool(pool), queries, 0.3, follows, allowed) >= 20).all()


def test_the_other_neighbors_are_the_nearest_besides() -> None:
    pool, queries = frames(0, 30), frames(1, 12)
    follows = np.arange(30) > 0
    places, scores = nearest_with_continuity(SearchPool(pool), queries, 4, 0.5, follows)
    path, near = cheapest_path(SearchPool(pool), queries, 0.5, follows), SearchPool(pool).nearest(queries, 4)[0]
    assert np.array_equal(places[:, 0], path)
    for row, (first, *others) in enumerate(places.tolist()):
        assert others == [place for place in near[row] if place != first][:3]
        assert scores[row] == pytest.approx(cosines(queries[row : row + 1], pool[places[row]])[0], abs=1e-6)
    free, _ = nearest_with_continuity(SearchPool(pool), queries, 4, 0.0, follows)
    assert np.array_equal(free, near)
