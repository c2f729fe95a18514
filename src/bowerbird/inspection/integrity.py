"""The checks of one run: every file below it, against its own record, its inputs and the run's configuration."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bowerbird.artifacts.files import SEAL, file_sha256, read_seal
from bowerbird.artifacts.identity import record_digest, run_record_path
from bowerbird.artifacts.shards import open_array
from bowerbird.artifacts.tables import read_identity, read_table
from bowerbird.config.graph import Graph
from bowerbird.config.paths import Paths
from bowerbird.config.shard_names import companion_name, index_path, shard_number
from bowerbird.errors import BowerbirdError
from bowerbird.inspection.lineage import read_any_identity, staleness

NOT_ARTIFACTS = {"logs", "benchmarks", "tensorboard", "checkpoints"}  # folders without artifacts
AGAIN = "run again with --fix"


@dataclass(frozen=True)
class Finding:
    """What was seen of one artifact: ``state`` is ok, corrupt, missing, stale or orphan."""

    path: str
    state: str
    detail: str = ""

    @property
    def stage(self) -> str:
        """The noun that the artifact belongs to."""
        return self.path.split("/", 1)[0] if "/" in self.path else "run"


def check_run(root: Path) -> Iterator[Finding]:
    """Findings for every artifact of a run, in the order of their paths; then those that are not there."""
    graph, problem = run_graph(root)
    if problem:
        yield Finding("config.yaml", "corrupt", f"{problem}; the next run writes it again")
    expected = {path for job in graph.needed() for path in job.outputs.values()} if graph else set()
    shards = _manifest_shards(root)
    seals = _read_seals(root)
    seen = set()
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root)
        if not path.is_file() or NOT_ARTIFACTS & set(relative.parts):
            continue
        name = str(relative)
        if path.name.startswith(".tmp-"):
            yield Finding(name, "orphan", "left by a job that was killed; --fix removes it")
            continue
        if any(part.startswith(".") for part in relative.parts):
            continue
        seen.add(path)
        finding = _check(path, name, seals, shards)
        if finding.state == "ok" and graph and path.suffix in (".npy", ".parquet", ".safetensors", ".html"):
            finding = _against_study(path, finding, graph)
        if not path.name.endswith(".run.json") or finding.state != "ok":
            yield finding
    for path in sorted((expected | set(seals)) - seen):
        hint = "the configuration names it" if path in expected else "its digest is there, the file is not"
        yield Finding(str(path.relative_to(root)), "missing", f"{hint}; run again")


def run_graph(root: Path) -> tuple[Graph | None, str]:
    """The graph of a run, and what is wrong with its config.yaml; None where it has none that can be read."""
    if not (root / "config.yaml").is_file():
        return None, ""
    try:
        return Graph.of_run(root), ""
    except BowerbirdError as error:
        return None, str(error)


def _check(path: Path, name: str, seals: Mapping[Path, str], shards: Mapping[str, int]) -> Finding:
    """One file against its own records."""
    if path in seals and file_sha256(path) != seals[path]:
        return Finding(name, "corrupt", f"bytes differ from the digest beside it; {AGAIN}")
    if path.name.endswith(".run.json"):
        return check_record(path, name)
    if path.suffix == ".npy":
        return check_array(path, name, shards)
    if path.suffix == ".parquet":
        return check_table(path, name)
    if path.suffix == ".safetensors":
        return check_model(path, name)
    return Finding(name, "ok")


def _against_study(path: Path, finding: Finding, graph: Graph) -> Finding:
    """A sound artifact against the run's configuration and its inputs."""
    if graph.writer_of(path) is None:
        return Finding(finding.path, "orphan", "the configuration has no such variant, or fewer shards; can be deleted")
    reason = staleness(graph, path, read_any_identity(path))
    return Finding(finding.path, "stale", reason) if reason else finding


def _read_seals(root: Path) -> dict[Path, str]:
    """Recorded digests by path, of everything that is sealed."""
    found: dict[Path, str] = {}
    for seal in sorted(root.rglob(f".*{SEAL}")):
        if not NOT_ARTIFACTS & set(seal.relative_to(root).parts) and not seal.name.startswith(".tmp-"):
            found |= {seal.parent / name: digest for name, digest in read_seal(seal).items() if name}
    return found


def _manifest_shards(root: Path) -> dict[str, int]:
    """Shard of each utterance of the manifest; {} where there is none to be read (reported as such elsewhere)."""
    with contextlib.suppress(BowerbirdError, ValueError, OSError, KeyError):
        table = read_table(Paths(root).manifest, ["utt_id", "shard"])
        return dict(zip(table["utt_id"], table["shard"].astype(int)))
    return {}


def check_record(path: Path, name: str) -> Finding:
    """A run record: readable, with the digest of its content, beside its artifact."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        sound = record.get("digest") == record_digest(record)
    except (ValueError, TypeError) as error:
        return Finding(name, "corrupt", f"not readable ({error}); {AGAIN}")
    if not sound:
        return Finding(name, "corrupt", f"content differs from the digest in it; {AGAIN}")
    if not path.with_name(path.name.removesuffix(".run.json")).exists():
        return Finding(name, "orphan", "its artifact is not there: the job did not finish")
    return Finding(name, "ok")


def check_array(path: Path, name: str, shards: Mapping[str, int]) -> Finding:
    """An array against its index: present, whole, the recorded digest, finite, utterances of this manifest."""
    companion = companion_name(path)
    index = index_path(path)
    if not index.exists():
        return Finding(name, "orphan", f"no index {index.name} beside it: the job did not finish; run again")
    try:
        array = open_array(path)
        record = read_identity(index)
        rows = read_table(index, ["utt_id"])["utt_id"]
    except (BowerbirdError, OSError, ValueError, KeyError) as error:
        return Finding(name, "corrupt", f"{error}; {AGAIN}")
    digest = record.get(f"{companion}_sha256" if companion else "array_sha256")
    if digest is not None and file_sha256(path) != digest:
        return Finding(name, "corrupt", f"bytes differ from the digest in its index; {AGAIN}")
    if "total" in record and len(array) != record["total"]:
        return Finding(name, "corrupt", f"{len(array)} rows, its index says {record['total']}")
    if array.dtype.kind == "f" and not all(
        np.isfinite(block).all() for block in np.array_split(array, 1 + len(array) // 65536)
    ):
        return Finding(name, "corrupt", "values that are not finite")
    unknown = set(rows) - shards.keys()
    if shards and unknown:
        return Finding(name, "stale", f"{len(unknown)} utterances that the manifest does not have; {AGAIN}")
    if path.parts[-3:-1] == ("corpus", "audio") and (number := shard_number(path)) is not None:
        absent = {utt for utt, shard in shards.items() if shard == number} - set(rows)
        if absent:
            return Finding(name, "stale", f"{len(absent)} utterances of the manifest are not in it; {AGAIN}")
    return Finding(name, "ok")


def check_table(path: Path, name: str) -> Finding:
    """A table: readable to its last row, with an identity; conversions with the audio they list."""
    try:
        table = read_table(path)
        record = read_identity(path)
    except (BowerbirdError, OSError, ValueError) as error:
        return Finding(name, "corrupt", f"{error}; {AGAIN}")
    if not record:
        return Finding(name, "corrupt", "no identity in its metadata: not written by bowerbird, or altered")
    if path.parent.parent.name == "conversion":
        for row in table[table["status"] == "ok"].to_dict("records"):
            audio = path.parent / row["path"]
            if not audio.exists():
                return Finding(name, "missing", f"{row['path']} is listed and not there; {AGAIN}")
            if file_sha256(audio) != row["sha256"]:
                return Finding(name, "corrupt", f"{row['path']}: bytes differ from the digest in the table; {AGAIN}")
    record_path, recorded = run_record_path(path), {}
    if record_path.exists():
        with contextlib.suppress(ValueError):  # a damaged record is a finding of its own
            recorded = json.loads(record_path.read_text(encoding="utf-8")).get("identity", {})
    if recorded and recorded.get("params_hash") != record.get("params_hash"):
        return Finding(name, "stale", f"its run record has other parameters; {AGAIN}")
    return Finding(name, "ok")


def check_model(path: Path, name: str) -> Finding:
    """Weights: readable to the last byte, finite, with their digest where the run record has one."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as tensors:
            for key in tensors.keys():  # noqa: SIM118 - not a mapping
                value = tensors.get_tensor(key)
                if value.dtype.kind == "f" and not np.isfinite(value).all():
                    return Finding(name, "corrupt", f"{key} has values that are not finite")
    except (SafetensorError, OSError) as error:
        return Finding(name, "corrupt", f"{error}; {AGAIN}")
    if not run_record_path(path).exists():
        return Finding(name, "orphan", "no run record beside it")
    return Finding(name, "ok")
