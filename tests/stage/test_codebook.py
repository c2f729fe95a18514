"""K-means codebooks: the sample, the fit, the look-up, the summary."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import replace

import numpy as np
import pytest
from shards_fixture import CPU, tiny_corpus, write_corpus

from bowerbird.artifacts.codebook import Codebook
from bowerbird.artifacts.identity import Identity, RunRecord
from bowerbird.artifacts.shards import Shards, ShardWriter
from bowerbird.artifacts.tables import read_identity, read_table
from bowerbird.config.sections.codebook import CodebookConfig
from bowerbird.errors import BowerbirdError
from bowerbird.stages.codebook.assign import assign_units
from bowerbird.stages.codebook.fit import fit_codebook
from bowerbird.stages.codebook.kmeans import fit_kmeans
from bowerbird.stages.codebook.usage import summarize_units, usage_stats

OPTIONS = CodebookConfig(num_codes=8, sample_frames=600, iterations=10)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return tiny_corpus(tmp_path_factory.mktemp("codebook"))


def fit(corpus, name="k8", options=OPTIONS, runtime=CPU):
    output = corpus.root / "codebook" / name / "centroids.safetensors"
    fit_codebook(corpus.manifest, corpus.features, output, options, runtime)
    return output


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_sample_is_of_training_speakers_and_recorded(corpus):
    output = fit(corpus)
    sample = read_table(output.with_name("sample.parquet"))
    assert len(sample) == 600 and not sample.duplicated().any()
    assert set(corpus.table.set_index("utt_id").loc[sample["utt_id"], "split"]) == {"train"}
    assert (sample["frame"] < sample["utt_id"].map({u: len(f) for u, f in corpus.frames.items()})).all()
    book = Codebook.load(output)
    assert book.centroids.shape == (8, 16) and book.centroids.dtype == np.float32
    assert book.sizes.sum() == 600 and book.stats["dead_codes"] == 0


def test_stats_describe_the_fit(corpus):
    book = Codebook.load(fit(corpus))
    history = book.stats["inertia_per_iteration"]
    assert 1 < len(history) <= 10 and all(a >= b * (1 - 1e-6) for a, b in itertools.pairwise(history))
    assert book.stats["inertia"] <= history[-1] * (1 + 1e-5)
    assert 1 < book.stats["perplexity"] <= 8
    assert book.inertia_per_cluster.sum() == pytest.approx(book.stats["inertia"], rel=1e-5)


@pytest.mark.parametrize("init", ["kmeans++", "random"])
def test_same_bytes_for_any_number_of_threads(corpus, init):
    options = OPTIONS.model_copy(update={"init": init, "restarts": 2})
    one = fit(corpus, "one", options)
    two = fit(corpus, "two", options, CPU.model_copy(update={"threads": 2}))
    assert digest(one) == digest(two)
    assert digest(one.with_name("sample.parquet")) == digest(two.with_name("sample.parquet"))


def test_fit_does_not_depend_on_the_number_of_shards(corpus, tmp_path):
    three_shards = corpus.table.assign(shard=corpus.table["speaker"].str[-1].astype(int) % 3)
    spread = write_corpus(tmp_path, three_shards, corpus.frames)
    assert np.array_equal(Codebook.load(fit(spread)).centroids, Codebook.load(fit(corpus)).centroids)


def test_best_restart_is_kept(corpus):
    stats = Codebook.load(fit(corpus, "restarts", OPTIONS.model_copy(update={"restarts": 4, "init": "random"}))).stats
    assert len(stats["restart_inertias"]) == 4
    assert stats["inertia"] == min(stats["restart_inertias"]) < max(stats["restart_inertias"])


def test_no_training_split_is_an_error(corpus, tmp_path):
    other = write_corpus(tmp_path, corpus.table.assign(split="test"), corpus.frames)
    with pytest.raises(BowerbirdError, match="no frames of split 'train'"):
        fit(other)


def test_more_codes_than_frames_is_an_error_that_names_the_key(corpus):
    with pytest.raises(BowerbirdError, match=r"num_codes: 700: more codes than the 600 sampled frames"):
        fit(corpus, "big", OPTIONS.model_copy(update={"num_codes": 700}))


def test_non_finite_features_are_named(corpus, tmp_path):
    frames = {u: f.copy() for u, f in corpus.frames.items()}
    frames["spk1-02"][:] = np.nan
    with pytest.raises(BowerbirdError, match="spk1-02"):
        fit(write_corpus(tmp_path, corpus.table, frames))


def test_fewer_distinct_frames_than_codes_is_an_error():
    frames = np.repeat(np.eye(5, dtype=np.float32), 40, axis=0)
    with pytest.raises(BowerbirdError, match="only 5 distinct"):
        fit_kmeans(frames, OPTIONS)


@pytest.mark.parametrize("init", ["kmeans++", "random"])
def test_empty_clusters_are_repaired(init):
    """9 of 10 frames are the same vector: random starts coincide, and splitting a cluster of duplicates never helps."""
    rng = np.random.default_rng(0)
    frames = np.concatenate([np.ones((900, 4)), 5 * rng.standard_normal((20, 4))]).astype(np.float32)
    result = fit_kmeans(frames, CodebookConfig(num_codes=16, init=init, iterations=5))
    assert (result.sizes > 0).all() and result.sizes.sum() == 920


@pytest.mark.parametrize("assignment", ["cosine", "euclidean"])
def test_units_equal_brute_force(corpus, assignment):
    codebook = fit(corpus)
    output = corpus.root / f"units-{assignment}" / "shard-0000.npy"
    assign_units(codebook, corpus.features[0], output, assignment, CPU)
    units, centroids = Shards([output]), Codebook.load(codebook).centroids.astype(np.float64)
    assert units.arrays[0].dtype == np.uint16
    for utt in units:
        frames = corpus.frames[utt].astype(np.float64)
        if assignment == "cosine":
            expected = np.argmax(frames @ (centroids / np.linalg.norm(centroids, axis=1, keepdims=True)).T, axis=1)
        else:
            expected = np.argmin(((frames[:, None] - centroids) ** 2).sum(-1), axis=1)
        assert np.array_equal(units[utt], expected)
    index, features = read_table(output.with_suffix(".parquet")), read_table(corpus.features[0].with_suffix(".parquet"))
    assert index[["utt_id", "start", "frames"]].equals(features[["utt_id", "start", "frames"]])


@pytest.mark.parametrize("assignment", ["cosine", "euclidean"])
def test_ties_go_to_the_lowest_code(assignment, tmp_path):
    centroids = np.array([[0, 1], [2, 0], [1, 0], [2, 0]], dtype=np.float32)
    book = Codebook(centroids, np.ones(4, np.int64), np.ones(4, np.float32))
    book.save(tmp_path / "centroids.safetensors", Identity("fixture", 1, {}))
    with ShardWriter(tmp_path / "features.npy", "float16", (2,)) as writer:
        writer.add("utt", np.array([[3, 0]]))
        writer.close(Identity("fixture", 1, {}), RunRecord())
    units = tmp_path / "units.npy"
    assign_units(tmp_path / "centroids.safetensors", tmp_path / "features.npy", units, assignment, CPU)
    assert Shards([units])["utt"].tolist() == [1]


def test_unknown_assignment_and_wrong_dim_are_errors(corpus, tmp_path):
    codebook = fit(corpus)
    with pytest.raises(BowerbirdError, match="assignment: manhattan"):
        assign_units(codebook, corpus.features[0], tmp_path / "shard-0000.npy", "manhattan", CPU)
    other = tiny_corpus(tmp_path, dim=12)
    with pytest.raises(BowerbirdError, match="16 dimensions, features of 12"):
        assign_units(codebook, other.features[0], tmp_path / "shard-0000.npy", "cosine", CPU)
    assert not list(tmp_path.glob(".tmp-*"))


def test_summary_counts_codes_and_speakers(corpus):
    codebook = fit(corpus)
    units = [corpus.root / "units" / path.name for path in corpus.features]
    for features, output in zip(corpus.features, units, strict=True):
        assign_units(codebook, features, output, "cosine", CPU)
    output = codebook.with_name("summary.parquet")
    summarize_units(corpus.manifest, codebook, units, output)
    table, stats = read_table(output), read_identity(output)["facts"]
    total = sum(map(len, corpus.frames.values()))
    assert len(table) == 8 and table["frames"].sum() == total == stats["frames"]
    assert stats["speakers"] == 6 and (table["speakers"] <= 6).all()
    assert 0 <= stats["speaker_nmi"] < 0.2  # the made-up phones are shared by all speakers


def test_speaker_leakage_is_measured_between_none_and_all():
    assert usage_stats(np.full((3, 4), 5))["speaker_nmi"] == pytest.approx(0)
    assert usage_stats(np.diag([7, 7, 7]))["speaker_nmi"] == pytest.approx(1)


def test_damaged_codebook_is_named(tmp_path):
    path = tmp_path / "centroids.safetensors"
    path.write_bytes(b"not a codebook")
    with pytest.raises(BowerbirdError, match=r"centroids\.safetensors: not a codebook"):
        Codebook.load(path)
    with pytest.raises(BowerbirdError, match="no such codebook"):
        Codebook.load(tmp_path / "none.safetensors")


def test_codebook_stats_are_read_back(corpus):
    book = Codebook.load(fit(corpus))
    assert replace(book, stats={}).stats == {} and book.stats["sample_frames"] == 600
