"""What a run took: records and benchmark files by stage and variant, and which part of it grows with the corpus."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bowerbird.artifacts.files import write_text
from bowerbird.config.graph import Graph
from bowerbird.config.loading import parse_config
from bowerbird.config.paths import Paths
from bowerbird.stages.report.costs import Cost, read_costs, read_records, split_by_growth

STUDY = {
    "corpus": {"num_shards": 2},
    "features": {"nano": {}},
    "codebook": {"k16": {"num_codes": 16}},
    "pairs": {"knn4": {}},
    "experiments": {
        "knnvc": {"system": "knnvc", "vocoder": "bundled:nano-vocoder"},
        "knnvc-random": {"system": "knnvc", "retrieval": "random", "vocoder": "bundled:nano-vocoder"},
        "qrvc": {"system": "qrvc", "codebook": "k16"},
    },
}
HEADER = "s\th:m:s\tmax_rss\n"


def graph_in(root: Path, num_shards: int = 2) -> Graph:
    return Graph(parse_config({**STUDY, "corpus": {"num_shards": num_shards}}), Paths(root, num_shards))


def costs_in(graph: Graph) -> dict[tuple[str, str], Cost]:
    return {(cost.stage, cost.variant): cost for cost in read_costs(graph, read_records(graph))}


def measure(graph: Graph, stage: str, name: str, seconds: str, memory: str = "100") -> None:
    write_text(graph.paths.benchmark(stage, name), f"{HEADER}{seconds}\t0:00:01\t{memory}\n")


def record(path: Path, seconds: float) -> None:
    write_text(path.with_name(f"{path.name}.run.json"), json.dumps({"seconds": seconds, "peak_memory_mib": 50.0}))


@pytest.mark.parametrize("num_shards", [1, 2])
def test_jobs_that_go_over_all_speech_grow_with_it(tmp_path: Path, num_shards: int) -> None:
    """Units are among them: a job of a codebook that exists once per shard."""
    graph = graph_in(tmp_path, num_shards)
    growing = set()
    for stage, variant in {(job.stage, job.variant) for job in graph.jobs()}:
        jobs = [job for job in graph.jobs() if (job.stage, job.variant) == (stage, variant)]
        grows, stays = split_by_growth(graph, jobs)
        assert len(grows) + len(stays) == len(jobs)
        growing |= {job.command for job in grows}
        assert not growing & {job.command for job in stays}
    assert growing == {
        "list-corpus",
        "store-audio",
        "extract-features",
        "assign-units",
        "summarize-units",
        "search-pairs",
        "summarize-pairs",
    }


def test_benchmark_files_belong_to_the_longest_variant_that_fits(tmp_path: Path) -> None:
    graph = graph_in(tmp_path)
    measure(graph, "conversion", "knnvc", "1.0")
    measure(graph, "conversion", "knnvc-random", "2.0")
    measure(graph, "evaluation", "knnvc-speaker", "4.0", memory="300")
    measure(graph, "evaluation", "knnvc-prosody", "8.0")
    measure(graph, "evaluation", "summary", "16.0")
    measure(graph, "training", "qrvc-resynthesis", "32.0")
    measure(graph, "corpus", "store_audio-0000", "64.0")
    measure(graph, "features", "no-longer-configured-0000", "128.0")
    seconds = {key: cost.measured.seconds for key, cost in costs_in(graph).items()}
    assert seconds == {
        ("corpus", ""): 64.0,
        ("training", "qrvc/resynthesis"): 32.0,
        ("conversion", "knnvc"): 1.0,
        ("conversion", "knnvc-random"): 2.0,
        ("evaluation", ""): 16.0,
        ("evaluation", "knnvc"): 12.0,
    }
    assert list(dict.fromkeys(stage for stage, _ in seconds)) == ["corpus", "training", "conversion", "evaluation"]
    knnvc = costs_in(graph)["evaluation", "knnvc"]
    assert (knnvc.measured.jobs, knnvc.peak_mib) == (2, 300.0)


def test_what_was_too_short_to_measure_counts_as_nothing(tmp_path: Path) -> None:
    graph = graph_in(tmp_path)
    measure(graph, "features", "nano-0000", "-", memory="NA")
    assert costs_in(graph)["features", "nano"].measured.jobs == 1
    assert costs_in(graph)["features", "nano"].measured.seconds == 0.0


def test_a_forecast_grows_by_the_share_that_grows(tmp_path: Path) -> None:
    graph = graph_in(tmp_path)
    record(graph.paths.codebook("k16"), 30.0)
    for shard in (0, 1):
        record(graph.paths.units("k16", shard), 5.0)
    for name in ("fit", "assign-0000", "assign-0001"):
        measure(graph, "codebook", f"k16-{name}", "20.0")
    write_text(graph.paths.codebook("k16"), "x" * 1000)
    write_text(graph.paths.units("k16", 0), "x" * 4000)
    cost = costs_in(graph)["codebook", "k16"]
    assert cost.growing_share == pytest.approx(0.25)
    assert (cost.recorded.jobs, cost.measured.jobs, cost.disk.files) == (3, 3, 2)
    assert (cost.disk.artifact_bytes, cost.disk.total_bytes > 5000) == (5000, True)  # records lie beside
    assert cost.forecast(1.0) == (pytest.approx(60.0), cost.disk.total_bytes)
    assert cost.forecast(3.0) == (pytest.approx(60.0 * 1.5), 3 * cost.disk.total_bytes - 2 * 1000)


def test_checkpoints_take_disk_and_are_no_artifacts(tmp_path: Path) -> None:
    graph = graph_in(tmp_path)
    folder = graph.paths.model("qrvc", "resynthesis")
    write_text(folder / "model.safetensors", "x" * 10)
    write_text(folder / "checkpoints" / "step-5" / "state.safetensors", "x" * 100)
    disk = costs_in(graph)["training", "qrvc/resynthesis"].disk
    assert (disk.files, disk.artifact_bytes, disk.total_bytes, disk.growing_bytes) == (1, 10, 110, 0)


def test_waveforms_beside_a_table_are_artifacts(tmp_path: Path) -> None:
    graph = graph_in(tmp_path)
    table = graph.paths.conversion("knnvc")
    for name in (table.name, "one.flac", "two.flac", ".trials.parquet.sha256"):
        write_text(table.with_name(name), "x" * 10)
    record(table, 1.0)
    disk = costs_in(graph)["conversion", "knnvc"].disk
    assert (disk.files, disk.artifact_bytes) == (3, 30)


def test_a_record_that_cannot_be_read_counts_as_a_job_of_unknown_length(tmp_path: Path) -> None:
    graph = graph_in(tmp_path)
    path = graph.paths.conversion("knnvc")
    write_text(path.with_name(f"{path.name}.run.json"), "no json")
    recorded = costs_in(graph)["conversion", "knnvc"].recorded
    assert (recorded.jobs, recorded.seconds) == (1, 0.0)
