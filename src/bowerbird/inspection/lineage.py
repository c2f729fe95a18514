"""Ancestors of an artifact."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bowerbird.errors import BowerbirdError
from bowerbird.inspection.integrity import read_any_identity
from bowerbird.inspection.kinship import Kinship, kinship_of


def draw_lineage(path: Path) -> None:
    """Print an artifact's ancestors as a tree, down to the manifest; what was drawn before is marked, not drawn again."""
    if not path.is_file():
        raise BowerbirdError(f"{path}: no such file; an artifact is a file below results/<run>/")
    kinship = kinship_of(path)
    for line in lineage(kinship, path.absolute()):
        print(line)


def lineage(
    kinship: Kinship, path: Path, role: str = "", depth: int = 0, drawn: set[Path] | None = None
) -> Iterator[str]:
    """Lines of the tree."""
    drawn = set() if drawn is None else drawn
    inside = path.is_relative_to(kinship.root)
    name = path.relative_to(kinship.root) if inside else path
    identity = read_any_identity(path) if inside and path.is_file() else {}
    again, gone = path in drawn, "" if path.is_file() else "   (not there)"
    label = f"{role}: " if role else ""
    print_hash = f"   [{identity['stage']} {identity['params_hash'][:8]}]" if identity else ""
    yield f"{'    ' * depth}{label}{name}{print_hash}{'   (above)' if again else gone}"
    if again or not identity:
        return
    drawn.add(path)
    for parent_role, files in made_from(kinship, path, identity).items():
        yield from lineage(kinship, files[0], parent_role, depth + 1, drawn)
        if files[1:]:
            yield f"{'    ' * (depth + 1)}{parent_role}: and {len(files) - 1} more shards"


def made_from(kinship: Kinship, path: Path, identity: dict[str, Any]) -> dict[str, list[Path]]:
    """The parents whose digests the artifact carries, by role."""
    parents = kinship.parents(path)
    return {
        role: parents[role] for role in identity.get("inputs", {}) if parents.get(role) and path not in parents[role]
    }
