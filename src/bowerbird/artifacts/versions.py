"""Versions of stages, and the code that each one guards.

A stage's ``VERSION`` is raised when the same input gives other bytes. Which code can do that is derived from the imports,
read from the source without running it (torch takes seconds, the workflow starts often): everything that the modules of
``stages/<stage>/`` import, directly or through others. ``config`` is left out, because what is asked reaches a stage through
its parameters, which have a record of their own, and so is ``errors``. A module that is imported by name at run time is
found where the name is a literal or an f-string: ``import_module(f"{package}.training")`` stands for every module of that
name. A system of another package has a version of its own, among its options.

``tests/contract/stage_versions.json`` keeps the hash of that code beside the version, so no change goes by undecided.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
TEMPLATES = (".j2", ".css", ".js")  # of a page: as good as code
UNGUARDED = ("config", "errors")  # modules and packages that cannot change what a stage writes


def stage_version(stage: str) -> int:
    """``VERSION`` of a stage."""
    path = PACKAGE / "stages" / stage / "__init__.py"
    for node in ast.parse(path.read_bytes()).body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "VERSION" for t in node.targets):
            return int(ast.literal_eval(node.value))
    raise LookupError(f"src/bowerbird/stages/{stage}/__init__.py: must define VERSION = <int>")


def stage_files(stage: str) -> list[Path]:
    """Source files whose code can change what a stage writes, in order of their paths."""
    found: set[Path] = set()
    waiting = sorted((PACKAGE / "stages" / stage).glob("*.py"))
    while waiting:
        path = waiting.pop()
        if path in found or path.relative_to(PACKAGE).with_suffix("").parts[0] in UNGUARDED:
            continue
        found.add(path)
        waiting += imported_files(path)
    return sorted(found)


@functools.cache
def imported_files(path: Path) -> tuple[Path, ...]:
    """Files of this package that a file imports, at its head or inside functions, with the packages above them."""
    names = _imported_names(path.read_bytes(), path.relative_to(PACKAGE).parent.parts)
    found = [file for name in names for file in _files_of(name)]
    above = [parent / "__init__.py" for file in found for parent in file.parents if PACKAGE in parent.parents]
    return tuple(dict.fromkeys([*found, *(file for file in above if file.is_file())]))


@functools.cache
def _imported_names(source: bytes, package: tuple[str, ...]) -> tuple[str, ...]:
    """Dotted names below the package that a module of ``package`` imports: "nn.mel", "nn.mel.LogMel", or "**.training"."""
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join(("bowerbird", *package[: len(package) - node.level + 1], *base.split("."))).strip(".")
            found += [f"{base}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module") and node.args:
            found.append(_pattern(node.args[0]))
    return tuple(name.removeprefix("bowerbird.") for name in found if name.startswith(("bowerbird.", "**.")))


def _pattern(node: ast.expr) -> str:
    """A string literal, or an f-string with ``*`` for each value in it, ``**`` at its beginning; "" for anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        text = "".join(str(part.value) if isinstance(part, ast.Constant) else "*" for part in node.values)
        return f"*{text}" if text.startswith("*") else text
    return ""


def _files_of(name: str) -> list[Path]:
    """The modules that a dotted name stands for; of a name inside a module, the module."""
    parts = name.split(".")
    for count in (len(parts), len(parts) - 1):
        below = "/".join(parts[:count])
        found = [*PACKAGE.glob(f"{below}.py"), *PACKAGE.glob(f"{below}/__init__.py")] if below else []
        if found:
            return sorted(found)
    return []


def code_hashes(stage: str) -> dict[str, str]:
    """Hash of the syntax tree of each file that a stage guards, by its path below the package; of templates, of their bytes.

    Comments, blank lines and docstrings of Python code do not count.
    """
    hashes = {path: _syntax_hash(path.read_bytes()) for path in stage_files(stage)}
    templates = sorted(path for path in (PACKAGE / "stages" / stage).iterdir() if path.suffix in TEMPLATES)
    hashes |= {path: hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in templates}
    return {path.relative_to(PACKAGE).as_posix(): code for path, code in hashes.items()}


@functools.cache
def _syntax_hash(source: bytes) -> str:
    tree = ast.parse(source)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree):
        if isinstance(node, documented) and ast.get_docstring(node):
            node.body = node.body[1:]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:16]
