"""Pairs whose neighbors are searched in one space and read from another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from shards_fixture import CPU, TinyCorpus, tiny_corpus, write_corpus

from bowerbird.artifacts.pairs import PairShards
from bowerbird.artifacts.shards import Shards
from bowerbird.artifacts.tables import read_identity
from bowerbird.config.sections.pairs import PairsConfig
from bowerbird.errors import BowerbirdError
from bowerbird.nn.keys import join_spaces, unit, with_context
from bowerbird.stages.pairs.search import search_pairs

OPTIONS = PairsConfig(k=3, min_pool_s=1)


@pytest.fixture(scope="module")
def values(tmp_path_factory: pytest.TempPathFactory) -> TinyCorpus:
    return tiny_corpus(tmp_path_factory.mktemp("values"), speakers=6, utterances=3)


def another_space(values: TinyCorpus, root: Path, name: str, dim: int, shorter: int = 0) -> tuple[list[Path], dict]:
    """Feature shards ``features/<name>`` of the same utterances: paths and frames; ``shorter`` frames fewer at each end."""
    rng = np.random.default_rng(dim)
    frames = {u: rng.normal(size=(len(f) - shorter, dim)).astype(np.float16) for u, f in values.frames.items()}
    made = write_corpus(root / name, values.table, frames)
    folder = root / "features" / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    made.features[0].parent.rename(folder)
    return [folder / path.name for path in made.features], frames


def search(values: TinyCorpus, folder: Path, options: PairsConfig, keys: list[Path]) -> PairShards:
    paths = [folder / path.name for path in values.features]
    for number, path in enumerate(paths):
        search_pairs(values.manifest, values.features, path, number, options, CPU, keys)
    return PairShards(paths)


def test_neighbors_are_those_of_the_keys_and_rows_those_of_the_features(values: TinyCorpus, tmp_path: Path) -> None:
    one, frames_of_one = another_space(values, tmp_path, "one", 5, shorter=1)
    other, frames_of_other = another_space(values, tmp_path, "other", 7)
    options = OPTIONS.model_copy(update={"search": {"one": 1.0, "other": 2.0}, "context": 1})
    pairs, features = search(values, tmp_path / "pairs", options, [*one, *other]), Shards(values.features)

    def keys(utt_id: str) -> np.ndarray:
        joined = join_spaces([frames_of_one[utt_id], frames_of_other[utt_id]], [1.0, 2.0])
        filled = np.concatenate([joined, joined[-1:]])  # the last frame stands for the one that is missing
        return unit(with_context(filled, 1))

    for row, item in enumerate(pairs.index.itertuples()):
        donor = values.of_speaker(item.donor_speaker)
        similarity = keys(item.utt_id) @ np.concatenate([keys(u) for u in donor]).T
        best = np.argsort(-similarity, axis=1, kind="stable")[:, :3]
        pool = np.concatenate([values.frames[u] for u in donor]).astype(np.float32)
        np.testing.assert_allclose(pairs.retrieved(row, features), pool[best].mean(axis=1), atol=1e-5)
        assert len(pairs.indices(row)) == len(values.frames[item.utt_id])


def test_with_continuity_frames_follow_each_other_more_often(values: TinyCorpus, tmp_path: Path) -> None:
    def runs(continuity: float) -> float:
        options = OPTIONS.model_copy(update={"continuity": continuity})
        pairs = search(values, tmp_path / str(continuity), options, [])
        first = [pairs.indices(row)[:, 0] for row in range(len(pairs))]
        return float(np.concatenate([np.diff(rows) == 1 for rows in first]).mean())

    assert runs(0.5) > 2 * runs(0.0)


def test_the_record_says_what_was_searched(values: TinyCorpus, tmp_path: Path) -> None:
    one, _ = another_space(values, tmp_path, "one", 5)
    options = OPTIONS.model_copy(update={"search": {"one": 1.0}})
    pairs = search(values, tmp_path / "pairs", options, one)
    identity = read_identity(pairs.paths[0].with_suffix(".parquet"))
    assert identity["params"]["search"] == {"one": 1.0} and "search_keys" in identity["inputs"]


@pytest.mark.parametrize(
    ("wanted", "shorter", "message"),
    [
        ({"one": 1.0, "two": 1.0}, 0, "search: two: no shards of these features are given"),
        ({"two": 1.0}, 0, "one/shard-0000.npy: of none of the features two"),
        ({"one": 1.0}, 9, "frames there and .* in the features; search features of 50 frames per second"),
    ],
)
def test_keys_that_do_not_fit_are_named(
    values: TinyCorpus, tmp_path: Path, wanted: dict, shorter: int, message: str
) -> None:
    one, _ = another_space(values, tmp_path, "one", 5, shorter)
    with pytest.raises(BowerbirdError, match=message):
        search(values, tmp_path / "pairs", OPTIONS.model_copy(update={"search": wanted}), one)
