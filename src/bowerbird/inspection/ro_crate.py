"""A run as an RO-Crate 1.1: ``ro-crate-metadata.json`` names every artifact, its digest, and the action that made it."""

from __future__ import annotations

import datetime
import importlib.metadata
import mimetypes
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bowerbird.artifacts.files import file_sha256, write_json
from bowerbird.artifacts.identity import run_record_path
from bowerbird.config.graph import Graph
from bowerbird.errors import BowerbirdError
from bowerbird.inspection.integrity import NOT_ARTIFACTS
from bowerbird.inspection.lineage import inputs_of, read_any_identity, read_record

# sha256 is a term of schema.org that is younger than the crate's own context
CONFORMS_TO = "https://w3id.org/ro/crate/1.1"
CONTEXT = [f"{CONFORMS_TO}/context", {"sha256": "https://schema.org/sha256"}]
METADATA = "ro-crate-metadata.json"


def write_crate(root: Path = Path("results/demo"), license: str = "", author: str = "") -> None:
    """Write ``ro-crate-metadata.json`` into a run's folder, so that the folder can be published as an RO-Crate.

    ``license``: address of a license (https://spdx.org/licenses/CC-BY-4.0), or words.
    """
    if not (root / "config.yaml").is_file():
        raise BowerbirdError(f"{root}: no config.yaml, so this is no run; a run is a folder below results/")
    graph = Graph.of_run(root.absolute())
    paths = list(_artifacts(graph.paths.root))
    files = [_file(path, _id(path.relative_to(graph.paths.root))) for path in paths]
    known = {entity["@id"] for entity in files}
    recorded = [path for path in paths if run_record_path(path).is_file()]
    actions = [_action(graph, path, known) for path in recorded]
    about = {"@id": METADATA, "@type": "CreativeWork", "about": {"@id": "./"}, "conformsTo": {"@id": CONFORMS_TO}}
    version = importlib.metadata.version("bowerbird")
    software = {"@id": "#bowerbird", "@type": "SoftwareApplication", "name": "bowerbird", "softwareVersion": version}
    entities = [about, _dataset(graph, files, actions, license, author), software]
    if author:
        entities.append({"@id": "#author", "@type": "Person", "name": author})
    if _is_address(license):
        entities.append({"@id": license, "@type": "CreativeWork", "name": license.rstrip("/").rpartition("/")[2]})
    write_json(graph.paths.root / METADATA, {"@context": CONTEXT, "@graph": [*entities, *files, *actions]})
    print(f"{root / METADATA}: {len(files)} files, {len(actions)} actions")


def _artifacts(root: Path) -> Iterator[Path]:
    """Files of a run that a crate lists, in the order of their paths."""
    for path in sorted(root.rglob("*")):
        parts = path.relative_to(root).parts
        is_hidden = any(part.startswith(".") for part in parts)
        if path.is_file() and not is_hidden and not NOT_ARTIFACTS & set(parts) and path.name != METADATA:
            yield path


def _is_address(license: str) -> bool:
    return license.startswith(("https://", "http://"))


def _dataset(
    graph: Graph, files: list[dict[str, Any]], actions: list[dict[str, Any]], license: str, author: str
) -> dict[str, Any]:
    """The run as a whole."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    dataset: dict[str, Any] = {
        "@id": "./",
        "@type": "Dataset",
        "name": f"bowerbird run {graph.paths.root.name}",
        "description": "Zero-shot voice conversion, evaluated: corpus, features, models, conversions, scores, report.",
        "datePublished": max((action["endTime"] for action in actions), default=today)[:10],
        "hasPart": [{"@id": entity["@id"]} for entity in files],
        "mentions": [{"@id": action["@id"]} for action in actions],
        "license": {"@id": license} if _is_address(license) else license or "not stated",
    }
    return dataset | ({"author": {"@id": "#author"}} if author else {})


def _id(path: Path) -> str:
    """A relative path as the crate names it: a URI, with what may not stand in one escaped."""
    return urllib.parse.quote(path.as_posix())


def _ended(record: dict[str, Any]) -> str:
    """When the job that wrote a run record ended."""
    started = datetime.datetime.strptime(record["started"], "%Y-%m-%dT%H:%M:%SZ")
    return (started + datetime.timedelta(seconds=record["seconds"])).strftime("%Y-%m-%dT%H:%M:%SZ")


def _file(path: Path, name: str) -> dict[str, Any]:
    kinds = {".npy": "application/x-npy", ".parquet": "application/vnd.apache.parquet", ".jsonl": "application/jsonl"}
    kind = kinds.get(path.suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
    return {
        "@id": name,
        "@type": "File",
        "contentSize": str(path.stat().st_size),
        "encodingFormat": kind,
        "sha256": file_sha256(path),
    }


def _action(graph: Graph, path: Path, known: set[str]) -> dict[str, Any]:
    """The action that made an artifact, from those of its inputs that the crate lists."""
    root, record = graph.paths.root, read_record(path)
    identity = read_any_identity(path) or record.get("identity", {})
    sources = [source for files in inputs_of(graph, path).values() for source in files if source.is_relative_to(root)]
    names = dict.fromkeys(_id(source.relative_to(root)) for source in sources)
    return {
        "@id": f"#make-{_id(path.relative_to(root))}",
        "@type": "CreateAction",
        "name": f"{identity.get('stage', 'stage')} of {path.relative_to(root)}",
        "instrument": {"@id": "#bowerbird"},
        "startTime": record["started"],
        "endTime": _ended(record),
        "result": {"@id": _id(path.relative_to(root))},
        "object": [{"@id": name} for name in names if name in known],
        "description": f"{record['seconds']:g} s on {record['device']}, parameters {identity.get('params_hash', '')}",
    }
