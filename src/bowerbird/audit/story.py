"""The story of one artifact: what it is, how it was made, from what; and its ancestors as a tree."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bowerbird.artifacts import BowerbirdError, run_record_path, seal_path
from bowerbird.tables import open_array, read_table, shard_paths

from .checks import index_of, read_any_identity
from .kinship import Kinship, kinship_of

SAMPLE = 20_000  # rows that statistics look at


def show_artifact(path: Path) -> None:
    """Print what an artifact is, what it was made from, how, when and how long; for arrays and models, their numbers."""
    if not path.is_file():
        raise BowerbirdError(f"{path}: no such file; an artifact is a file below results/<run>/")
    kinship = kinship_of(path)
    path = path.absolute()
    identity, record = read_any_identity(path), read_record(path)
    print(f"{path.relative_to(kinship.root)}   ({path.stat().st_size / 2**20:.2f} MiB)")
    if identity:
        print(f"  stage      {identity['stage']}, version {identity['version']}, parameters {identity['params_hash']}")
        for key, value in sorted(identity["params"].items()):
            print(f"    {key} = {value!r}")
    for role, files in made_from(kinship, path, identity).items():
        print(
            f"  {role:10} {files[0].relative_to(kinship.root)}" + (f" and {len(files) - 1} more" if files[1:] else "")
        )
    if record:
        print(f"  made       {record['started']} on {record['host']} ({record['device']}), {record['seconds']:g} s, "
              f"{record['peak_memory_mib']:g} MiB, revision {record['git_revision'] or 'unknown'}")  # fmt: skip
        print("  with       " + ", ".join(f"{name} {version}" for name, version in record["libraries"].items()))
    for name, value in numbers_of(path).items():
        print(f"  {name:10} {value}")
    reason = kinship.staleness(path, identity)
    print(f"  now        {reason or 'what the configuration asks for'}")


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
    if array.ndim == 2 and array.dtype.kind == "f":
        spread = rows.std(axis=0)
        energy = np.linalg.svd(rows - rows.mean(axis=0), compute_uv=False) ** 2
        rank = float(energy.sum() ** 2 / (energy**2).sum()) if energy.sum() else 0.0
        found["values"] = f"mean {rows.mean():.4g}, std {rows.std():.4g}, range {rows.min():.4g} to {rows.max():.4g}"
        found["dead"] = f"{int((spread < 1.0e-6).sum())} of {len(spread)} dimensions never change"
        found["rank"] = f"{rank:.1f} of {len(spread)} dimensions in effect (participation ratio of the variance)"
        found["drift"] = _drift(path, rows)
    elif array.dtype.kind in "iu" and array.ndim == 2:
        values, counts = np.unique(array, return_counts=True)
        share = np.sort(counts)[::-1][: max(1, len(counts) // 100)].sum() / counts.sum()
        found["hubs"] = (
            f"the 1 % most retrieved frames take {100 * share:.1f} % of places; the first {counts.max()} places"
        )
        found["donors"] = f"{len(values)} different frames in {array.size} places"
    elif array.dtype == np.uint16:
        counts = np.bincount(array)
        chance = counts[counts > 0] / len(array)
        found["codes"] = f"{len(chance)} used, perplexity {float(np.exp(-(chance * np.log(chance)).sum())):.1f}"
    else:
        found["values"] = f"range {rows.min():.4g} to {rows.max():.4g}, RMS {np.sqrt((rows**2).mean()):.4g}"
    return found


def _drift(path: Path, rows: np.ndarray) -> str:
    """How far the mean of this shard lies from the mean of its sisters."""
    others = [open_array(p) for p in shard_paths(path.parent) if p != path] if path.stem.startswith("shard-") else []
    means = [a[:: max(1, len(a) // SAMPLE)].astype(np.float32).mean(axis=0) for a in others if len(a)]
    if not means:
        return "no other shard to compare with"
    far = np.abs(rows.mean(axis=0) - np.mean(means, axis=0)) / np.maximum(rows.std(axis=0), 1.0e-6)
    return f"{far.mean():.3f} standard deviations between this shard's mean and the others', {far.max():.3f} at most"
