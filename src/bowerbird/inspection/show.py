"""The story of one artifact: what it is, how it was made, from what; and its ancestors as a tree."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bowerbird.artifacts.files import seal_path
from bowerbird.artifacts.identity import run_record_path
from bowerbird.artifacts.shards import open_array, shard_paths
from bowerbird.artifacts.tables import read_table
from bowerbird.errors import BowerbirdError
from bowerbird.inspection.diagnostics import KINDS, draw_portrait, variant_of
from bowerbird.inspection.integrity import index_of, read_any_identity
from bowerbird.inspection.kinship import Kinship, kinship_of
from bowerbird.inspection.lineage import made_from

SAMPLE = 20_000  # rows that statistics look at


def show_artifact(path: Path, output: Path | None = None, frame: str = "", neighbours: int = 8) -> None:
    """Print what an artifact is, what it was made from, how, when and how long; and its numbers.

    Of features, pairs and codebooks (a file, or the variant's folder) the numbers are of the whole variant: dead
    dimensions, collapse of variance, drift between shards, hub frames, leakage of the speaker. ``frame`` UTTERANCE:NUMBER
    also lists the ``neighbours`` nearest of that frame. ``output`` is a folder for a page with pictures and players.
    """
    kinship = kinship_of(path)
    path = path.absolute()
    kind, name = variant_of(path, kinship.root)
    path = _main_file(path, kind) if path.is_dir() else path
    if not path.is_file():
        raise BowerbirdError(f"{path}: no such file; an artifact is a file below results/<run>/")
    if (frame or output is not None) and not kind:
        raise BowerbirdError(f"{path}: --frame and --output are for {', '.join(KINDS)}, which this is not")
    if neighbours < 1:
        raise BowerbirdError(f"--neighbours: {neighbours}: must be 1 or more")
    portrait = draw_portrait(kinship, kind, name, frame, neighbours) if kind else None
    print(f"{path.relative_to(kinship.root)}   ({path.stat().st_size / 2**20:.2f} MiB)")
    story = list(tell_story(kinship, path))
    for heading, value in story:
        print(f"  {heading:10} {value}")
    for heading, value in (portrait.facts if portrait else {}).items():
        print(f"  {heading:10} {value}")
    if portrait and portrait.asked:
        print(f"{frame} ({portrait.asked.speaker}): {portrait.asked_note}")
        for near in portrait.neighbours:
            print(f"  {near.cosine:.3f}  {near.utt_id}:{near.frame}  ({near.speaker})")
    if portrait and output is not None:
        from bowerbird.inspection.page import write_gallery

        print(f"page: {write_gallery(kinship, portrait, story, output)}")


def _main_file(folder: Path, kind: str) -> Path:
    """The file that speaks for a variant's folder."""
    if kind == "codebook":
        return folder / "centroids.safetensors"
    return shard_paths(folder)[0] if kind else folder


def tell_story(kinship: Kinship, path: Path) -> Iterator[tuple[str, str]]:
    """(heading, text) of where an artifact comes from, and whether it is what the configuration asks for."""
    identity, record = read_any_identity(path), read_record(path)
    if identity:
        yield "stage", f"{identity['stage']}, version {identity['version']}, parameters {identity['params_hash']}"
        for key, value in sorted(identity["params"].items()):
            yield "", f"{key} = {value!r}"
    for role, files in made_from(kinship, path, identity).items():
        shown = files[0].relative_to(kinship.root) if files[0].is_relative_to(kinship.root) else files[0]
        yield role, f"{shown}" + (f" and {len(files) - 1} more" if files[1:] else "")
    if command := command_of(path, kinship.root):
        yield "command", f"bowerbird {command}"
    if record:
        yield (
            "made",
            (
                f"{record['started']} on {record['host']} ({record['device']}), {record['seconds']:g} s, "
                f"{record['peak_memory_mib']:g} MiB, revision {record['git_revision'] or 'unknown'}"
            ),
        )
        yield "with", ", ".join(f"{name} {version}" for name, version in record["libraries"].items())
    yield from numbers_of(path).items()
    yield "now", kinship.staleness(path, identity) or "what the configuration asks for"


def command_of(path: Path, root: Path) -> str:
    """The command that writes what lies at ``path``; "" for what no command writes."""
    parts = path.relative_to(root).parts
    stem, below = path.name.split(".")[0], parts[0] if len(parts) > 1 else ""
    writers = {
        "corpus": {"trials": "list-trials", "audio": "store-audio", "": "list-corpus"},
        "features": {"": "extract-features"},
        "codebook": {
            "units": "assign-units",
            "summary": "summarize-units",
            "residual": "probe-residual",
            "pca": "probe-residual",
            "": "fit-codebook",
        },
        "pairs": {"quality": "summarize-pairs", "": "search-pairs"},
        "training": {"": "train-stage"},
        "conversion": {"": "convert-trials"},
        "evaluation": {
            "transcripts": "transcribe-sources",
            "summary": "summarize-scores",
            "": "score-trials",
            "differences": "summarize-scores",
            "cells": "summarize-scores",
        },
        "report": {"": "write-report"},
    }.get(below, {})
    return writers.get(stem, writers.get(path.parent.name, writers.get("", "")))


def read_record(path: Path) -> dict[str, Any]:
    """The run record of an artifact, or of the array that it indexes; {} where there is none."""
    for artifact in (path, path.with_suffix(".npy"), path.with_name(path.name.split(".")[0] + ".npy")):
        if run_record_path(artifact).is_file():
            return json.loads(run_record_path(artifact).read_text(encoding="utf-8"))
    return {}


def numbers_of(path: Path) -> dict[str, str]:
    """Counts and statistics, for what has them."""
    if path.suffix == ".npy":
        return _array_numbers(path)
    if path.suffix == ".parquet":
        table = read_table(path)
        return {"rows": f"{len(table)}", "columns": ", ".join(table.columns)}
    if path.suffix == ".safetensors":
        from safetensors import safe_open

        with safe_open(path, framework="np") as tensors:
            shapes = {name: tensors.get_slice(name).get_shape() for name in tensors.keys()}  # noqa: SIM118
        total = sum(int(np.prod(shape)) for shape in shapes.values())
        return {"tensors": f"{len(shapes)}, {total / 1.0e6:.3f} M numbers"}
    return {"sealed": "yes" if seal_path(path).is_file() else "no"}


def _array_numbers(path: Path) -> dict[str, str]:
    array = open_array(path)
    found = {"array": f"{array.shape} {array.dtype}"}
    if index_of(path).is_file():
        found["utterances"] = f"{len(read_table(index_of(path), ['utt_id']))}"
    if not len(array):
        return found
    rows = array[:: max(1, len(array) // SAMPLE)].astype(np.float32)
    if array.ndim == 2:
        return found  # features and pairs: the portrait of the variant has their numbers
    if array.dtype == np.uint16:
        from bowerbird.stages.codebook.usage import perplexity  # brings torch

        counts = np.bincount(array)
        found["codes"] = f"{(counts > 0).sum()} used, perplexity {perplexity(counts):.1f}"
    else:
        found["values"] = f"range {rows.min():.4g} to {rows.max():.4g}, RMS {np.sqrt((rows**2).mean()):.4g}"
    return found
