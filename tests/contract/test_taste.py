"""What the style guide asks and a program can check."""

from __future__ import annotations

import ast
import re
from collections import defaultdict

import pytest
from source_tree import PACKAGE, REPOSITORY, classes, functions, modules, tree

LONGEST_FILE, LONGEST_FUNCTION = 400, 40
FILES = sorted(path for path in PACKAGE.rglob("*.py"))


def below(path) -> str:
    return path.relative_to(PACKAGE).as_posix()


@pytest.mark.parametrize("path", FILES, ids=below)
def test_files_are_short(path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE


@pytest.mark.parametrize("path", FILES, ids=below)
def test_functions_are_short(path) -> None:
    long = {
        f"{node.name} ({node.end_lineno - node.lineno + 1} lines)"
        for node in functions(path)
        if node.end_lineno - node.lineno + 1 > LONGEST_FUNCTION
    }
    assert long == set()


def test_a_class_name_occurs_once() -> None:
    where = defaultdict(list)
    for name, module in classes():
        where[name].append(module)
    assert {name: found for name, found in where.items() if len(found) > 1} == {}


def _is_module(node: ast.ClassDef) -> bool:
    return any(isinstance(item, ast.FunctionDef) and item.name == "forward" for item in node.body)


@pytest.mark.parametrize(
    "path",
    [path for path in FILES if path.parts[-2] in ("nn",) or "systems" in path.parts or "encoders" in path.parts],
    ids=below,
)
def test_every_forward_says_its_shapes(path) -> None:
    """A shape is letters in parentheses with a comma: ``(B, T, D)``."""
    silent = []
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ClassDef) and _is_module(node):
            (forward,) = [item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "forward"]
            if not re.search(r"\((\w[\w +*/-]*|\.\.\.),[^)]*\)", ast.get_docstring(forward) or ""):
                silent.append(node.name)
    assert silent == []


@pytest.mark.parametrize("path", FILES, ids=below)
def test_public_names_have_docstrings(path) -> None:
    """Functions, classes, methods and properties without a leading underscore; not those of private classes."""
    silent = []
    for owner in [
        tree(path),
        *(n for n in tree(path).body if isinstance(n, ast.ClassDef) and not n.name.startswith("_")),
    ]:
        for node in owner.body:
            is_named = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
            if is_named and not node.name.startswith("_") and not ast.get_docstring(node):
                silent.append(node.name)
    assert silent == []


ALLOWED_GETATTR = ("config/",)  # the options of a system are looked at in their own modules


@pytest.mark.parametrize("path", [path for path in FILES if not below(path).startswith(ALLOWED_GETATTR)], ids=below)
def test_nobody_asks_which_system_an_experiment_is(path) -> None:
    """Outside config/ an experiment is asked through its methods."""
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"getattr\(\s*(self\.)?(experiment|chosen)\b", text), "getattr of an experiment's option"
    assert not re.search(r"\.system(_name)?\s*(==|!=|in)\s*[\"'(\[{]", text), "a comparison with the name of a system"


@pytest.mark.parametrize("path", FILES, ids=below)
def test_no_formatter_is_silenced(path) -> None:
    text = path.read_text(encoding="utf-8")
    assert "fmt: skip" not in text and "fmt: off" not in text
    assert not re.search(r"^# ?-{10,}", text, flags=re.M), "a section line: the file wants to be two"


def test_hubs_are_asked_in_one_place() -> None:
    """Only `encoders/checkpoint.py` downloads weights."""
    doors = [name for name, path in modules().items() if "huggingface_hub" in path.read_text(encoding="utf-8")]
    assert doors == ["encoders.checkpoint"]


def test_constants_of_the_signal_are_defined_once() -> None:
    for name in ("SAMPLE_RATE", "HOP", "FRAMES_PER_SECOND"):
        found = [
            below(path) for path in FILES if re.search(rf"^{name}\b.*=", path.read_text(encoding="utf-8"), flags=re.M)
        ]
        assert found == ["audio.py"], name


def test_the_default_study_fits_on_a_screen_and_explains_each_key() -> None:
    lines = (REPOSITORY / "config.yaml").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 60
    silent = [line for line in lines if re.match(r"  [a-z_]+: \S", line) and "#" not in line and "system:" not in line]
    inside = [line for line in silent if not re.search(r"anchor|like:|knn4", line)]
    assert inside == []
