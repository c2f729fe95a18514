"""``bowerbird show``: how an artifact was made, and its statistics."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from safetensors import safe_open

from bowerbird.artifacts.files import seal_path
from bowerbird.artifacts.shards import open_array, shard_paths
from bowerbird.artifacts.tables import read_table
from bowerbird.config.graph import Graph
from bowerbird.config.shard_names import index_path
from bowerbird.errors import BowerbirdError
from bowerbird.inspection.diagnostics import KINDS, diagnose, variant_of
from bowerbird.inspection.lineage import (
    graph_of,
    inputs_of,
    name_of,
    read_any_identity,
    read_record,
    staleness,
)

SAMPLE = 20_000  # rows that statistics look at


def show_artifact(path: Path, output: Path | None = None, frame: str = "", neighbors: int = 8) -> None:
    """Print what an artifact is, what it was made from, how, when and how long; and its statistics.

    Of features, pairs and codebooks (a file, or the variant's folder) the statistics are of the whole variant: dead
    dimensions, collapse of variance, drift between shards, hub frames, leakage of the speaker. ``frame`` UTTERANCE:NUMBER
    also lists the ``neighbors`` nearest of that frame. ``output`` is a folder for a page with pictures and players.
    """
    graph = graph_of(path)
    path = path.absolute()
    kind, name = variant_of(path, graph.paths.root)
    path = _main_file(path, kind) if path.is_dir() else path
    if not path.is_file():
        raise BowerbirdError(f"{path}: no such file; an artifact is a file below results/<run>/")
    if (frame or output is not None) and not kind:
        raise BowerbirdError(f"{path}: --frame and --output are for {', '.join(KINDS)}, which this is not")
    if neighbors < 1:
        raise BowerbirdError(f"--neighbors: {neighbors}: must be 1 or more")
    found = diagnose(graph, kind, name, frame, neighbors) if kind else None
    print(f"{path.relative_to(graph.paths.root)}   ({path.stat().st_size / 2**20:.2f} MiB)")
    made = list(provenance(graph, path))
    for heading, value in [*made, *(found.stats if found else {}).items()]:
        print(f"  {heading:10} {value}")
    if found and found.asked:
        print(f"{frame} ({found.asked.speaker}): {found.asked_note}")
        for near in found.neighbors:
            print(f"  {near.cosine:.3f}  {near.utt_id}:{near.frame}  ({near.speaker})")
    if found and output is not None:
        from bowerbird.inspection.page import write_diagnostics_page  # it loads matplotlib, which takes seconds

        print(f"page: {write_diagnostics_page(graph, found, made, output)}")


def _main_file(folder: Path, kind: str) -> Path:
    """The file that stands for a variant's folder."""
    if kind == "codebook":
        return folder / "centroids.safetensors"
    return shard_paths(folder)[0] if kind else folder


def provenance(graph: Graph, path: Path) -> Iterator[tuple[str, str]]:
    """(heading, text) of where an artifact comes from, and whether it is what the configuration asks for."""
    identity, record = read_any_identity(path), read_record(path)
    if identity:
        yield "stage", f"{identity['stage']}, version {identity['version']}, parameters {identity['params_hash']}"
        for key, value in sorted(identity["params"].items()):
            yield "", f"{key} = {value!r}"
    for role, files in inputs_of(graph, path).items():
        yield role, name_of(files[0], graph.paths.root) + (f" and {len(files) - 1} more" if files[1:] else "")
    if job := graph.writer_of(path):
        yield "command", f"bowerbird {job.command}"
    if record:
        where = f"{record['started']} on {record['host']} ({record['device']}), {record['seconds']:g} s"
        yield "made", f"{where}, {record['peak_memory_mib']:g} MiB, revision {record['git_revision'] or 'unknown'}"
        yield "with", ", ".join(f"{name} {version}" for name, version in record["libraries"].items())
    yield from statistics_of(path).items()
    yield "now", staleness(graph, path, identity) or "what the configuration asks for"


def statistics_of(path: Path) -> dict[str, str]:
    """Counts and statistics of one file, for what has them."""
    if path.suffix == ".npy":
        return _array_statistics(path)
    if path.suffix == ".parquet":
        table = read_table(path)
        return {"rows": f"{len(table)}", "columns": ", ".join(table.columns)}
    if path.suffix == ".safetensors":
        with safe_open(path, framework="np") as tensors:
            shapes = {name: tensors.get_slice(name).get_shape() for name in tensors.keys()}  # noqa: SIM118 - no mapping
        total = sum(int(np.prod(shape)) for shape in shapes.values())
        return {"tensors": f"{len(shapes)}, {total / 1.0e6:.3f} M numbers"}
    return {"sealed": "yes" if seal_path(path).is_file() else "no"}


def _array_statistics(path: Path) -> dict[str, str]:
    array = open_array(path)
    found = {"array": f"{array.shape} {array.dtype}"}
    if index_path(path).is_file():
        found["utterances"] = f"{len(read_table(index_path(path), ['utt_id']))}"
    if not len(array) or array.ndim == 2:  # of features and pairs the diagnostics of the variant have the rest
        return found
    if array.dtype == np.uint16:
        from bowerbird.stages.codebook.usage import perplexity  # it loads torch, which takes seconds

        counts = np.bincount(array)
        found["codes"] = f"{(counts > 0).sum()} used, perplexity {perplexity(counts):.1f}"
        return found
    rows = array[:: max(1, len(array) // SAMPLE)].astype(np.float32)
    found["values"] = f"range {rows.min():.4g} to {rows.max():.4g}, RMS {np.sqrt((rows**2).mean()):.4g}"
    return found
