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
    [path for path in FILES if below(path).startswith(("nn/", "systems/", "encoders/"))],
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
    asked = [ast.unparse(node) for node in ast.walk(tree(path)) if _asks_for_the_system(node)]
    assert asked == [], "getattr of an experiment's option, its class, or a comparison with the name of a system"


def _asks_for_the_system(node: ast.AST) -> bool:
    if isinstance(node, ast.Match):
        return _is_system(node.subject)
    if isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
        return any(map(_is_system, sides)) and any(map(_is_constant, sides))
    if not isinstance(node, ast.Call):
        return False
    function, first = ast.unparse(node.func), ast.unparse(node.args[0]) if node.args else ""
    if function in ("getattr", "hasattr"):
        return bool(re.search(r"\b(experiment|chosen|experiments\[[^]]*\])$", first))
    if function in ("isinstance", "issubclass"):
        return bool(re.search(r"\w+Experiment\b", ast.unparse(node.args[1])))
    return isinstance(node.func, ast.Attribute) and _is_system(node.func.value) and node.func.attr.endswith("with")


def _is_system(node: ast.expr) -> bool:
    return bool(re.search(r"(^|\.)system(_name)?$", ast.unparse(node)))


def _is_constant(node: ast.expr) -> bool:
    """A string, a collection that holds one, or a name in capitals."""
    return any(
        (isinstance(part, ast.Constant) and isinstance(part.value, str))
        or (isinstance(part, ast.Name) and part.id.isupper())
        for part in ast.walk(node)
    )


@pytest.mark.parametrize("path", FILES, ids=below)
def test_no_formatter_is_silenced(path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"# *fmt: *(skip|off)", text)
    assert not re.search(r"^# ?[-=#*~]{10,}", text, flags=re.M), "a section line: the file wants to be two"


def test_hubs_are_asked_in_one_place() -> None:
    """Only `encoders/checkpoint.py` downloads weights; what is opened by name elsewhere is a folder that it found."""
    hub = re.compile(r"huggingface_hub|torch\.hub|urllib\.request|urlretrieve|\bimport requests|import httpx")
    modules_found = [name for name, path in modules().items() if hub.search(path.read_text(encoding="utf-8"))]
    assert modules_found == ["encoders.checkpoint"]
    opened = {
        f"{name}: {ast.unparse(node)}"
        for name, path in modules().items()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).endswith(".from_pretrained")
        and not (node.args and ast.unparse(node.args[0]) == "checkpoint.folder")
    }
    assert opened == set()


def test_constants_of_the_signal_are_defined_once() -> None:
    for name in ("SAMPLE_RATE", "HOP", "FRAMES_PER_SECOND"):
        found = [
            below(path)
            for path in FILES
            if re.search(rf"^ *_?{name}\b(:[^=]*)? = ", path.read_text(encoding="utf-8"), flags=re.M)
        ]
        assert found == ["audio.py"], name
    numbers = [
        below(path)
        for path in FILES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Constant) and node.value == 16000
    ]
    assert numbers == ["audio.py"], "the sampling rate as a number"


def test_the_default_study_fits_on_a_screen_and_explains_each_key() -> None:
    lines = (REPOSITORY / "config.yaml").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 60
    silent = [line for line in lines if re.match(r"(  )?[\w-]+: [^#\s]", line) and "#" not in line]
    inside = [line for line in silent if not re.search(r"system:|like:|knn4", line)]  # `experiments` and `pairs` say it
    assert inside == []
