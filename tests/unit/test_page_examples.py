"""The code that docs/ tells a reader to write for a corpus or a metric works."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from doc_pages import blocks
from source_tree import REPOSITORY

from bowerbird.config.loading import parse_config, read_yaml
from bowerbird.config.merging import merge
from bowerbird.config.sections.corpus import CorpusConfig
from bowerbird.metrics.registry import METRICS
from bowerbird.stages.corpus import readers


def code_of(page: str, language: str) -> list[str]:
    """The blocks of code of one language in a page."""
    return [block.text for block in blocks(REPOSITORY / "docs" / page) if block.language == language]


def names_of(code: str) -> dict[str, Any]:
    """What a block of code defines."""
    names: dict[str, Any] = {}
    exec(code, names)
    return names


@pytest.fixture
def arctic(tmp_path: Path) -> Path:
    """Two speakers of CMU ARCTIC, one of them without transcripts."""
    for name in (
        "slt_arctic/wav/arctic_a0001.wav",
        "slt_arctic/wav/arctic_a0002.wav",
        "ksp_arctic/wav/arctic_a0001.wav",
    ):
        path = tmp_path / f"cmu_us_{name}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    prompts = tmp_path / "cmu_us_slt_arctic" / "etc" / "txt.done.data"
    prompts.parent.mkdir()
    prompts.write_text('( arctic_a0001 "Author of the danger trail." )\n', encoding="utf-8")
    return tmp_path


def test_the_reader_of_a_corpus_lists_it(arctic: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = code_of("add-a-corpus.md", "python")
    monkeypatch.setitem(readers.READERS, "arctic", names_of(code)["read_arctic"])
    _, entries, refusals = readers.read_entries(CorpusConfig.model_construct(kind="arctic", path=str(arctic)))
    assert [(entry.utt_id, entry.speaker, entry.gender, entry.text) for entry in entries] == [
        ("ksp_arctic_a0001", "ksp", "", ""),
        ("slt_arctic_a0001", "slt", "F", "Author of the danger trail."),
        ("slt_arctic_a0002", "slt", "F", ""),
    ]
    assert refusals == []


def test_the_preset_of_a_corpus_is_an_overlay() -> None:
    (preset,) = code_of("add-a-corpus.md", "yaml")
    study = merge(read_yaml(REPOSITORY / "config.yaml"), yaml.safe_load(preset))
    assert parse_config(merge(study, {"corpus": {"kind": "folder"}})).corpus.path == "data/arctic"


def test_a_metric_is_computed_and_can_be_registered() -> None:
    computation, entry = code_of("add-a-metric.md", "python")
    assert names_of(computation)["duration_ratio"](np.zeros(24_000), np.zeros(16_000)) == 1.5
    metric = names_of(entry)["DURATION_RATIO"]
    assert metric.name not in METRICS and metric.definition == "duration_ratio@1" and metric.show(1.5) == "1.50"
    assert metric.family in {known.family for known in METRICS.values()}
