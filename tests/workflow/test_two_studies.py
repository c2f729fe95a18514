"""Two studies, one store: what the first made, the second finds, by the stages' own commands."""

from __future__ import annotations

from pathlib import Path

import pytest
from stage_commands import Stage


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["extract_features", "fit_codebook", "assign_units", "search_pairs"])
def test_a_stage_finds_what_was_made_before(stage, tmp_path: Path, rule: str) -> None:
    job = stage(rule)
    expected = job.written()
    store = tmp_path / "store"
    store.mkdir()
    kept = Stage(job.root, job.environment | {"BOWERBIRD_CACHE": str(store), "BOWERBIRD_LOG": "INFO"}, job.words)
    for time, word in enumerate(("made", "found")):
        job.output.unlink()
        code, errors = kept.run()
        assert code == 0, errors
        assert ("not made again" in errors) == bool(time), word
        assert job.written() == expected
