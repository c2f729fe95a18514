"""The graph of a study: who writes what, from what, and what a change of an option reaches."""

from __future__ import annotations

from pathlib import Path

import pytest
from recorded_run import STUDY, record_run, with_option

from bowerbird.config.base import ModelReference, flags, parse_model
from bowerbird.config.graph import Graph
from bowerbird.config.loading import load_config, parse_config
from bowerbird.config.merging import merge
from bowerbird.config.paths import ASSETS, Paths
from bowerbird.errors import BowerbirdError
from bowerbird.stages import STAGES

REPOSITORY = Path(__file__).resolve().parents[2]


def graph_of(values: dict) -> Graph:
    config = parse_config(values)
    return Graph(config, Paths.of(config))


@pytest.fixture(scope="module")
def demo() -> Graph:
    config = load_config([REPOSITORY / "config.yaml"])
    return Graph(config, Paths.of(config))


def test_every_artifact_has_one_writer(demo: Graph) -> None:
    outputs = [path for job in demo.jobs() for path in job.outputs.values()]
    assert len(outputs) == len(set(outputs))
    for job in demo.jobs():
        for path in job.outputs.values():
            assert demo.writer_of(path) == job
            assert path.relative_to(demo.paths.root).parts[0] == job.stage and job.stage in STAGES


def test_every_input_is_written_by_a_job_or_comes_with_the_package(demo: Graph) -> None:
    for job in demo.jobs():
        for path in job.files:
            assert demo.writer_of(path) or path.is_relative_to(ASSETS), f"{job.command}: nobody writes {path}"


def test_jobs_come_after_those_of_their_inputs(demo: Graph) -> None:
    seen: set[Path] = set()
    for job in demo.jobs():
        assert all(path in seen for path in job.files if demo.writer_of(path)), job
        seen |= set(job.outputs.values())


def test_the_report_needs_everything_but_features_that_nobody_reads() -> None:
    graph = graph_of(merge(STUDY, {"features": {"unread": {"layer": 1}}}))
    unneeded = {(job.command, job.variant) for job in graph.jobs()} - {
        (job.command, job.variant) for job in graph.needed()
    }
    read = {
        ("extract-features", name)
        for name in ("unread", "nano-l2", "magnitude", "world-short", "phones-short", "voice-short")
    }
    assert unneeded == read


def test_files_beside_an_artifact_have_its_writer(demo: Graph) -> None:
    flac = demo.paths.conversion("knnvc").parent / "a--b.flac"
    assert demo.writer_of(flac).command == "convert-trials" and demo.writer_of(flac).variant == "knnvc"
    assert demo.writer_of(demo.paths.root / "report" / "assets" / "style.css").command == "write-report"
    assert demo.writer_of(demo.paths.root / "features" / "nano" / "notes.txt") is None


ROLES = {  # what each system reads besides manifest, trials and audio
    "knnvc": {"features", "search_keys", "vocoder"},
    "palindromic": {"features", "converter", "revocoder"},
    "qrvc": {"features", "resynthesis"},
    "stepback": {"features", "dual_flow", "vocoder"},
    "takin": {"features", "phones", "flow", "vocoder"},
    "vocoder": {"features", "vocoder"},
    "ground-truth": set(),
}
TRAINING_ROLES = {
    ("palindromic", "converter"): {"features", "audio", "pairs", "vocoder", "start"},
    ("palindromic", "revocoder"): {"features", "audio", "pairs", "converter", "start"},
    ("qrvc", "resynthesis"): {"features", "audio", "codebook", "start"},
    ("stepback", "preparation"): {"features", "audio", "start"},
    ("stepback", "classifier"): {"features", "audio", "preparation"},
    ("stepback", "dual_flow"): {"features", "audio", "preparation", "classifier"},
    ("takin", "flow"): {"features", "mels", "phones", "speaker_embeddings", "start"},
    ("vocoder", "vocoder"): {"features", "audio", "start"},
}


@pytest.mark.parametrize("experiment", ROLES)
def test_conversion_reads_what_the_system_names(demo: Graph, experiment: str) -> None:
    job = demo.convert_trials(experiment)
    assert set(job.inputs) - {"manifest", "trials", "audio"} == ROLES[experiment]
    assert {role for role in job.inputs if role in job.models} == set(job.models)


@pytest.mark.parametrize(("experiment", "stage"), TRAINING_ROLES)
def test_training_reads_what_the_stage_names(demo: Graph, experiment: str, stage: str) -> None:
    assert set(demo.train_stage(experiment, stage).inputs) - {"manifest"} == TRAINING_ROLES[experiment, stage]


def test_a_reused_stage_is_trained_once_and_read_from_its_owner(demo: Graph) -> None:
    assert ("stepback-no-amendment", "preparation") not in demo.trained_stages()
    job = demo.train_stage("stepback-no-amendment", "dual_flow")
    assert job.inputs["preparation"][0].parent == demo.paths.model("stepback", "preparation")


def changed(before: Graph, after: Graph) -> set[tuple[str, str]]:
    """(command, variant) of the jobs whose command line or parameters differ."""

    def described(graph: Graph) -> dict[tuple, tuple]:
        return {
            (job.command, job.variant, *job.outputs.values()): (job.options, dict(job.params), job.input_options)
            for job in graph.jobs()
        }

    one, other = described(before), described(after)
    return {key[:2] for key in one.keys() | other.keys() if one.get(key) != other.get(key)}


CHANGES = {
    "corpus.min_duration_s: 0.7": {("list-corpus", "")},
    "corpus.trim_silence: true": {("store-audio", "")},
    "features.nano.layer: 2": {("extract-features", "nano")},
    "codebook.k256.num_codes: 512": {("fit-codebook", "k256")},
    "codebook.k256.assignment: euclidean": {("assign-units", "k256"), ("probe-residual", "k256")},
    "pairs.knn4.k: 2": {("search-pairs", "knn4")},
    "trials.seed: 1": {("list-trials", "")},
    "experiments.palindromic.converter.layers: 2": {("train-stage", "palindromic/converter")},
    "experiments.palindromic.prompt_s: 3.0": {("convert-trials", "palindromic")},
    "experiments.takin.guidance: 0.0": {("convert-trials", "takin")},
    "evaluation.verifier: models/ecapa": {("score-trials", name) for name in STUDY["experiments"]},
    "evaluation.bootstrap: 500": {("summarize-scores", "")},
    "report.players: 3": {("write-report", "")},
    "runtime.threads: 2": set(),
    "runtime.device: cpu": set(),
    "training.checkpoint_every: 7": set(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_parameter_reaches_its_own_job_and_no_other(change: str) -> None:
    key, _, text = change.partition(": ")
    value = {"true": True}.get(text, text)
    after = graph_of(merge(STUDY, {key: value}))
    assert changed(graph_of(STUDY), after) == CHANGES[change]


def test_every_reference_to_a_model_is_located(tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere" / "vocoder"
    folder.mkdir(parents=True)
    for name in ("model.safetensors", "config.json"):
        (folder / name).write_text("{}")
    for text, expected in {
        "vocoder-other": Path("results/recorded/training/vocoder-other/vocoder"),
        "trained:vocoder-other/vocoder": Path("results/recorded/training/vocoder-other/vocoder"),
        "bundled:nano-vocoder": parse_model("bundled:nano-vocoder"),
        str(folder): folder,
        "hub:someone/vocoder@main": ModelReference("hub", "someone/vocoder", revision="main"),
        "someone/vocoder": ModelReference("hub", "someone/vocoder"),
    }.items():
        job = graph_of(with_option(STUDY, "knnvc", ("vocoder",), text)).convert_trials("knnvc")
        assert job.models["vocoder"] == expected
        assert f"vocoder={expected}" in job.input_options
        is_here = not isinstance(expected, ModelReference) or expected.kind == "bundled"
        assert [path.name for path in job.inputs["vocoder"]] == (
            ["model.safetensors", "config.json"] if is_here else []
        )


def test_a_stage_starts_from_a_stage_of_the_study_a_bundled_model_or_a_folder() -> None:
    path = ("converter", "start_from")
    for text, given, files in (
        ("palindromic-twin", "results/recorded/training/palindromic-twin/converter", 2),
        ("trained:palindromic-twin/converter", "results/recorded/training/palindromic-twin/converter", 2),
        ("bundled:nano-converter", "bundled:nano-converter", 2),
        ("results/other/training/palindromic/converter", "results/other/training/palindromic/converter", 0),
        ("", "", None),
    ):
        job = graph_of(with_option(STUDY, "palindromic", path, text)).train_stage("palindromic", "converter")
        assert f'"start_from":"{given}"' in job.options
        assert "start_from" not in job.params
        assert len(job.inputs.get("start", ())) == (files or 0) and ("start" in job.inputs) == (files is not None)


def test_a_model_that_is_not_there_is_named_before_any_job() -> None:
    for text, words in {
        "vocodr": "experiments.knnvc.vocoder: 'vocodr' is not defined in `experiments`; did you mean 'vocoder'",
        "trained:qrvc/vocoder": "experiments.knnvc.vocoder: 'qrvc' trains no stage 'vocoder'",
    }.items():
        with pytest.raises(BowerbirdError, match=words.replace("(", r"\(")):
            graph_of(with_option(STUDY, "knnvc", ("vocoder",), text))


def test_flags_are_words_that_the_command_line_reads_back() -> None:
    values = {
        "flag": True,
        "no_flag": False,
        "list": ["a b", "c"],
        "empty": [],
        "text": "-x",
        "map": {"b": 1},
        "number": 2.5,
    }
    assert flags(values) == "--flag --no-no-flag --list 'a b' c --empty --text=-x --map '{\"b\": 1}' --number 2.5"


def test_a_run_that_was_moved_has_its_paths_where_it_lies(tmp_path: Path) -> None:
    record_run(tmp_path / "before")
    (tmp_path / "before").rename(tmp_path / "after")
    graph = Graph.of_run(tmp_path / "after")
    assert graph.paths.root == tmp_path / "after" and graph.paths.num_shards == 2
    assert all(path.is_file() for job in graph.jobs() for path in job.outputs.values())
