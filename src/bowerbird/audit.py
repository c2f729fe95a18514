"""Does a run hold what it says it holds?

Walks ``results/<run>/`` and compares every artifact with its own record: arrays with the digest and the count in their
index, indexes with the manifest, models with their config, conversions with their table. Prints one line an artifact
that is not in order, a summary, and gives an exit code a script can use.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from bowerbird.artifacts import BowerbirdError, file_sha256, run_record_path
from bowerbird.tables import open_array, read_identity, read_table


@dataclass(frozen=True)
class Finding:
    """What was seen of one artifact: ``state`` is ok, corrupt, missing, stale or orphan."""

    path: str
    state: str
    detail: str = ""


def audit_run(root: Path = Path("results/demo"), as_json: bool = False) -> int:
    """Check every artifact below a run's folder against what it says it is; exit code 1 if anything is not in order."""
    if not root.is_dir():
        raise BowerbirdError(f"{root}: no such run; a run is a folder below results/")
    findings = list(check_run(root))
    counts = {
        state: sum(f.state == state for f in findings) for state in ("ok", "corrupt", "missing", "stale", "orphan")
    }
    if as_json:
        print(json.dumps({"root": str(root), "counts": counts, "findings": [asdict(f) for f in findings]}, indent=2))
    else:
        for finding in findings:
            if finding.state != "ok":
                print(f"{finding.state:8} {finding.path}: {finding.detail}")
        print(f"{root}: " + ", ".join(f"{number} {state}" for state, number in counts.items()))
    return 0 if counts["ok"] == len(findings) and findings else 1


def audit_residual(root: Path = Path("results/demo")) -> int:
    """Print what each codebook's residual holds: accuracy of linear probes for speaker and phone, in percent."""
    tables = sorted(root.glob("codebook/*/residual.parquet"))
    if not tables:
        raise BowerbirdError(f"{root}: no codebook/*/residual.parquet; make them with: make run ARGS=codebook")
    print("linear probes, fitted on two thirds of each utterance, tested on the rest (percent right; c: chance)")
    print(f"{'codebook':14} {'K':>6} {'|R|/|S|':>8}  " + "  ".join(f"{name:>14}" for name in ("speaker", "phone")))
    for path in tables:
        table, facts = read_table(path), read_identity(path)["facts"]
        print(f"{path.parent.name:14} {facts['codes']:6d} {facts['residual_energy'] ** 0.5:8.3f}")
        for name, rows in table.groupby("representation", sort=False):
            cells = {r.target: f"{100 * r.accuracy:5.1f} (c {100 * r.chance:4.1f})" for r in rows.itertuples()}
            print(f"  {name:28}  " + "  ".join(f"{cells.get(t, '-'):>14}" for t in ("speaker", "phone")))
    return 0


def audit_leakage(root: Path = Path("results/demo"), speakers: int = 40, utterances_per_speaker: int = 4) -> int:
    """Print how much of the speaker is left in Stepback's content, before and after its dual flow, in percent.

    A linear probe on the frames of z, fitted on all but one utterance of each training speaker (two thirds of it, where
    there is only one) and tested on the rest; beside it the reconstruction error on the tested utterances of the same model.
    """
    from bowerbird.config import load_config
    from bowerbird.layout import Layout
    from bowerbird.systems.leakage import probe_leakage

    config = load_config([root / "config.yaml"])
    layout = Layout(root, config.corpus.num_shards)
    rows = []
    for name, experiment in config.experiments.items():
        if experiment.system != "stepback":
            continue
        for stage in ("preparation", "dual_flow"):
            folder = layout.model(experiment.reuse.get(stage, name), stage)
            if (folder / "model.safetensors").exists() and folder not in [row[1] for row in rows]:
                rows.append(
                    (f"{folder.parent.name}/{stage}", folder, layout.all_shards("features", experiment.features))
                )
    if not rows:
        raise BowerbirdError(f"{root}: no trained model of Stepback; make them with: make run ARGS=training")
    print("linear probes for the speaker on the content z; reconstruction: L1 of log spectra")
    print(f"{'model':40} {'speaker':>9} {'chance':>8} {'mean of z':>10} {'reconstruction':>15}")
    audio = layout.all_shards("audio")
    for name, folder, features in rows:
        found = probe_leakage(folder, layout.manifest, features, audio, speakers, utterances_per_speaker)
        print(
            f"{name:40} {100 * found.frames:8.1f}% {100 * found.chance:7.1f}% {100 * found.means:9.1f}% "
            f"{found.reconstruction:15.4f}"
        )
    return 0


def check_run(root: Path) -> Iterator[Finding]:
    """Findings for every artifact of a run, in the order of their paths."""
    known = set(_manifest_ids(root))
    for path in sorted(root.rglob("*")):
        if not path.is_file() or {"logs", "benchmarks", "tensorboard", "checkpoints", "report"} & set(path.parts):
            continue
        name = str(path.relative_to(root))
        if path.name.startswith(".tmp-"):
            yield Finding(name, "orphan", "left by a job that was killed; can be deleted")
        elif path.suffix == ".npy":
            yield check_array(path, name, known)
        elif path.suffix == ".parquet":
            yield check_table(path, name)
        elif path.suffix == ".safetensors":
            yield check_model(path, name)


def _manifest_ids(root: Path) -> list[str]:
    manifest = root / "corpus" / "manifest.parquet"
    if not manifest.exists():
        return []
    try:
        return list(read_table(manifest, ["utt_id"])["utt_id"])
    except BowerbirdError:
        return []  # reported as corrupt by check_table


def check_array(path: Path, name: str, known: set[str]) -> Finding:
    """An array against its index: present, whole, the recorded digest, finite, utterances of this manifest."""
    companion = path.name.split(".")[1] if path.name.count(".") == 2 else ""  # shard-0003.distances.npy
    index = path.with_name(path.name.replace(f".{companion}", "")).with_suffix(".parquet") if companion else None
    index = index or path.with_suffix(".parquet")
    if not index.exists():
        return Finding(name, "orphan", f"no index {index.name} beside it: the job did not finish; run again")
    try:
        array = open_array(path)
        record = read_identity(index)
        rows = read_table(index, ["utt_id"])["utt_id"]
    except BowerbirdError as error:
        return Finding(name, "corrupt", str(error))
    digest = record.get(f"{companion}_sha256" if companion else "array_sha256")
    if digest is not None and file_sha256(path) != digest:
        return Finding(name, "corrupt", "bytes differ from the digest in its index; delete it and its index, run again")
    if "total" in record and len(array) != record["total"]:
        return Finding(name, "corrupt", f"{len(array)} rows, its index says {record['total']}")
    if array.dtype.kind == "f" and not all(
        np.isfinite(block).all() for block in np.array_split(array, 1 + len(array) // 65536)
    ):
        return Finding(name, "corrupt", "values that are not finite")
    strangers = set(rows) - known
    if known and strangers:
        return Finding(name, "stale", f"{len(strangers)} utterances that the manifest does not have")
    return Finding(name, "ok")


def check_table(path: Path, name: str) -> Finding:
    """A table: readable to its last row, with an identity; conversions with the audio they list."""
    try:
        table = read_table(path)
        record = read_identity(path)
    except BowerbirdError as error:
        return Finding(name, "corrupt", str(error))
    except (OSError, ValueError) as error:
        return Finding(name, "corrupt", f"{error}; delete it and run again")
    if not record:
        return Finding(name, "corrupt", "no identity in its metadata: not written by bowerbird, or altered")
    if path.parent.parent.name == "conversion":
        for row in table[table["status"] == "ok"].to_dict("records"):
            audio = path.parent / row["path"]
            if not audio.exists():
                return Finding(name, "missing", f"{row['path']} is listed and not there")
            if file_sha256(audio) != row["sha256"]:
                return Finding(name, "corrupt", f"{row['path']}: bytes differ from the digest in the table")
    record_path = run_record_path(path)
    if record_path.exists():
        recorded = json.loads(record_path.read_text(encoding="utf-8")).get("identity", {})
        if recorded and recorded.get("params_hash") != record.get("params_hash"):
            return Finding(name, "stale", "its run record speaks of other parameters")
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
        return Finding(name, "corrupt", f"{error}; delete it and run again")
    record_path = run_record_path(path)
    if not record_path.exists():
        return Finding(name, "orphan", "no run record beside it")
    digest = json.loads(record_path.read_text(encoding="utf-8")).get("sha256")
    if digest is not None and digest != file_sha256(path):
        return Finding(name, "corrupt", "bytes differ from the digest in its run record; delete it and run again")
    return Finding(name, "ok")
