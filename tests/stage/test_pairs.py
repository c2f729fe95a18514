"""Retrieval pairs: who is paired with whom, the neighbors, and how good they are."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from shards_fixture import CPU, tiny_corpus, write_corpus

from bowerbird.artifacts.pairs import PairShards
from bowerbird.artifacts.shards import Shards
from bowerbird.artifacts.tables import read_identity, read_table
from bowerbird.config.sections.codebook import CodebookConfig
from bowerbird.config.sections.pairs import PairsConfig
from bowerbird.errors import BowerbirdError
from bowerbird.nn.nearest import SearchPool
from bowerbird.stages.codebook.assign import assign_units
from bowerbird.stages.codebook.fit import fit_codebook
from bowerbird.stages.pairs.plan import plan_pairs
from bowerbird.stages.pairs.quality import quality_table, summarize_pairs
from bowerbird.stages.pairs.search import random_members, search_pairs
from bowerbird.stages.pairs.speech import PairableSpeech, draw_distinct

OPTIONS = PairsConfig(k=4, min_pool_s=1)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return tiny_corpus(tmp_path_factory.mktemp("pairs"), speakers=12)


def search(corpus, folder, options=OPTIONS, runtime=CPU):
    """Search all shards of ``corpus``; paths of the pairs."""
    paths = [folder / path.name for path in corpus.features]
    for number, path in enumerate(paths):
        search_pairs(corpus.manifest, corpus.features, path, number, options, runtime)
    return paths


def digests(paths):
    files = [f for p in paths for f in (p, p.with_suffix(".parquet"), p.with_name(f"{p.stem}.distances.npy"))]
    return [hashlib.sha256(f.read_bytes()).hexdigest() for f in files]


def pool_of(corpus, speaker, without=""):
    pool = [corpus.frames[utt] for utt in corpus.of_speaker(speaker) if utt != without]
    return np.concatenate(pool).astype(np.float64)


def unit(frames):
    frames = frames.astype(np.float64)
    return frames / np.linalg.norm(frames, axis=1, keepdims=True)


def test_index_names_donor_pool_and_prompt(corpus, tmp_path):
    pairs = PairShards(search(corpus, tmp_path))
    table = corpus.table.set_index("utt_id")
    expected = set(table.index[table["split"].isin(["train", "valid"])])
    assert set(pairs.index["utt_id"]) == expected and len(pairs) == len(expected)
    for row in pairs.index.itertuples():
        donor = table[table["speaker"] == row.donor_speaker]
        assert row.donor_speaker != row.speaker == table.loc[row.utt_id, "speaker"]
        assert set(donor["split"]) == {table.loc[row.utt_id, "split"]}
        assert set(donor["shard"]) == {row.donor_file}
        assert row.pool_frames == sum(len(corpus.frames[u]) for u in donor.index)
        assert row.prompt_utt != row.utt_id and table.loc[row.prompt_utt, "speaker"] == row.speaker
    assert pairs.index["donor_speaker"].nunique() > 4  # the choice varies


def test_nearest_with_k_1_equals_brute_force(corpus, tmp_path):
    pairs = PairShards(search(corpus, tmp_path, OPTIONS.model_copy(update={"k": 1})))
    features = Shards(corpus.features)
    for row, item in enumerate(pairs.index.itertuples()):
        pool = pool_of(corpus, item.donor_speaker)
        best = (unit(corpus.frames[item.utt_id]) @ unit(pool).T).argmax(axis=1)
        assert np.array_equal(pairs.retrieved(row, features), pool[best].astype(np.float32))


def test_materialize_is_the_mean_of_the_k_nearest(corpus, tmp_path):
    pairs, features = PairShards(search(corpus, tmp_path)), Shards(corpus.features)
    item, pool = pairs.index.iloc[5], pool_of(corpus, pairs.index["donor_speaker"].iloc[5])
    cosine = unit(corpus.frames[item["utt_id"]]) @ unit(pool).T
    best = np.argsort(-cosine, axis=1, kind="stable")[:, :4]
    whole = pairs.retrieved(5, features)
    assert whole.dtype == np.float32
    np.testing.assert_allclose(whole, pool[best].mean(axis=1), rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(pairs.retrieved(5, features, start=7, frames=20), whole[7:27])
    np.testing.assert_allclose(pairs.distances(5), 1 - np.take_along_axis(cosine, best, 1), atol=1e-3)
    weighted = pairs.retrieved(5, features, weighting="distance")
    nearest = pool[best[:, 0]]
    assert np.linalg.norm(weighted - nearest) < np.linalg.norm(whole - nearest)


def test_same_bytes_for_any_number_of_threads_and_frames_at_a_time(corpus, tmp_path, monkeypatch):
    once = digests(search(corpus, tmp_path / "a"))
    monkeypatch.setattr("bowerbird.stages.pairs.search.FRAMES_AT_ONCE", 90)
    monkeypatch.setattr("bowerbird.nn.nearest.SCORES_AT_ONCE", 100 * 400)
    monkeypatch.setattr("bowerbird.nn.nearest.GROUP_COLUMNS", 3)
    monkeypatch.setattr("bowerbird.nn.nearest.VALUES_AT_ONCE", 999)
    assert once == digests(search(corpus, tmp_path / "b", runtime=CPU.model_copy(update={"threads": 2})))


@pytest.mark.parametrize("method", ["nearest", "random", "shuffled"])
def test_pairs_do_not_depend_on_the_number_of_shards(corpus, tmp_path, method):
    options = OPTIONS.model_copy(update={"method": method, "max_pool_s": 4.5, "pool": "chapter"})
    five_shards = corpus.table.assign(shard=corpus.table["speaker"].str[3:].astype(int) % 5)
    spread = write_corpus(tmp_path, five_shards, corpus.frames)
    two = PairShards(search(corpus, tmp_path / "2", options))
    five = PairShards(search(spread, tmp_path / "5", options))
    features, spread_features = Shards(corpus.features), Shards(spread.features)
    for row, item in enumerate(two.index.itertuples()):
        other = five.row(item.utt_id, item.variant)
        assert five.index["donor_speaker"].iloc[other] == item.donor_speaker
        assert np.array_equal(two.retrieved(row, features), five.retrieved(other, spread_features))


def test_ties_go_to_the_lower_row():
    pool = np.tile(np.array([[1, 0], [0, 1]], dtype=np.float16), (300, 1))
    indices, scores = SearchPool(pool).nearest(np.array([[2, 0], [0, 5]], dtype=np.float16), 3)
    assert indices.tolist() == [[0, 2, 4], [1, 3, 5]] and np.all(scores == 1)


def test_near_ties_are_decided_exactly():
    """Cosines that differ by less than float32 can tell: the certificate sends these rows to the exact search."""
    rng = np.random.default_rng(0)
    pool = (1 + 2.0**-10 * rng.integers(0, 2, size=(5000, 64))).astype(np.float16)
    query = (1 + 2.0**-10 * rng.integers(0, 2, size=(20, 64))).astype(np.float16)
    exact = unit(query).astype(np.longdouble) @ unit(pool).astype(np.longdouble).T
    indices, _ = SearchPool(pool).nearest(query, 4)
    for row in range(20):
        np.testing.assert_allclose(exact[row, indices[row]], np.sort(exact[row])[::-1][:4], rtol=0, atol=1e-15)
    assert np.array_equal(SearchPool(pool).best(query), SearchPool(pool).nearest(query, 1)[0][:, 0])


def test_reduced_precision_elsewhere_changes_nothing():
    rng = np.random.default_rng(1)
    pool, query = rng.standard_normal((500, 32)).astype(np.float16), rng.standard_normal((9, 32)).astype(np.float16)
    once = SearchPool(pool).nearest(query, 3)[0]
    torch.set_float32_matmul_precision("medium")
    try:
        assert np.array_equal(SearchPool(pool).nearest(query, 3)[0], once)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_finds_the_same_neighbors():
    rng = np.random.default_rng(2)
    pool, query = rng.standard_normal((5000, 64)).astype(np.float16), rng.standard_normal((99, 64)).astype(np.float16)
    assert np.array_equal(SearchPool(pool, device="cuda").nearest(query, 4)[0], SearchPool(pool).nearest(query, 4)[0])


def test_several_donors_are_distinct_variants(corpus, tmp_path):
    pairs = PairShards(search(corpus, tmp_path, OPTIONS.model_copy(update={"donors_per_utterance": 3})))
    train = pairs.index[pairs.index["utt_id"].str[:4] == "spk0"]
    assert train.groupby("utt_id")["donor_speaker"].nunique().eq(3).all()
    assert sorted(set(train["variant"])) == [0, 1, 2]
    stats = read_identity((tmp_path / "shard-0001.npy").with_suffix(".parquet"))["facts"]
    assert stats["short_of_donors"] == 0 and stats["pairs"] == 3 * stats["targets"]


@pytest.mark.parametrize(
    ("gender", "language"), [("same", "any"), ("cross", "any"), ("any", "same"), ("any", "other"), ("cross", "same")]
)
def test_gender_and_language_of_donors(corpus, gender, language):
    first = corpus.table.groupby("speaker").first()
    options = OPTIONS.model_copy(update={"donor_gender": gender, "donor_language": language})
    plan = plan_pairs(PairableSpeech(corpus.manifest, corpus.features), 0, options)
    assert plan.pairs
    for pair in plan.pairs:
        donor = first.loc[pair.donor]
        assert gender == "any" or (donor["gender"] == pair.target.gender) == (gender == "same")
        assert language == "any" or (donor["language"] == pair.target.language) == (language == "same")


def test_chapter_and_longest_pool(corpus, tmp_path):
    options = OPTIONS.model_copy(update={"pool": "chapter", "max_pool_s": 2.5})
    pairs = PairShards(search(corpus, tmp_path, options))
    lengths = {len(f) for f in corpus.frames.values()}
    assert set(pairs.index["donor_session"]) == {"s0", "s1"}
    assert set(pairs.index["pool_frames"]) <= lengths  # 2.5 s: one whole utterance


def test_no_eligible_donor_names_the_option(corpus, tmp_path):
    speech = PairableSpeech(corpus.manifest, corpus.features)
    with pytest.raises(BowerbirdError, match=r"pairs\.min_pool_s: 60: no donor for spk0-00"):
        plan_pairs(speech, 0, OPTIONS.model_copy(update={"min_pool_s": 60}))
    unknown = write_corpus(tmp_path / "g", corpus.table.assign(gender=""), corpus.frames)
    with pytest.raises(BowerbirdError, match=r"pairs\.donor_gender: cross: no donor for spk0-00"):
        plan_pairs(
            PairableSpeech(unknown.manifest, unknown.features), 0, OPTIONS.model_copy(update={"donor_gender": "cross"})
        )
    splits = corpus.table["speaker"].map(lambda name: "valid" if name == "spk0" else "test")
    alone = write_corpus(tmp_path / "a", corpus.table.assign(split=splits), corpus.frames)
    with pytest.raises(BowerbirdError, match=r"only speaker of split valid; raise corpus\.valid_speakers"):
        plan_pairs(PairableSpeech(alone.manifest, alone.features), 0, OPTIONS)


def test_same_speaker_leaves_the_utterance_itself_out(corpus, tmp_path):
    pairs = PairShards(search(corpus, tmp_path, OPTIONS.model_copy(update={"same_speaker": True})))
    starts = Shards(corpus.features).index.set_index("utt_id")["start"]
    for row, item in enumerate(pairs.index.itertuples()):
        assert item.donor_speaker == item.speaker
        own = starts[item.utt_id] + np.arange(item.frames)
        assert not np.isin(pairs.indices(row), own).any()
        pool = pool_of(corpus, item.speaker, without=item.utt_id)
        assert item.pool_frames == len(pool)
        cosine = unit(corpus.frames[item.utt_id]) @ unit(pool).T
        np.testing.assert_allclose(1 - pairs.distances(row)[:, 0].astype(float), cosine.max(axis=1), atol=1e-3)


def test_speaker_with_one_utterance_is_left_out_and_counted(corpus, tmp_path, caplog):
    table = corpus.table[(corpus.table["speaker"] != "spk0") | (corpus.table["utt_id"] == "spk0-00")]
    single = write_corpus(tmp_path / "c", table, corpus.frames)
    paths = search(single, tmp_path / "p", OPTIONS.model_copy(update={"same_speaker": True}))
    assert "spk0" not in set(PairShards(paths).index["speaker"])
    assert read_identity(paths[0].with_suffix(".parquet"))["facts"]["without_own_pool"] == 1
    assert "1 of" in caplog.text and "left out" in caplog.text
    other = PairShards(search(single, tmp_path / "q"))
    assert other.index.set_index("utt_id").loc["spk0-00", "prompt_utt"] == "spk0-00"


def test_controls_use_the_same_donors(corpus, tmp_path):
    found = {
        method: PairShards(search(corpus, tmp_path / method, OPTIONS.model_copy(update={"method": method})))
        for method in ("nearest", "random", "shuffled")
    }
    for pairs in found.values():
        assert pairs.index["donor_speaker"].equals(found["nearest"].index["donor_speaker"])
    for row in range(len(found["nearest"])):
        near, shuffled = found["nearest"].indices(row), found["shuffled"].indices(row)
        assert not np.array_equal(near, shuffled) and sorted(map(tuple, near)) == sorted(map(tuple, shuffled))
        assert all(len(set(items)) == 4 for items in found["random"].indices(row))
    mean = {
        method: np.mean([pairs.distances(r).astype(float).mean() for r in range(len(pairs))])
        for method, pairs in found.items()
    }
    assert mean["nearest"] < mean["random"] / 3 and mean["nearest"] < mean["shuffled"] / 3


def test_random_members_are_distinct_and_uniform():
    drawn = random_members(20_000, 6, 3, np.random.default_rng(0))
    assert all(len(set(row)) == 3 for row in drawn[:500].tolist())
    assert np.abs(np.bincount(drawn.ravel()) / 10_000 - 1).max() < 0.05
    assert random_members(5, 3, 3, np.random.default_rng(0)).sum(axis=1).tolist() == [3] * 5


def test_distinct_numbers_are_drawn_by_name():
    assert sorted(draw_distinct(7, 7, "a")) == list(range(7)) and len(draw_distinct(3, 9, "a")) == 3
    assert draw_distinct(1000, 5, "a") == draw_distinct(1000, 5, "a") != draw_distinct(1000, 5, "b")


def test_non_finite_features_are_named(corpus, tmp_path):
    frames = {u: f.copy() for u, f in corpus.frames.items()}
    frames["spk2-01"][3, 2] = np.inf
    with pytest.raises(BowerbirdError, match="spk2-01: values that are not finite"):
        search(write_corpus(tmp_path / "c", corpus.table, frames), tmp_path / "p")


def test_missing_shard_is_named(corpus, tmp_path):
    with pytest.raises(BowerbirdError, match="not in the feature shards given"):
        search_pairs(corpus.manifest, corpus.features[:1], tmp_path / "shard-0000.npy", 0, OPTIONS, CPU)
    paths = search(corpus, tmp_path)
    pairs = PairShards(paths)
    row = int(np.flatnonzero(pairs.index["donor_file"] == 1)[0])
    with pytest.raises(BowerbirdError, match="features: shard 1: not among the shards given"):
        pairs.retrieved(row, Shards(corpus.features[:1]))


def test_shard_without_targets_is_empty(corpus, tmp_path):
    table = corpus.table.assign(shard=(corpus.table["split"] == "test").astype(int))
    parted = write_corpus(tmp_path / "c", table, corpus.frames)
    paths = search(parted, tmp_path / "p")
    assert len(PairShards(paths[1:])) == 0 and PairShards(paths[1:]).k == 4
    assert len(PairShards(paths)) == (table["split"] != "test").sum()


def test_quality_against_the_random_control(corpus, tmp_path, capsys):
    codebook = tmp_path / "codebook" / "centroids.safetensors"
    fit_codebook(corpus.manifest, corpus.features, codebook, CodebookConfig(num_codes=8, sample_frames=2000), CPU)
    units = [tmp_path / "units" / path.name for path in corpus.features]
    for features, output in zip(corpus.features, units, strict=True):
        assign_units(codebook, features, output, "cosine", CPU)
    stats = {}
    for method in ("nearest", "random"):
        paths = search(corpus, tmp_path / method, OPTIONS.model_copy(update={"method": method}))
        output = tmp_path / method / "quality.parquet"
        summarize_pairs(corpus.manifest, paths, corpus.features, output, units)
        stats[method] = read_identity(output)["facts"]
        table = read_table(output)
        assert len(table) == len(PairShards(paths)) and table["coverage"].between(0, 1).all()
    assert stats["nearest"]["unit_agreement"] > 0.7
    assert stats["nearest"]["unit_agreement_random"] == stats["random"]["unit_agreement_random"]
    assert stats["random"]["unit_agreement"] == pytest.approx(stats["random"]["unit_agreement_random"], abs=0.03)
    assert stats["nearest"]["donor_hubness"] > stats["random"]["donor_hubness"]
    text = quality_table(tmp_path / "nearest" / "quality.parquet")
    assert "F -> M" in text and text.splitlines()[-1].startswith("all")


def test_quality_without_units_and_of_the_same_speaker(corpus, tmp_path):
    paths = search(corpus, tmp_path, OPTIONS.model_copy(update={"same_speaker": True, "max_pool_s": 4.5}))
    output = tmp_path / "quality.parquet"
    summarize_pairs(corpus.manifest, paths, corpus.features, output)
    table, pairs = read_table(output), PairShards(paths)
    assert table["pool_frames"].tolist() == pairs.index["pool_frames"].tolist()
    assert table["unit_agreement"].isna().all() and "unit_agreement" not in read_identity(output)["facts"]
    assert " - " in quality_table(output).replace("->", "")
