"""A change of a stage's code is decided upon: its VERSION goes up, or the new hash is recorded as "same bytes"."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from record_versions import RECORD, current_record

from bowerbird.artifacts import versions
from bowerbird.stages import STAGES

HINT = (
    "Same input, other bytes? Raise VERSION in the stage's __init__.py. Same bytes? Then only record the new hash.\n"
    "Both: python tests/support/record_versions.py"
)


def undecided(stage: str) -> list[str]:
    """The files of a stage whose code is not the recorded one; [] where stage and record agree."""
    recorded, now = json.loads(RECORD.read_text(encoding="utf-8")), current_record()
    if recorded["stages"].get(stage) == now["stages"][stage]:
        return []
    mine = versions.code_hashes(stage)
    return sorted(path for path, code in mine.items() if recorded["files"].get(path) != code) or [
        "(files added or removed)"
    ]


@pytest.mark.parametrize("stage", STAGES)
def test_code_change_was_decided(stage: str) -> None:
    assert undecided(stage) == [], HINT


def test_the_record_names_no_stage_that_is_gone() -> None:
    assert set(json.loads(RECORD.read_text(encoding="utf-8"))["stages"]) == set(STAGES), HINT


SYSTEMS = sorted(path.parent.name for path in (versions.PACKAGE / "systems").glob("*/training.py"))


@pytest.fixture
def copy_of_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A copy of the sources that may be edited; `versions` reads it instead of the real ones."""
    templates = [path for path in versions.PACKAGE.rglob("*") if path.suffix in versions.TEMPLATES]
    for path in [*versions.PACKAGE.rglob("*.py"), *templates]:
        target = tmp_path / path.relative_to(versions.PACKAGE)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    monkeypatch.setattr(versions, "PACKAGE", tmp_path)
    versions.imported_files.cache_clear()
    yield tmp_path
    versions.imported_files.cache_clear()


def test_there_are_systems_to_edit() -> None:
    assert {"palindromic", "qrvc", "stepback", "takin", "vocoder"} <= set(SYSTEMS)


@pytest.mark.parametrize(
    ("stage", "module"),
    [
        *(("training", f"systems/{name}/training.py") for name in SYSTEMS),
        *(("conversion", f"systems/{name}/system.py") for name in (*SYSTEMS, "knnvc", "anchors")),
        ("features", "encoders/spectral.py"),
        ("features", "encoders/phonetic.py"),
        ("features", "encoders/speaker.py"),
        ("training", "nn/losses.py"),
        ("evaluation", "metrics/distortion.py"),
        ("pairs", "encoders/phone_head.py"),
        ("codebook", "encoders/phone_head.py"),
    ],
)
def test_an_edit_of_what_a_stage_runs_is_objected_to(copy_of_the_package: Path, stage: str, module: str) -> None:
    path = copy_of_the_package / module
    path.write_text(path.read_text(encoding="utf-8") + "\n\nEDITED = 1\n", encoding="utf-8")
    assert undecided(stage) == [module]


@pytest.mark.parametrize("name", ["page.html.j2", "style.css", "page.js"])
def test_an_edit_of_a_template_is_objected_to(copy_of_the_package: Path, name: str) -> None:
    path = copy_of_the_package / "stages" / "report" / name
    path.write_text(path.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert undecided("report") == [f"stages/report/{name}"]


def test_the_hash_ignores_comments_and_docstrings_but_no_code(copy_of_the_package: Path) -> None:
    stage = copy_of_the_package / "stages" / "corpus" / "extra.py"
    hashes = []
    for text in (
        '"""Doc."""\nX = 1\ndef f(x):\n    """Doc."""\n    return x + 1\n',
        '"""Other doc."""\n# a comment\nX = 1\n\n\ndef f(x):\n    """Other."""\n    return x + 1\n',
        '"""Doc."""\nX = 1\ndef f(x):\n    """Doc."""\n    return x + 2\n',
    ):
        stage.write_text(text, encoding="utf-8")
        hashes.append(versions.code_hashes("corpus")["stages/corpus/extra.py"])
    assert hashes[0] == hashes[1] != hashes[2]
