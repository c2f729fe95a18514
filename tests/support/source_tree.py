"""The package as text: its modules, what they import, their classes and functions. Nothing of it is run."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "src" / "bowerbird"


def module_name(path: Path) -> str:
    """Dotted name below the package: "nn.mel"; of a package, its folder; "" of the root."""
    parts = list(path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def modules() -> dict[str, Path]:
    """Every module by its name."""
    return {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


@functools.cache
def tree(path: Path) -> ast.Module:
    """Syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"))


@functools.cache
def imports(name: str) -> frozenset[str]:
    """Modules of the package that a module imports: at its head, inside functions, for type checking, relatively, or by name.

    A name that is put together at run time (``import_module(f"{package}.training")``) is not seen.
    """
    found = set()
    for node in ast.walk(tree(modules()[name])):
        if isinstance(node, ast.Import):
            found |= {
                alias.name.removeprefix("bowerbird.") for alias in node.names if alias.name.startswith("bowerbird.")
            }
        elif isinstance(node, ast.ImportFrom) and (base := _origin(name, node)) is not None:
            for alias in node.names:
                below = f"{base}.{alias.name}".removeprefix(".")
                found.add(below if below in modules() else base)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            words = [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
            found |= {word.removeprefix("bowerbird.") for word in words if word.startswith("bowerbird.")}
    return frozenset(found - {name})


def _origin(name: str, node: ast.ImportFrom) -> str | None:
    """The module of ours that ``from ... import`` names, "" for the root; None for a foreign one."""
    parts = (node.module or "").split(".") if node.module else []
    if not node.level:
        return ".".join(parts[1:]) if parts[0] == "bowerbird" else None
    above = node.level - (modules()[name].name == "__init__.py")
    package = name.split(".")
    return ".".join([*package[: len(package) - above], *parts])


def foreign_imports(name: str) -> set[str]:
    """Top-level packages other than ours that a module imports anywhere."""
    found = set()
    for node in ast.walk(tree(modules()[name])):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add((node.module or "").split(".")[0])
    return found - {"bowerbird"}


def circles() -> list[list[str]]:
    """Groups of modules that import each other, directly or through others (Tarjan's strongly connected components)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in sorted(imports(name) & modules().keys()):
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            group = []
            while not group or group[-1] != name:
                group.append(stack.pop())
            if len(group) > 1:
                found.append(sorted(group))

    for name in modules():
        if name not in index:
            visit(name)
    return found


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function and method of a file, nested ones too."""
    for node in ast.walk(tree(path)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


def classes() -> Iterator[tuple[str, str]]:
    """(class name, module) of every class at the top of a module."""
    for name, path in modules().items():
        yield from ((node.name, name) for node in tree(path).body if isinstance(node, ast.ClassDef))
