"""The worked example of a system from another package: it converts, and a study, the command line and its page know it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from doc_pages import blocks
from source_tree import REPOSITORY
from speech import Study, make_study

from bowerbird.artifacts.shards import Shards
from bowerbird.artifacts.tables import read_table
from bowerbird.audio import int16_to_float
from bowerbird.config.base import one_line
from bowerbird.config.sections.conversion import ConversionConfig
from bowerbird.config.sections.runtime import RuntimeConfig
from bowerbird.config.systems.base import ExperimentBase
from bowerbird.errors import BowerbirdError
from bowerbird.stages.conversion.trials import convert_trials
from bowerbird.systems.base import Conversion, Utterance
from bowerbird.systems.load import load_system

EXAMPLE = REPOSITORY / "examples" / "mean_shift"
PAGE = REPOSITORY / "docs" / "add-a-system.md"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> type[ExperimentBase]:
    """The class of the example's options, its package importable."""
    monkeypatch.syspath_prepend(EXAMPLE)
    from mean_shift.options import MeanShiftExperiment  # importable here only

    return MeanShiftExperiment


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return make_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process in which the example is installed: its code and its entry points."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    root = tmp_path_factory.mktemp("installed")
    folder = root / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n", encoding="utf-8"
    )
    lines = []
    for group, points in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in points.items())]
    (folder / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    path = os.pathsep.join(map(str, (root, EXAMPLE, *filter(None, [os.environ.get("PYTHONPATH")]))))
    return {**os.environ, "PYTHONPATH": path}


def command(environment: dict[str, str], *words: str | Path) -> str:
    """What a command prints."""
    done = subprocess.run(
        [sys.executable, "-m", "bowerbird.cli", *map(str, words)],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def spoken(study: Study, utt_id: str) -> Utterance:
    """An utterance of the study, as the stage `conversion` reads it."""
    features = torch.from_numpy(np.array(Shards(study.features)[utt_id], dtype=np.float32))
    return Utterance(utt_id, torch.from_numpy(int16_to_float(study.waves[utt_id])), features)


def convert_first_trial(study: Study, experiment: ExperimentBase) -> tuple[Utterance, list[Utterance], Conversion]:
    """Source, references and conversion of the study's first trial."""
    trial = read_table(study.trials).to_dict("records")[0]
    source, references = spoken(study, trial["source_utt"]), [spoken(study, name) for name in trial["reference_utts"]]
    system = load_system(experiment, {"vocoder": study.vocoder})
    with torch.inference_mode():
        return source, references, system.convert(source, references, trial)


def test_converted_features_have_the_mean_and_the_deviation_of_the_references(study: Study, example) -> None:
    source, references, conversion = convert_first_trial(study, example())
    target = torch.cat([reference.features for reference in references])
    converted = conversion.features
    assert converted.shape == source.features.shape and len(conversion.wave) == 320 * len(converted)
    torch.testing.assert_close(converted.mean(dim=0), target.mean(dim=0), atol=1e-4, rtol=0)
    torch.testing.assert_close(converted.std(dim=0, correction=0), target.std(dim=0, correction=0), atol=1e-4, rtol=0)
    assert (converted.mean(dim=0) - source.features.mean(dim=0)).abs().max() > 0.05  # these voices do differ
    assert torch.equal(converted.argsort(dim=0), source.features.argsort(dim=0))  # the frames keep their order


def test_without_the_deviation_the_means_alone_are_moved(study: Study, example) -> None:
    source, references, conversion = convert_first_trial(study, example(match_deviation=False))
    target = torch.cat([reference.features for reference in references]).mean(dim=0)
    moved = target - source.features.mean(dim=0)
    torch.testing.assert_close(conversion.features - source.features, moved.expand_as(source.features))


def test_a_constant_source_becomes_the_mean_of_the_references(study: Study, example) -> None:
    system = load_system(example(), {"vocoder": study.vocoder})
    target, constant = spoken(study, "b1"), Utterance("constant", torch.zeros(3200), torch.ones(10, 16))
    converted = system.convert(constant, [target]).features
    torch.testing.assert_close(converted, target.features.mean(dim=0).expand(10, 16))


def test_the_vocoder_is_asked_for(example) -> None:
    with pytest.raises(BowerbirdError, match="mean shift needs vocoder=FOLDER"):
        load_system(example(), {})


def test_every_trial_is_converted_and_depends_on_the_options(study: Study, example, tmp_path: Path) -> None:
    converted = {}
    for name, experiment in {"both": example(), "means": example(match_deviation=False)}.items():
        output = tmp_path / name / "trials.parquet"
        convert_trials(
            study.manifest,
            study.trials,
            study.audio,
            output,
            experiment,
            study.features,
            models=study.models,
            options=ConversionConfig(),
            runtime=RuntimeConfig(device="cpu"),
        )
        table = read_table(output)
        assert table["status"].tolist() == ["ok"] * 3, table["error"].tolist()
        converted[name] = table["sha256"].tolist()
    assert not set(converted["both"]) & set(converted["means"])
    params = example().conversion_params()
    assert params == {"system": "mean-shift", "version": 1, "match_deviation": True}  # names are inputs, not parameters


def test_a_study_and_the_command_line_know_an_installed_system(
    study: Study, example, environment: dict[str, str], tmp_path: Path
) -> None:
    assert "No mistakes found" in command(environment, "config", "check", "config.yaml", EXAMPLE / "study.yaml")
    assert "mean-shift" in json.dumps(json.loads(command(environment, "config", "schema")))
    words = ["--manifest", study.manifest, "--trials", study.trials, "--audio", *study.audio, "--device", "cpu"]
    words += ["--features", *study.features, "--models", *study.models, "--output", tmp_path / "trials.parquet"]
    command(environment, "convert-trials", *words, "--experiment", one_line(example().conversion_params()))
    assert read_table(tmp_path / "trials.parquet")["status"].tolist() == ["ok"] * 3


def test_the_page_shows_the_code_of_the_example() -> None:
    shown = [block.text for block in blocks(PAGE) if block.language in ("python", "toml", "yaml")]
    files = [
        path.read_text(encoding="utf-8") for suffix in ("py", "toml", "yaml") for path in EXAMPLE.rglob(f"*.{suffix}")
    ]
    assert shown
    for text in shown:
        assert any(text in content for content in files), f"in no file of the example:\n{text}"
