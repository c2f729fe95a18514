"""README and docs: their links, commands, configurations and names are those of the code.

A block ``yaml`` is an overlay over config.yaml; ``yaml over NAME ...`` goes over the presets or experiments of those names too. A
block of YAML that is no overlay has another word behind it, for instance ``yaml profile``.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from doc_pages import PAGES, anchors, blocks, code_words, commands, links, name_of, prose
from source_tree import PACKAGE, REPOSITORY

from bowerbird.cli.commands import COMMANDS, STAGE_COMMANDS, split_command
from bowerbird.cli.options import parse_call
from bowerbird.config.graph import Graph
from bowerbird.config.loading import VARIANTS, load_config
from bowerbird.config.messages import known_keys
from bowerbird.config.paths import Paths
from bowerbird.config.study import Config
from bowerbird.metrics.registry import METRICS, SECOND

LOG = sorted((REPOSITORY / "docs" / "log").glob("*.md"))
LONGEST_ENTRY = 15  # lines of the log that are not empty
PHRASES = ("no gpu was lent", "this session", "this sitting")
FOLDERS = ("benchmarks/", "docs/", "rules/", "src/", "tests/", "workflow/")
MAKEFILE = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, flags=re.M))

of_pages = pytest.mark.parametrize("page", PAGES, ids=name_of)


def overlay(name: str) -> Path:
    """The overlay of that name."""
    (found,) = (REPOSITORY / "workflow").glob(f"*/{name}.yaml")
    return found


@of_pages
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for file, anchor in links(page):
        target = page.parent / file if file else page
        assert target.exists(), f"{file}: no such file"
        assert not anchor or anchor in anchors(target), f"{file}#{anchor}: no such heading"


@of_pages
def test_paths_of_the_repository_exist(page: Path) -> None:
    """What is in backticks and begins with one of its folders; log and changelog may name what is gone."""
    if page in LOG or page.name == "CHANGELOG.md":
        return
    words = [word for word in code_words(page) if word.startswith(FOLDERS) and not re.search(r"[\s<*{]", word)]
    assert [word for word in words if not (REPOSITORY / word).exists()] == []


@of_pages
def test_commands_can_be_parsed(page: Path) -> None:
    """Command and options exist; nothing is run."""
    for words in commands(page, "bowerbird"):
        name, rest = split_command(words)
        assert name or words[0] == "--help", f"bowerbird {' '.join(words)}: no such command"
        if name and "--help" not in rest:
            command = COMMANDS[name]
            parse_call(name, command.load(), rest, command.positional)


@of_pages
def test_commands_in_the_prose_exist(page: Path) -> None:
    """``bowerbird show PATH``: there the arguments are left out or abbreviated."""
    for text in code_words(page):
        words = text.split()
        if words[0] == "bowerbird" and len(words) > 1 and not words[1].startswith("-") and words[1] != "COMMAND":
            assert split_command(words[1:])[0], f"{text}: no such command"
        if words[0] == "make" and len(words) > 1:
            assert words[1] in TARGETS, f"{text}: no such target"


@of_pages
def test_make_has_the_targets_and_overlays(page: Path) -> None:
    for words in commands(page, "make"):
        variables = dict(word.split("=", 1) for word in words if "=" in word)
        assert {word for word in words if "=" not in word} <= TARGETS, f"make {' '.join(words)}"
        for name in variables.get("PRESET", "").split():
            assert name.endswith(".yaml") or overlay(name), f"make {' '.join(words)}"


@of_pages
def test_configurations_are_accepted(page: Path) -> None:
    for block in blocks(page):
        if block.language != "yaml":
            continue
        values = yaml.safe_load(block.text)
        assert isinstance(values, dict)
        if len(block.info) == 1 or block.info[1] == "over":
            load_config([REPOSITORY / "config.yaml", *map(overlay, block.info[2:])], values)


@of_pages
def test_keys_of_the_configuration_exist(page: Path) -> None:
    """``corpus.num_shards``, ``codebook.k256.num_codes: 512``: the first part is a section, names of variants are free."""
    for text in code_words(page):
        match = re.fullmatch(r"([a-z]+(?:\.[A-Za-z0-9_-]+)+)(: .*)?", text)
        parts = match[1].split(".") if match else [""]
        is_variant = parts[0] in VARIANTS and len(parts) == 2
        if parts[0] in Config.model_fields and not is_variant and parts[-1] not in ("smk", "py", "yaml"):
            assert parts[-1] in known_keys(parts[:-1], Config), f"{text}: no such key"


@pytest.mark.parametrize("page", LOG, ids=name_of)
def test_entries_of_the_log_are_short(page: Path) -> None:
    entries = re.split(r"^## ", page.read_text(encoding="utf-8"), flags=re.M)[1:]
    lines = {entry.splitlines()[0]: sum(bool(line.strip()) for line in entry.splitlines()) for entry in entries}
    assert {title: count for title, count in lines.items() if count > LONGEST_ENTRY} == {}
    assert [title for title in lines if not title.endswith("]")] == [], "a heading ends with its verdict in brackets"


def test_every_day_of_the_log_is_listed() -> None:
    listed = {file for file, _ in links(REPOSITORY / "docs" / "log" / "README.md") if file.endswith(".md")}
    assert listed >= {page.name for page in LOG} - {"README.md"}


def test_every_metric_has_a_page() -> None:
    names = set(code_words(REPOSITORY / "docs" / "metrics" / "README.md"))
    assert names >= {name for name in METRICS if not name.endswith(SECOND)}


def test_the_readme_names_every_stage_command_and_every_layer() -> None:
    readme = REPOSITORY / "README.md"
    assert set(code_words(readme)) >= set(STAGE_COMMANDS)
    (tree,) = [block.text for block in blocks(readme) if "src/bowerbird/" in block.text and "rules/" in block.text]
    named = {line.split()[0].rstrip("/") for line in tree.splitlines()}
    layers = {path.name for path in PACKAGE.iterdir() if not path.name.startswith("__")}
    assert layers <= named
    assert [name for name in named if not any((folder / name).exists() for folder in TREE)] == []


def test_the_first_run_counts_the_jobs_of_the_default_study() -> None:
    config = load_config([REPOSITORY / "config.yaml"])
    count = len(Graph(config, Paths.of(config)).needed())
    text = prose(REPOSITORY / "docs" / "first-run.md")
    assert re.search(rf"starts\s+{count}\s+jobs", text) and re.search(rf"the\s+{count}\s+jobs", text), f"{count} jobs"


TREE = (REPOSITORY, REPOSITORY / "workflow", PACKAGE)  # folders whose entries the README lists


def test_nothing_is_said_about_how_the_work_was_organized() -> None:
    folders = ("src", "workflow", "rules", "examples", "benchmarks")
    files = [
        *PAGES,
        *REPOSITORY.glob("*.md"),
        *(path for folder in folders for path in (REPOSITORY / folder).rglob("*")),
    ]
    texts = {path: path.read_text(encoding="utf-8") for path in files if path.suffix in (".md", ".py", ".yaml", ".smk")}
    assert [
        (name_of(path), phrase)
        for path, text in texts.items()
        for phrase in PHRASES
        if phrase in " ".join(text.lower().split())
    ] == []
