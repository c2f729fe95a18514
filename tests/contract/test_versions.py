"""A change of a stage's code is decided upon: its VERSION goes up, or the new hash is recorded as "same bytes"."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bowerbird import versions

RECORD = Path(__file__).with_name("stage_versions.json")
HINT = (
    "Same input, other bytes? Raise VERSION in the stage's module. Same bytes? Then only record the new hash.\n"
    "Both: python tests/contract/record_versions.py"
)


@pytest.mark.parametrize("stage", sorted(versions.STAGE_MODULES))
def test_code_change_was_decided(stage: str) -> None:
    recorded = json.loads(RECORD.read_text(encoding="utf-8"))[stage]
    assert recorded == {"version": versions.stage_version(stage), "code": versions.syntax_hash(stage)}, HINT


def test_hash_ignores_comments_and_docstrings_but_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "PACKAGE", tmp_path)
    monkeypatch.setattr(versions, "STAGE_MODULES", {"s": ()})
    source = tmp_path / "s.py"
    source.write_text('"""Doc."""\nVERSION = 1\ndef f(x):\n    """Doc."""\n    return x + 1\n')
    before = versions.syntax_hash("s")
    source.write_text('"""Other doc."""\n# a comment\nVERSION = 1\n\n\ndef f(x):\n    """Other."""\n    return x + 1\n')
    assert versions.syntax_hash("s") == before
    source.write_text('"""Doc."""\nVERSION = 1\ndef f(x):\n    """Doc."""\n    return x + 2\n')
    assert versions.syntax_hash("s") != before
