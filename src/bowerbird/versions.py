"""Versions of stages, read from the source without importing it (torch takes seconds, the workflow starts often).

A stage's ``VERSION`` is raised when the same input gives other bytes. ``tests/contract/stage_versions.json`` keeps the
syntax-tree hash of the modules a stage runs beside its version, so a change of code cannot slip by undecided.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from pathlib import Path

PACKAGE = Path(__file__).parent

# what a stage runs besides its own module, as paths below the package
STAGE_MODULES: dict[str, tuple[str, ...]] = {
    "corpus": ("audio.py", "tables.py"),
    "features": ("encoders/selfsupervised.py", "audio.py", "tables.py"),
    "codebook": ("nn/neighbours.py", "tables.py"),
    "pairs": ("nn/neighbours.py", "tables.py"),
    "training": ("nn", "systems/base.py", "systems/vocoder.py", "tables.py"),
    "conversion": ("systems", "nn", "audio.py"),
    "evaluation": ("metrics", "encoders", "audio.py"),
    "report": (),
}


def module_files(name: str) -> list[Path]:
    """Source files of a module or package below ``bowerbird``: "features" or "nn" or "systems/base.py"."""
    path = PACKAGE / name
    if path.is_dir():
        return sorted(p for p in path.rglob("*.py"))
    return [path if path.suffix == ".py" else path.with_suffix(".py")]


@functools.cache
def stage_version(stage: str) -> int:
    """``VERSION`` of a stage module."""
    for path in module_files(stage):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and any(
                isinstance(t, ast.Name) and t.id == "VERSION" for t in node.targets
            ):
                return int(ast.literal_eval(node.value))
    raise LookupError(f"src/bowerbird/{stage}: a stage module must define VERSION = <int>")


def syntax_hash(stage: str) -> str:
    """Hash of the syntax trees a stage runs: comments, blank lines and docstrings do not count."""
    digest = hashlib.sha256()
    files = [path for name in (stage, *STAGE_MODULES[stage]) for path in module_files(name)]
    for path in sorted(set(files)):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(
                node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
            ) and ast.get_docstring(node):
                node.body = node.body[1:]
        digest.update(path.relative_to(PACKAGE).as_posix().encode() + b"\0" + ast.dump(tree).encode() + b"\0")
    return digest.hexdigest()[:16]
