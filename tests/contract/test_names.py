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


def rules(noun: str) -> dict[str, str]:
    """The rules of a stage's file: name -> text."""
    text = (REPOSITORY / "rules" / f"{noun}.smk").read_text(encoding="utf-8")
    text = re.sub(r"^ *#.*\n", "", text, flags=re.M)
    return {body.split(":", 1)[0]: body for body in re.split(r"^rule ", text, flags=re.M)[1:]}


RULES = [(noun, name) for noun in STAGES for name in rules(noun)]


def test_every_stage_command_has_a_rule() -> None:
    assert {name.replace("_", "-") for _, name in RULES} == set(STAGE_COMMANDS)


@pytest.mark.parametrize(("noun", "name"), RULES)
def test_a_rule_calls_the_command_of_its_name(noun: str, name: str) -> None:
    """Rule name = function name = command; its log and benchmark lie below its noun."""
    body, command = rules(noun)[name], name.replace("_", "-")
    assert STAGE_COMMANDS[command].target.endswith(f":{name}")
    assert STAGE_COMMANDS[command].target.startswith(f"bowerbird.stages.{noun}.")
    called = re.search(r'^    shell:\n +"(?:bowerbird|\{LAUNCH\}) ([a-z-]+)"', body, flags=re.M)
    assert called and called[1] == command, f"rule {name} does not run `bowerbird {command}`"
    assert f'PATHS.log("{noun}", ' in body and f'PATHS.benchmark("{noun}", ' in body
    assert f'version=stage_version("{noun}")' in body, f"rule {name} does not track its stage's version"


@pytest.mark.parametrize(("noun", "name"), RULES)
def test_a_rule_can_be_read_alone(noun: str, name: str) -> None:
    """Inputs and outputs by name, log, benchmark, message, and one option per line."""
    body = rules(noun)[name]
    for part in ("input", "output", "log", "benchmark", "message", "params", "shell"):
        assert re.search(rf"^    {part}:", body, flags=re.M), f"rule {name} has no {part}"
    for part in ("input", "output"):
        lines = re.search(rf"^    {part}:\n((?:        .*\n)+)", body, flags=re.M)[1].splitlines()
        named = r" {8}(\w+=| {4}|[)\]]|\*\*|unpack\()"
        assert all(re.match(named, line) for line in lines), f"an {part} without a name"
    shell = re.search(r"^    shell:\n((?:        .*\n?)+)", body, flags=re.M)[1].splitlines()
    assert all(line.count("--") <= 1 for line in shell), "two options on a line"


@pytest.mark.parametrize("noun", STAGES)
def test_the_path_of_an_artifact_is_written_once(noun: str) -> None:
    text = (REPOSITORY / "rules" / f"{noun}.smk").read_text(encoding="utf-8")
    assert text.startswith("# READS") and "# WRITES" in text
    code = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    assert "{{" not in code and not re.search(r"\.(npy|parquet|html)\"", code), "paths come from PATHS"
    literals = [
        word for line in code.splitlines() for word in re.findall(r'"([^"]*)"', line) if not word.startswith(" ")
    ]
    assert not any("/" in word for word in literals) and not re.search(r"PATHS\.root\s*/", code), (
        "paths come from PATHS"
    )


def test_the_common_rules_bind_and_no_more() -> None:
    lines = (REPOSITORY / "rules" / "common.smk").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 60 and not any(re.match(r"(def|rule|checkpoint|class) ", line) for line in lines)


def test_snakefile_is_a_table_of_contents() -> None:
    lines = (REPOSITORY / "Snakefile").read_text(encoding="utf-8").splitlines()
    assert len([line for line in lines if line.strip()]) <= 60
    assert [line for line in lines if re.match(r"\s+(output|shell|run|script):", line)] == [], (
        "a rule that makes something"
    )
    included = [line for line in lines if line.startswith("include:")]
    assert [re.search(r"rules/(\w+)\.smk", line)[1] for line in included] == ["common", *STAGES]
