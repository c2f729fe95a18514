"""A run as an RO-Crate 1.1: ``ro-crate-metadata.json`` names every artifact, its digest, and the action that made it."""

from __future__ import annotations

import datetime
import importlib.metadata
import mimetypes
import urllib.parse
from pathlib import Path
from typing import Any

from bowerbird.artifacts.files import file_sha256, write_json
from bowerbird.errors import BowerbirdError
from bowerbird.inspection.integrity import NOT_ARTIFACTS, read_any_identity
from bowerbird.inspection.kinship import Kinship
from bowerbird.inspection.lineage import made_from
from bowerbird.inspection.show import read_record

# sha256 is of schema.org, and younger than the crate's own context
CONTEXT = ["https://w3id.org/ro/crate/1.1/context", {"sha256": "https://schema.org/sha256"}]


def write_crate(root: Path = Path("results/demo"), licence: str = "", author: str = "") -> None:
    """Write ``ro-crate-metadata.json`` into a run's folder, so that the folder can be published as an RO-Crate.

    ``licence``: address of a licence (https://spdx.org/licenses/CC-BY-4.0), or words.
    """
    if not (root / "config.yaml").is_file():
        raise BowerbirdError(f"{root}: no config.yaml, so this is no run; a run is a folder below results/")
    root = root.absolute()
    kinship, files, actions = Kinship(root), [], []
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root)
        hidden = any(part.startswith(".") for part in relative.parts)
        if not path.is_file() or hidden or NOT_ARTIFACTS & set(relative.parts) or path.name == "ro-crate-metadata.json":
            continue
        files.append(_file(path, _id(relative)))
        record = read_record(path) if path.with_name(path.name + ".run.json").is_file() else {}
        if record:
            actions.append(_action(kinship, path, record))
    known = {entity["@id"] for entity in files}
    for action in actions:
        action["object"] = [item for item in action["object"] if item["@id"] in known]
    dataset: dict[str, Any] = {
        "@id": "./",
        "@type": "Dataset",
        "name": f"bowerbird run {root.name}",
        "description": "Zero-shot voice conversion, evaluated: corpus, features, models, conversions, scores, report.",
        "datePublished": max((a["endTime"] for a in actions), default=_now())[:10],
        "hasPart": [{"@id": entity["@id"]} for entity in files],
        "mentions": [{"@id": action["@id"]} for action in actions],
        "license": licence or "not stated",
    }
    terms = []
    if licence.startswith(("https://", "http://")):
        dataset["license"] = {"@id": licence}
        terms.append({"@id": licence, "@type": "CreativeWork", "name": licence.rstrip("/").rpartition("/")[2]})
    people = [{"@id": "#author", "@type": "Person", "name": author}] if author else []
    if people:
        dataset["author"] = {"@id": "#author"}
    about = {
        "@id": "ro-crate-metadata.json",
        "@type": "CreativeWork",
        "about": {"@id": "./"},
        "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"},
    }
    software = {
        "@id": "#bowerbird",
        "@type": "SoftwareApplication",
        "name": "bowerbird",
        "softwareVersion": importlib.metadata.version("bowerbird"),
    }
    graph = [about, dataset, software, *people, *terms, *files, *actions]
    write_json(root / "ro-crate-metadata.json", {"@context": CONTEXT, "@graph": graph})
    print(f"{root / 'ro-crate-metadata.json'}: {len(files)} files, {len(actions)} actions")


def _id(path: Path) -> str:
    """A relative path as the crate names it: a URI, with what may not stand in one escaped."""
    return urllib.parse.quote(path.as_posix())


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


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


def _action(kinship: Kinship, path: Path, record: dict[str, Any]) -> dict[str, Any]:
    name = _id(path.relative_to(kinship.root))
    identity = read_any_identity(path) or record.get("identity", {})
    sources = [p for files in made_from(kinship, path, identity).values() for p in files]
    inside = [p.relative_to(kinship.root) for p in sources if p.is_relative_to(kinship.root)]
    return {
        "@id": f"#make-{name}",
        "@type": "CreateAction",
        "name": f"{identity.get('stage', 'stage')} of {name}",
        "instrument": {"@id": "#bowerbird"},
        "startTime": record["started"],
        "endTime": _ended(record),
        "result": {"@id": name},
        "object": [{"@id": _id(p)} for p in inside],
        "description": f"{record['seconds']:g} s on {record['device']}, parameters {identity.get('params_hash', '')}",
    }
