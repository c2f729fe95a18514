"""What ``bowerbird audit --fix`` removes, so that the next run makes exactly that again, and what follows."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from bowerbird.artifacts.files import SEAL, seal_path
from bowerbird.artifacts.identity import run_record_path
from bowerbird.config.graph import Graph
from bowerbird.inspection.integrity import Finding, run_graph


def remove_damaged(root: Path, findings: Iterable[Finding]) -> list[Path]:
    """Remove the outputs of every job of which one is damaged (corrupt, stale or missing), and leftovers of killed jobs.

    Returns the removed files, relative to ``root``.
    """
    graph, _ = run_graph(root)
    to_remove: dict[Path, None] = {}
    for finding in findings:
        path = root / finding.path
        if finding.state in ("corrupt", "stale", "missing"):
            to_remove |= dict.fromkeys(outputs_with(path, graph))
        elif finding.state == "orphan" and path.name.startswith(".tmp-"):
            to_remove[path] = None
    removed = []
    for path in to_remove:
        for file in (path, seal_path(path), run_record_path(path)):
            if file.is_file():
                file.unlink()
                removed.append(file.relative_to(root))
    return removed


def declared(removed: Iterable[Path]) -> list[Path]:
    """Of removed files those that a rule declares: no digests, no run records."""
    return [path for path in removed if not path.name.endswith((SEAL, ".run.json"))]


def outputs_with(path: Path, graph: Graph | None) -> list[Path]:
    """``path`` and the outputs of the job that writes it; a record or a digest belongs to its artifact."""
    if path.name.endswith(".run.json"):
        path = path.with_name(path.name.removesuffix(".run.json"))
    if path.name.startswith(".") and path.name.endswith(SEAL):
        path = path.with_name(path.name[1:].removesuffix(SEAL))
    job = graph.writer_of(path) if graph else None
    return list(dict.fromkeys([path, *(job.outputs.values() if job else ())]))
