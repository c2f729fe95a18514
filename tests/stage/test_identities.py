"""What each command from the corpus to the pairs records of itself is what the graph of the study declares."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import soundfile

from bowerbird.config.graph import Graph
from bowerbird.config.job import Job
from bowerbird.config.loading import parse_config
from bowerbird.config.paths import Paths, bundled
from bowerbird.config.sections.runtime import RuntimeConfig
from bowerbird.inspection.lineage import CONTENT_ROLES, read_any_identity, staleness
from bowerbird.stages.codebook.assign import assign_units
from bowerbird.stages.codebook.fit import fit_codebook
from bowerbird.stages.codebook.residual import probe_residual
from bowerbird.stages.codebook.usage import summarize_units
from bowerbird.stages.corpus.manifest import list_corpus
from bowerbird.stages.corpus.store import store_audio
from bowerbird.stages.corpus.trials import list_trials
from bowerbird.stages.features.extract import extract_features
from bowerbird.stages.pairs.quality import summarize_pairs
from bowerbird.stages.pairs.search import search_pairs

CPU = RuntimeConfig(device="cpu")
SHARDS = (0, 1)


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    """A study of four speakers whose artifacts were all made with the options and inputs of its jobs."""
    root = tmp_path_factory.mktemp("study")
    rng = np.random.default_rng(0)
    for number in range(12):
        path = root / "speech" / f"s{number % 4}" / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * rng.standard_normal(24000), 16000)
    study = {
        "corpus": {"kind": "folder", "path": str(root / "speech"), "num_shards": 2, "test_speakers": 0.0},
        "features": {
            "nano": {},
            "mel": {"encoder": "log-mel"},
            "phones": {"kind": "phonetic", "encoder": "bundled:nano-phones"},
            "speaker": {"kind": "speaker", "encoder": "ge2e"},
        },
        "codebook": {"k8": {"num_codes": 8, "sample_frames": 200, "assignment": "euclidean"}},
        "pairs": {"knn2": {"k": 2, "min_pool_s": 1.0}},
        "trials": {"split": "train"},
        "experiments": {"qrvc": {"system": "qrvc", "codebook": "k8"}},
    }
    config = parse_config(study)
    made = Graph(config, Paths(root / "run", 2))
    make(made)
    return made


def make(graph: Graph) -> None:
    """Run every command from the corpus to the pairs, as the workflow does."""
    config, paths = graph.config, graph.paths
    list_corpus(paths.manifest, paths.rejected, config.corpus, CPU)
    for shard in SHARDS:
        store_audio(paths.manifest, paths.audio(shard), shard, config.corpus.trim_silence, CPU)
        for name, section in config.features.items():
            extract_features(paths.audio(shard), paths.features(name, shard), section, CPU)
    list_trials(paths.manifest, paths.trials, config.trials)
    features, audio = list(paths.all_shards("features", "nano")), list(paths.all_shards("audio"))
    codebook, units = paths.codebook("k8"), list(paths.all_shards("units", "k8"))
    fit_codebook(paths.manifest, features, codebook, config.codebook["k8"], CPU)
    for shard in SHARDS:
        assign_units(codebook, features[shard], units[shard], "euclidean", CPU)
        search_pairs(paths.manifest, features, paths.pairs("knn2", shard), shard, config.pairs["knn2"], CPU)
    summarize_units(paths.manifest, codebook, units, paths.codebook_table("k8", "summary"))
    model = shutil.copytree(bundled("bundled:nano-qrvc"), paths.model("qrvc", "resynthesis"))
    residual = paths.codebook_table("k8", "residual")
    probe_residual(codebook, paths.manifest, features, audio, residual, CPU, "euclidean", model=str(model))
    pairs, quality = list(paths.all_shards("pairs", "knn2")), paths.pairs_quality("knn2")
    summarize_pairs(paths.manifest, pairs, features, quality, units, audio, "bundled:nano-phones")


def jobs(graph: Graph) -> list[Job]:
    return [job for job in graph.jobs() if job.stage in ("corpus", "features", "codebook", "pairs")]


def test_every_output_is_there_and_is_what_the_configuration_asks_for(graph: Graph) -> None:
    commands = {job.command for job in jobs(graph)}
    assert len(commands) == 10
    for job in jobs(graph):
        for path in job.outputs.values():
            assert path.is_file(), path
            assert staleness(graph, path, read_any_identity(path)) == "", path


def test_recorded_parameters_and_inputs_are_those_that_the_graph_declares(graph: Graph) -> None:
    for job in jobs(graph):
        for path in job.outputs.values():
            identity = read_any_identity(path)
            assert job.params.items() <= identity["params"].items(), path
            tracked = {role for role, files in job.inputs.items() if files and role not in job.untracked}
            assert identity["inputs"].keys() - CONTENT_ROLES == tracked, path
