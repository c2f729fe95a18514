"""The inputs of an artifact, and theirs, down to the corpus; and whether it is what the configuration asks for.

Both are read off the graph of the study (`bowerbird.config.graph`), which the workflow follows as well. A model may lie in the
folder of another run: its inputs are then read off that run's graph.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open

from bowerbird.artifacts.identity import IDENTITY_KEY, canonical_json, inputs_digest, run_record_path
from bowerbird.artifacts.tables import read_identity
from bowerbird.artifacts.versions import stage_version
from bowerbird.config.graph import Graph
from bowerbird.config.paths import ASSETS
from bowerbird.config.shard_names import array_path, index_path
from bowerbird.errors import BowerbirdError


def draw_lineage(path: Path) -> None:
    """Print an artifact's inputs as a tree, down to the manifest; what was drawn before is marked, not drawn again."""
    if not path.is_file():
        raise BowerbirdError(f"{path}: no such file; an artifact is a file below results/<run>/")
    graph = graph_of(path)
    for line in lineage(graph, path.absolute()):
        print(line)


def graph_of(path: Path) -> Graph:
    """The graph of the run that ``path`` lies in: the nearest folder above it that has a config.yaml."""
    graph = find_graph(path)
    if graph is None:
        raise BowerbirdError(f"{path}: lies in no run; a run is a folder with config.yaml and corpus/")
    return graph


def find_graph(path: Path) -> Graph | None:
    """The graph of the run that ``path`` lies in, None where it lies in no run."""
    for folder in path.absolute().parents:
        if (folder / "config.yaml").is_file() and (folder / "corpus").is_dir():
            return Graph.of_run(folder)
    return None


def lineage(graph: Graph, path: Path, role: str = "", depth: int = 0, drawn: set[Path] | None = None) -> Iterator[str]:
    """Lines of the tree."""
    drawn = set() if drawn is None else drawn
    is_inside = path.is_relative_to(graph.paths.root)
    home = graph if is_inside else find_graph(path)
    name = name_of(path, graph.paths.root)
    identity = read_any_identity(path) if path.is_file() else {}
    again, gone = path in drawn, "" if path.is_file() else "   (not there)"
    label = f"{role}: " if role else ""
    stage = f"   [{identity['stage']} {identity['params_hash'][:8]}]" if "params_hash" in identity else ""
    yield f"{'    ' * depth}{label}{name}{stage}{'   (above)' if again else gone}"
    if again:
        return
    drawn.add(path)
    if home is None:
        return
    for parent_role, files in inputs_of(home, path).items():
        yield from lineage(home, files[0], parent_role, depth + 1, drawn)
        if files[1:]:
            yield f"{'    ' * (depth + 1)}{parent_role}: and {len(files) - 1} more"


def name_of(path: Path, root: Path) -> str:
    """A file as it is called in print: below the run, as ``bundled:...``, or with its whole path."""
    if path.is_relative_to(root):
        return str(path.relative_to(root))
    return f"bundled:{path.relative_to(ASSETS)}" if path.is_relative_to(ASSETS) else str(path)


def inputs_of(graph: Graph, path: Path) -> dict[str, tuple[Path, ...]]:
    """The files that an artifact is made from, by role; {} of what no job of the study writes."""
    job = graph.writer_of(path)
    return {role: files for role, files in job.inputs.items() if files} if job else {}


def staleness(graph: Graph, path: Path, identity: Mapping[str, Any]) -> str:
    """Why the artifact is not what the run would make now; "" if it is."""
    job = graph.writer_of(path)
    if not identity or job is None:
        return ""
    now = stage_version(identity["stage"].split(".")[0])
    if identity["version"] != now:
        return f"made by version {identity['version']} of its stage, which is at {now}: run again"
    made = identity["params"]
    for key, value in job.params.items():
        if key not in made:
            return f"{key}: made before there was this parameter, the configuration says {value!r}: run again"
        if canonical_json(made[key]) != canonical_json(value):
            return f"{key}: made with {made[key]!r}, the configuration says {value!r}: run again"
    if "encoder" in job.untracked and (reason := _stale_encoder(graph, job.variant, made)):
        return reason
    return _stale_inputs(job.inputs, job.untracked, identity.get("inputs", {}))


def _stale_encoder(graph: Graph, variant: str, made: Mapping[str, Any]) -> str:
    """Why the encoder is not the one that made the features; "" if it is, or if it lies on a hub."""
    from bowerbird.encoders.extractors import current_weights  # it loads torch, which takes seconds

    try:
        now = current_weights(graph.models.located(graph.config.features[variant]))
    except BowerbirdError as error:
        return f"its encoder cannot be read ({error}): run again"
    if now and now != made.get("weights_sha256"):
        return "made by other weights than those of the encoder that the configuration names: run again"
    return ""


def _stale_inputs(
    inputs: Mapping[str, tuple[Path, ...]], untracked: frozenset[str], recorded: Mapping[str, str]
) -> str:
    """Why the inputs are not those that were recorded; "" if they are."""
    for role, files in inputs.items():
        if role in untracked:
            continue
        if files and role not in recorded:
            return f"made without {role}, which the configuration names: run again"
        if not files and role in recorded and inputs:
            return f"made from {role}, which the configuration does not name: run again"
        try:
            if files and inputs_digest(list(files)) != recorded[role]:
                return f"made from other {role}: {files[0]}{' ...' if len(files) > 1 else ''}: run again"
        except OSError as error:
            return f"its input {error.filename} is not there: run again"
    lost = [role for role in recorded if role not in inputs and role not in CONTENT_ROLES]
    return f"made from {lost[0]}, which the configuration does not name: run again" if lost else ""


CONTENT_ROLES = frozenset({"corpus", "list"})  # recorded by their content, not by files


def read_any_identity(path: Path) -> dict[str, Any]:
    """The identity that an artifact carries, or that of the index beside an array, or of its run record; {} without one."""
    if path.suffix == ".parquet" and path.is_file():
        return read_identity(path)
    if path.suffix == ".npy":
        index = index_path(path)
        return read_identity(index) if index.is_file() else {}
    if path.suffix == ".safetensors":
        with safe_open(path, framework="np") as tensors:
            return json.loads((tensors.metadata() or {}).get(IDENTITY_KEY.decode(), "{}"))
    return read_record(path).get("identity", {})


def read_record(path: Path) -> dict[str, Any]:
    """The run record of an artifact, or of the array that it indexes; {} where there is none that can be read.

    A record that cannot be read is a finding of the audit, by its own name.
    """
    for artifact in (path, array_path(path)):
        if run_record_path(artifact).is_file():
            try:
                return json.loads(run_record_path(artifact).read_text(encoding="utf-8"))
            except ValueError:
                return {}
    return {}
