"""The audit of a finished run: whole, then with one byte flipped in each artifact in turn, then mended."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from bowerbird.artifacts.files import seal_path
from bowerbird.inspection.audit import audit_run
from bowerbird.inspection.integrity import NOT_ARTIFACTS, check_run, run_graph
from bowerbird.inspection.repair import outputs_with, remove_damaged


@pytest.fixture(scope="module")
def copy(finished, tmp_path_factory: pytest.TempPathFactory):
    """The finished run in a folder of its own, with Snakemake's records of it."""
    root = tmp_path_factory.mktemp("audited") / "work"
    shutil.copytree(finished.root, root, symlinks=True)
    return type(finished)(root)


def artifacts_of(root: Path) -> list[Path]:
    """Every file that the audit answers for."""
    files = [p for p in sorted(root.rglob("*")) if p.is_file() and not NOT_ARTIFACTS & set(p.relative_to(root).parts)]
    return [p for p in files if not any(part.startswith(".") for part in p.relative_to(root).parts)]


def bad(root: Path) -> dict[str, str]:
    return {f.path: f.state for f in check_run(root) if f.state != "ok"}


@pytest.mark.slow
def test_a_finished_run_is_in_order(copy) -> None:
    assert bad(copy.results) == {}
    assert audit_run(copy.results) == 0


def answering(path: Path, root: Path, graph) -> set[str]:
    """The file itself, and the outputs of the job that writes it: one of these must be named."""
    return {str(p.relative_to(root)) for p in (path, *outputs_with(path, graph))}


def in_groups(paths: list[Path], root: Path, graph) -> list[list[Path]]:
    """The files in groups in which no two answer for each other; the configuration, which all others need, is alone."""
    groups: list[tuple[list[Path], set[str]]] = []
    for path in (path for path in paths if path != root / "config.yaml"):
        names = answering(path, root, graph)
        free = (group for group in groups if not names & group[1] and len(group[0]) < 30)
        members, taken = next(free, None) or groups.append(([], set())) or groups[-1]
        members.append(path)
        taken |= names
    return [[root / "config.yaml"], *(members for members, _ in groups)]


@pytest.mark.slow
def test_one_flipped_byte_is_found_in_every_artifact(copy) -> None:
    """One byte, at a random place, of each file: the audit names that file, or one that its job declares.

    Files that do not answer for each other are damaged together; then all of them are whole again.
    """
    rng = np.random.default_rng(20261121)
    root, missed, tried = copy.results, [], 0
    graph, _ = run_graph(root)
    for group in in_groups([path for path in artifacts_of(root) if path.stat().st_size], root, graph):
        whole = {path: (path.read_bytes(), path.stat()) for path in group}
        for path, (data, _) in whole.items():
            damaged = bytearray(data)
            damaged[rng.integers(len(data))] ^= 1 << rng.integers(8)
            path.write_bytes(damaged)
        found = bad(root)
        for path, (data, dates) in whole.items():
            path.write_bytes(data)
            os.utime(path, ns=(dates.st_atime_ns, dates.st_mtime_ns))  # Snakemake reads no bytes of a large file
        for path in group:
            tried += 1
            if not any(found.get(name) == "corrupt" for name in answering(path, root, graph)):
                missed.append(str(path.relative_to(root)))
    assert missed == []
    assert tried > 60
    assert bad(root) == {}


@pytest.mark.slow
def test_a_deleted_artifact_is_found(copy) -> None:
    for path in [p for p in artifacts_of(copy.results) if not p.name.endswith(".run.json")][::7]:
        hidden = path.rename(path.with_name(f".hidden-{path.name}"))
        found = bad(copy.results)
        hidden.rename(path)
        assert "missing" in found.values() or "orphan" in found.values() or "corrupt" in found.values(), path


@pytest.mark.slow
def test_what_was_made_from_other_parents_or_parameters_is_stale(copy) -> None:
    config = copy.results / "config.yaml"
    text = config.read_text()
    seal_path(config).rename(seal_path(config).with_name(".hidden"))
    config.write_text(text.replace("    k: 4\n", "    k: 3\n", 1))
    found = bad(copy.results)
    config.write_text(text)
    seal_path(config).with_name(".hidden").rename(seal_path(config))
    assert found["pairs/knn4/shard-0000.npy"] == "stale"
    assert "features/nano/shard-0000.npy" not in found


@pytest.mark.slow
def test_fix_remakes_the_damaged_artifact_and_what_follows_and_nothing_else(copy) -> None:
    summary = copy.results / "codebook/k32/summary.parquet"
    before = {p: p.read_bytes() for p in artifacts_of(copy.results) if p.suffix in (".npy", ".parquet", ".safetensors")}
    summary.write_bytes(summary.read_bytes()[:-1] + b"\0")
    assert audit_run(copy.results, "codebook", fix=True) == 1
    assert not summary.exists()
    made = copy.run(str(summary.relative_to(copy.root)))  # asked for by name: its descendants are there
    assert made.returncode == 0, made.stderr[-3000:]
    assert copy.plan({}).jobs == ()  # it has the bytes it had: nothing follows
    done = copy.run()
    assert done.returncode == 0, done.stderr[-3000:]
    assert audit_run(copy.results) == 0
    assert {p: p.read_bytes() for p in before} == before


@pytest.mark.slow
def test_fix_removes_what_the_job_wrote_together(copy, tmp_path: Path) -> None:
    graph, _ = run_graph(copy.results)
    written = {
        "pairs/knn4/shard-0001.distances.npy": {"shard-0001.npy", "shard-0001.distances.npy", "shard-0001.parquet"},
        "pairs/knn4/.shard-0001.npy.sha256": {"shard-0001.npy", "shard-0001.distances.npy", "shard-0001.parquet"},
        "features/nano/shard-0000.npy.run.json": {"shard-0000.npy", "shard-0000.parquet"},
        "conversion/knnvc/a--b.flac": {"a--b.flac", "trials.parquet"},
    }
    for name, names in written.items():
        assert {p.name for p in outputs_with(copy.results / name, graph)} == names, name
    assert remove_damaged(tmp_path, []) == []
