"""What ``bowerbird audit --fix`` removes, so that the next run makes exactly that again, and what follows."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from bowerbird.artifacts.files import SEAL, seal_path
from bowerbird.artifacts.identity import run_record_path
from bowerbird.inspection.integrity import Finding


def remove_damaged(root: Path, findings: Iterable[Finding]) -> list[Path]:
    """Remove the files of every job whose output is damaged (corrupt, stale, or missing in part), and leftovers."""
    doomed: dict[Path, None] = {}
    for finding in findings:
        path = root / finding.path
        if finding.state in ("corrupt", "stale", "missing"):
            doomed |= dict.fromkeys(outputs_of(path))
        elif finding.state == "orphan" and path.name.startswith(".tmp-"):
            doomed[path] = None
    removed = []
    for path in doomed:
        for file in (path, seal_path(path), run_record_path(path)):
            if file.is_file():
                file.unlink()
                removed.append(file.relative_to(root))
    return removed


def declared(removed: Iterable[Path]) -> list[Path]:
    """Of removed files those that a rule declares: no digests, no run records."""
    return [path for path in removed if not path.name.endswith((SEAL, ".run.json"))]


def outputs_of(path: Path) -> list[Path]:
    """The artifacts of the job that wrote ``path``: a run record belongs to its artifact, an index to its array."""
    if path.name.endswith(".run.json"):
        path = path.with_name(path.name.removesuffix(".run.json"))
    if path.name.startswith(".") and path.name.endswith(SEAL):
        path = path.with_name(path.name[1:].removesuffix(SEAL))
    if path.name.startswith("shard-"):
        stem = path.name.split(".")[0]
        return [path.with_name(f"{stem}{suffix}") for suffix in (".npy", ".distances.npy", ".parquet")]
    for folder in path.parents:
        if folder.name == "assets" and folder.parent.name == "report":
            return [path, folder.parent / "index.html"]
    if path.suffix == ".flac":
        return [path, path.with_name("trials.parquet")]
    return [path]
