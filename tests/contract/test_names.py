"""One noun a stage, the same noun everywhere: module, rule file, test, command, log folder."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bowerbird.artifacts.versions import stage_version
from bowerbird.cli.commands import STAGE_COMMANDS
from bowerbird.stages import STAGES

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("noun", STAGES)
def test_noun_names_module_rules_and_test(noun: str) -> None:
    assert (REPOSITORY / "src" / "bowerbird" / "stages" / noun / "__init__.py").exists()
    assert (REPOSITORY / "rules" / f"{noun}.smk").exists()
    assert (REPOSITORY / "tests" / "stage" / f"test_{noun}.py").exists()
    assert stage_version(noun) >= 1


@pytest.mark.parametrize("noun", STAGES)
def test_rules_call_the_command_of_their_name(noun: str) -> None:
    """Rule name = function name = command; every rule logs below its noun and says what it reads and writes."""
    text = (REPOSITORY / "rules" / f"{noun}.smk").read_text(encoding="utf-8")
    assert text.startswith("# READS") and "# WRITES" in text
    rules = re.split(r"^rule ", text, flags=re.M)[1:]
    assert rules
    for body in rules:
        name = body.split(":", 1)[0]
        command = name.replace("_", "-")
        assert STAGE_COMMANDS[command].target.endswith(f":{name}")
        assert f" {command} " in body.replace('"', " "), f"rule {name} does not run `bowerbird {command}`"
        assert f"logs/{noun}/" in body, f"rule {name} logs elsewhere"
        assert "version=stage_version(" in body, f"rule {name} does not track its stage's version"


def test_snakefile_is_a_table_of_contents() -> None:
    lines = (REPOSITORY / "Snakefile").read_text(encoding="utf-8").splitlines()
    assert len([line for line in lines if line.strip()]) <= 60
    included = [line for line in lines if line.startswith("include:")]
    assert [re.search(r"rules/(\w+)\.smk", line)[1] for line in included] == ["common", *STAGES]
