"""Lineage names every input of every system.

At commit 030b775 audit and lineage knew nothing of Takin-VC's mels, phones and speaker embeddings.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from recorded_run import STUDY, record_run

from bowerbird.config.base import ModelReference
from bowerbird.config.graph import Graph
from bowerbird.inspection.lineage import draw_lineage, inputs_of


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    return record_run(tmp_path_factory.mktemp("recorded") / "run")


@pytest.mark.parametrize("experiment", STUDY["experiments"])
def test_a_conversion_names_all_that_its_system_reads(run: Graph, experiment: str, capsys) -> None:
    wanted = {"manifest", "trials", "audio", *run.config.experiments[experiment].conversion_inputs()}
    path = run.paths.conversion(experiment)
    assert set(inputs_of(run, path)) == wanted
    draw_lineage(path)
    lines = capsys.readouterr().out.splitlines()
    direct = {line.strip().split(":")[0] for line in lines if line.startswith("    ") and not line.startswith("     ")}
    assert wanted <= direct


def test_every_training_stage_names_all_that_it_reads(run: Graph) -> None:
    for experiment, stage in run.trained_stages():
        wanted = {"manifest", *run.config.experiments[experiment].training_inputs(stage)}
        assert set(inputs_of(run, run.paths.model(experiment, stage) / "model.safetensors")) == wanted, (
            experiment,
            stage,
        )


def test_takin_names_its_auxiliary_features(run: Graph) -> None:
    flow = inputs_of(run, run.paths.model("takin", "flow") / "model.safetensors")
    for role, variant in (("mels", "mel"), ("phones", "phones"), ("speaker_embeddings", "voice")):
        assert flow[role] == run.paths.all_shards("features", variant)
    assert inputs_of(run, run.paths.conversion("takin"))["phones"] == run.paths.all_shards("features", "phones")


def test_features_of_a_trained_recognizer_name_its_model(run: Graph) -> None:
    encoder = inputs_of(run, run.paths.features("ppg", 0))["encoder"]
    assert encoder == tuple(run.paths.model("takin-ppg", "ppg") / name for name in ("model.safetensors", "config.json"))


def test_a_model_of_another_run_leads_into_that_run(tmp_path: Path, capsys) -> None:
    first = record_run(tmp_path / "first")
    model = first.paths.model("vocoder", "vocoder")
    values = {**STUDY, "features": {"nano": {}}, "experiments": {"knnvc": {"system": "knnvc", "vocoder": str(model)}}}
    second = record_run(tmp_path / "second", values)
    assert isinstance(second.config.experiments["knnvc"].conversion_inputs()["vocoder"], ModelReference)
    draw_lineage(second.paths.conversion("knnvc"))
    lines = capsys.readouterr().out.splitlines()
    (vocoder,) = [number for number, line in enumerate(lines) if line.startswith("    vocoder:") and "and" not in line]
    assert "[training" in lines[vocoder]
    below = [line.strip().split(":")[0] for line in lines[vocoder + 1 :] if line.startswith("        ")]
    assert {"manifest", "features", "audio"} <= set(below)
