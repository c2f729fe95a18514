"""The workflow that makes the bundled models: its plan on a miniature corpus, and the overlays of its studies."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from nano_recipe import NANO, import_script

from bowerbird.config.loading import load_config, read_yaml
from bowerbird.config.study import Config

ROOT = NANO.parents[1]
SNAKEFILE = NANO / "Snakefile"
PRESETS = ROOT / "workflow" / "presets"
ROW = "{name}-0000\t{name}\tF\t{split}\t{split}/{name}.flac\t"
JOBS = {
    "all": 1,
    "make_environment": 1,
    "fetch_voices": 1,
    "fetch_recognizer": 1,
    "transcribe": 1,
    "make_speech": 1,
    "make_robot_speech": 1,
    "label_speech": 1,
    "train_encoder": 1,
    "train_key": 1,
    "retarget_phones": 1,
    "list_speech": 1,
    "make_voices": 1,
    "write_vocoder_overlay": 1,
    "train_vocoder": 1,
    "write_world_overlay": 1,
    "train_world": 1,
    "write_systems_overlay": 1,
    "train_systems": 1,
    "export_model": 9,
    "write_sums": 1,
}

TRAINED = (
    "palindromic/converter",
    "palindromic-random-pairs/converter",
    "qrvc/resynthesis",
    "qrvc-plain/resynthesis",
    "stepback/preparation",
    "takin/content",
    "takin/flow",
    "takin-no-speaker-embedding/flow",
)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A folder with the table of a corpus, in which nothing is to be read."""
    folder = tmp_path / "librispeech-mini"
    folder.mkdir()
    rows = [ROW.format(name=name, split=split) for name, split in (("a", "train"), ("b", "train"), ("c", "test"))]
    (folder / "utterances.tsv").write_text("\n".join(["utt_id\tspeaker\tgender\tsplit\tpath\ttext", *rows]) + "\n")
    return folder


def dry_run(folder: Path, *config: str) -> subprocess.CompletedProcess[str]:
    """What Snakemake says of the recipe with these values of --config, started in ``folder``."""
    command = [Path(sys.executable).with_name("snakemake"), "--snakefile", SNAKEFILE, "--dry-run", "--printshellcmds"]
    return subprocess.run([*command, "--config", *config], cwd=folder, capture_output=True, text=True, timeout=120)


def plan(corpus: Path, work: Path, *config: str) -> tuple[Counter[str], str]:
    """The number of jobs of each rule, and what the dry run said."""
    done = dry_run(corpus, f"data={corpus}", f"work={work}", *config)
    text = done.stdout + done.stderr
    assert done.returncode == 0, text[-3000:]
    table = text.split("Job stats:", 1)[1].split("total", 1)[0]
    return Counter({name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", table, flags=re.M)}), text


def test_every_model_is_planned(corpus: Path, tmp_path: Path) -> None:
    jobs, text = plan(corpus, tmp_path / "recipe")
    assert jobs == JOBS
    assert "--sentences 1000 " in text and "--steps 1000000 --minutes 60" in text
    assert f"'corpus={{path: \"{tmp_path}/recipe/voices\"}}'" in text
    assert {path.name for path in (tmp_path / "recipe").iterdir()} <= {".snakemake"}, "a dry run makes nothing"


def test_a_trial_is_small_and_lies_in_a_folder_of_its_own(corpus: Path, tmp_path: Path) -> None:
    jobs, text = plan(corpus, tmp_path / "recipe", "quick=true", "minutes=7")
    assert jobs == {**JOBS, "choose_speakers": 1}
    assert "--sentences 3 " in text and "--steps 3 " in text and "--quick" in text and "--minutes" not in text
    assert f"{tmp_path}/recipe/quick/results" in text


def test_a_corpus_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    done = dry_run(tmp_path, f"data={tmp_path}/nowhere")
    assert done.returncode != 0
    assert f"nano: data: {tmp_path}/nowhere: no utterances.tsv there" in done.stdout + done.stderr


def test_every_rule_has_a_log_and_a_message() -> None:
    _, *rules = re.split(r"^rule ", SNAKEFILE.read_text(), flags=re.M)
    named = {rule.split(":", 1)[0]: rule for rule in rules}
    assert set(named) == {*JOBS, "choose_speakers"}
    for name, rule in named.items():
        if name != "all":
            assert "    log:\n" in rule and "    message:\n" in rule and "{log}" in rule, name


def study(preset: str, overlay: str, folder: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> Config:
    """The study of a preset under the overlay that the recipe writes."""
    script, path = import_script("write_overlay"), folder / f"{overlay}.yaml"
    words = ["write_overlay.py", overlay, "--encoder", folder / "nano-encoder", "--phones", folder / "phones"]
    monkeypatch.setattr(sys, "argv", [*map(str, words), *options, "--output", str(path)])
    script.main()
    assert read_yaml(path)
    return load_config([ROOT / "config.yaml", PRESETS / f"{preset}.yaml", path])


def test_the_vocoder_is_trained_anew_on_the_new_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = study("nano", "vocoder", tmp_path, monkeypatch)
    before = load_config([ROOT / "config.yaml", PRESETS / "nano.yaml"])
    assert config.features["nano"].encoder == str(tmp_path / "nano-encoder")
    assert config.experiments == before.experiments


def test_the_vocoder_of_mels_is_trained_in_few_steps_in_a_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = study("nano-world", "world", tmp_path, monkeypatch).experiments["world-mel"].vocoder
    quick = study("nano-world", "world", tmp_path, monkeypatch, "--quick").experiments["world-mel"].vocoder
    assert (whole.steps, whole.start_from, quick.steps, quick.batch_size) == (6000, "", 2, 2)


@pytest.mark.parametrize("is_quick", [False, True])
def test_the_systems_start_from_nothing_that_is_bundled(
    is_quick: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--vocoder", str(tmp_path / "nano-vocoder"), *(["--quick"] if is_quick else [])]
    config = study("nano-systems", "systems", tmp_path, monkeypatch, *words)
    assert (config.features["phones"].kind, config.features["phones"].encoder) == ("phonetic", str(tmp_path / "phones"))
    starts = {}
    for name, experiment in config.experiments.items():
        for stage in experiment.stages:
            options = getattr(experiment, stage)
            starts[f"{name}/{stage}"] = options.start_from
            if is_quick and f"{name}/{stage}" in TRAINED:
                assert (options.steps, options.batch_size, options.valid_every) == (2, 2, 2)
    vocoder = str(tmp_path / "nano-vocoder")
    assert {name: starts[name] for name in TRAINED} == {
        name: vocoder if name.startswith("qrvc") else "" for name in TRAINED
    }
