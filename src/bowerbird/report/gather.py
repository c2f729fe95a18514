"""What a run holds, read once into plain values that the page and the figures show."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soundfile

from bowerbird.audio import SAMPLE_RATE
from bowerbird.config import Config, ReportConfig, load_config
from bowerbird.tables import Shards, read_identity, read_table, shard_paths

# metric -> (heading, better: +1 higher, -1 lower, 0 neither); what the main table shows, in this order
METRICS: dict[str, tuple[str, int]] = {
    "closed_set_accuracy": ("closed-set accuracy", 1),
    "wer": ("WER", -1),
    "cer": ("CER", -1),
    "secs": ("SECS", 1),
    "src": ("similarity to source", -1),
    "nearer_target": ("nearer target", 1),
    "f0_pcc": ("F0 PCC", 1),
    "dnsmos_ovrl": ("DNSMOS OVRL", 1),
    "dnsmos_p808": ("DNSMOS P.808", 1),
}
ANCHORS = ("ground-truth", "vocoder", "heldout-target", "random-speaker")


@dataclass(frozen=True)
class System:
    """An experiment as the page shows it."""

    name: str
    kind: str  # "anchor", "control" or "system"


@dataclass(frozen=True)
class Stage:
    """One line of the ledger."""

    name: str
    artifacts: int
    seconds: float
    peak_mib: float
    disk_mib: float


@dataclass
class Run:
    """Everything the page shows."""

    name: str
    root: Path
    config: Config | None
    systems: list[System]
    summary: pd.DataFrame
    metrics: dict[str, tuple[str, int]]
    differences: pd.DataFrame
    trials: list[dict[str, Any]]
    corpus: list[dict[str, Any]]
    rejected: list[tuple[str, int]]
    codebooks: dict[str, tuple[pd.DataFrame, dict[str, Any]]]
    pairs: dict[str, tuple[pd.DataFrame, dict[str, Any]]]
    curves: dict[str, pd.DataFrame]
    stages: list[Stage]
    weights: list[tuple[str, str]]
    made: dict[str, str]
    tables: list[Path] = field(default_factory=list)

    def cell(self, system: str, metric: str) -> dict[str, Any] | None:
        """The summary row of one system and metric."""
        rows = self.summary[(self.summary["experiment"] == system) & (self.summary["metric"] == metric)]
        return None if rows.empty else rows.iloc[0].to_dict()

    def definition(self, metric: str) -> dict[str, Any]:
        """How a metric was made: the same for every system, or the summary would not exist."""
        return self.summary[self.summary["metric"] == metric].iloc[0].to_dict()

    @property
    def notes(self) -> list[str]:
        """What the summary has to say about its numbers, each remark once."""
        return sorted({part for note in self.summary["note"] for part in note.split("; ") if part})[:6]

    def rows_file(self, system: str, metric: str) -> str:
        """The CSV in the report's folder that holds the rows behind a number."""
        for path in self.tables:
            if path.parent.name == system and self._family_of(metric) == path.stem:
                return f"rows/{system}-{path.stem}.csv"
        return ""

    def _family_of(self, metric: str) -> str:
        if metric.startswith("dnsmos"):
            return "quality"
        if metric in ("secs", "secs_prompt", "src", "margin", "nearer_target"):
            return "speaker"
        return "prosody" if metric.startswith(("f0", "vuv")) else "intelligibility"

    def best(self, metric: str) -> str:
        """The best of the systems (not anchors, not controls) in one metric."""
        direction = METRICS[metric][1]
        values = {
            s.name: cell["mean"] for s in self.systems if s.kind == "system" and (cell := self.cell(s.name, metric))
        }
        known = {name: value for name, value in values.items() if value == value}
        return max(known, key=lambda name: direction * known[name]) if direction and len(known) > 1 else ""

    def copy_audio(self, folder: Path) -> None:
        """Copy the sounds that are shown into the report."""
        corpus = Shards(shard_paths(self.root / "corpus" / "audio"), length="num_samples")
        for trial in self.trials:
            trial["sounds"] = [("source", self._write(corpus[trial["source_utt"]], folder, trial["source_utt"]))]
            reference = trial["reference_utts"][0]
            trial["sounds"].append(("reference", self._write(corpus[reference], folder, reference)))
            for system in self.systems:
                if system.kind == "anchor" and system.name != "vocoder":
                    continue
                origin = self.root / "conversion" / system.name / f"{trial['trial_id']}.flac"
                if origin.exists():
                    target = f"audio/{system.name}--{trial['trial_id']}.flac"
                    shutil.copyfile(origin, folder / target)
                    trial["sounds"].append((system.name, target))

    @staticmethod
    def _write(samples: np.ndarray, folder: Path, utt_id: str) -> str:
        target = f"audio/{utt_id.replace('/', '_')}.flac"
        soundfile.write(folder / target, samples, SAMPLE_RATE, subtype="PCM_16")
        return target

    def copy_rows(self, folder: Path) -> None:
        """The rows behind every number, as CSV."""
        for path in self.tables:
            read_table(path).to_csv(folder / "rows" / f"{path.parent.name}-{path.stem}.csv", index=False)


def gather(root: Path, config_file: Path, options: ReportConfig) -> Run:
    """Read a run."""
    config = load_config([config_file]) if config_file.exists() else None
    summary = read_table(root / "evaluation" / "summary.parquet")
    differences = root / "evaluation" / "differences.parquet"
    names = list(dict.fromkeys(summary["experiment"]))
    systems = sorted((System(n, _kind(n, config)) for n in names), key=lambda s: _rank(s, names))
    tables = sorted(p for p in (root / "evaluation").glob("*/*.parquet"))
    manifest = read_table(root / "corpus" / "manifest.parquet")
    rejected = read_table(root / "corpus" / "rejected.parquet")
    return Run(
        name=root.name,
        root=root,
        config=config,
        systems=systems,
        summary=summary,
        metrics={m: shown for m, shown in METRICS.items() if m in set(summary["metric"])},
        differences=read_table(differences) if differences.exists() else pd.DataFrame(),
        trials=_trials(root, tables, systems, options.players),
        corpus=_corpus(manifest),
        rejected=sorted(Counter(rejected["reason"]).items()),
        codebooks=_with_facts(root, "codebook/*/summary.parquet"),
        pairs=_with_facts(root, "pairs/*/quality.parquet"),
        curves=_curves(root),
        stages=_ledger(root),
        weights=_weights(root),
        made=_made(root),
        tables=tables,
    )


def _kind(name: str, config: Config | None) -> str:
    """Anchors bound the scale, controls must lose, the rest are systems."""
    if name in ANCHORS:
        return "anchor"
    experiment = config.experiments.get(name) if config else None
    if experiment is not None and experiment.system in ("anchor", "vocoder"):
        return "anchor"
    return "control" if "random" in name or getattr(experiment, "retrieval", "") == "random" else "system"


def _rank(system: System, names: list[str]) -> tuple[int, int]:
    order = {"system": 1, "control": 2, "anchor": 3}
    if system.kind == "anchor" and system.name in ANCHORS:
        return (0 if system.name in ANCHORS[:2] else 3), ANCHORS.index(system.name)
    return order[system.kind], names.index(system.name)


def _trials(root: Path, tables: list[Path], systems: list[System], count: int) -> list[dict[str, Any]]:
    """Trials to show, spread evenly over the list, each with its scores and what the recogniser heard."""
    table = read_table(root / "corpus" / "trials.parquet")
    picked: Any = (
        np.unique(np.linspace(0, len(table) - 1, min(count, len(table))).round().astype(int)) if len(table) else []
    )
    shown = [table.iloc[int(i)].to_dict() for i in picked]
    ids = {trial["trial_id"] for trial in shown}
    scores: dict[tuple[str, str], dict[str, float]] = {}
    heard: dict[tuple[str, str], str] = {}
    for path in tables:
        rows = read_table(path, ["trial_id", "metric", "value", "text"])
        for row in rows[rows["trial_id"].isin(ids)].to_dict("records"):
            scores.setdefault((row["trial_id"], path.parent.name), {})[row["metric"]] = row["value"]
            if row["text"] and row["metric"] != "closed_set_accuracy":
                heard[(row["trial_id"], path.parent.name)] = row["text"]
    for trial in shown:
        trial["scores"] = {s.name: scores.get((trial["trial_id"], s.name), {}) for s in systems}
        trial["heard"] = {s.name: heard.get((trial["trial_id"], s.name), "") for s in systems}
    return shown


def _corpus(manifest: pd.DataFrame) -> list[dict[str, Any]]:
    order = {"train": 0, "valid": 1, "test": 2}
    return [
        {
            "split": split,
            "speakers": part["speaker"].nunique(),
            "utterances": len(part),
            "minutes": part["duration_s"].sum() / 60,
        }
        for split, part in sorted(manifest.groupby("split"), key=lambda item: order.get(str(item[0]), 9))
    ]


def _with_facts(root: Path, pattern: str) -> dict[str, tuple[pd.DataFrame, dict[str, Any]]]:
    return {p.parent.name: (read_table(p), read_identity(p).get("facts", {})) for p in sorted(root.glob(pattern))}


def _curves(root: Path) -> dict[str, pd.DataFrame]:
    """Lines of metrics.jsonl of every trained stage, by "experiment/stage"."""
    found = {}
    for path in sorted(root.glob("training/*/*/metrics.jsonl")):
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
        if lines:
            found[f"{path.parent.parent.name}/{path.parent.name}"] = pd.DataFrame(lines)
    return found


def _ledger(root: Path) -> list[Stage]:
    """What each stage cost, from the records beside its artifacts."""
    stages = []
    for noun in ("corpus", "features", "codebook", "pairs", "training", "conversion", "evaluation"):
        records = [json.loads(p.read_text(encoding="utf-8")) for p in (root / noun).rglob("*.run.json")]
        files = [p for p in (root / noun).rglob("*") if p.is_file() and "checkpoints" not in p.parts]
        if records:
            seconds = sum(r.get("seconds", 0.0) for r in records)
            peak = max(r.get("peak_memory_mib", 0.0) for r in records)
            stages.append(Stage(noun, len(records), seconds, peak, sum(p.stat().st_size for p in files) / 2**20))
    return stages


def _weights(root: Path) -> list[tuple[str, str]]:
    """Which weights ran: encoders, and models by the digest their conversions recorded."""
    found = {}
    for path in sorted(root.glob("features/*/shard-0000.parquet")):
        encoder = read_identity(path).get("encoder", {})
        name, layer, digest = (encoder.get(key, "?") for key in ("encoder", "layer", "weights_sha256"))
        found[f"features {path.parent.name}"] = f"{name}, layer {layer}, sha256 {str(digest)[:16]}"
    summary = read_table(root / "evaluation" / "summary.parquet", ["model", "weights_sha256"]).drop_duplicates()
    for row in summary.to_dict("records"):
        if row["model"]:
            found[f"judge {row['model'].split()[0]}"] = f"{row['model']}, sha256 {row['weights_sha256'][:16]}"
    return list(found.items())


def _made(root: Path) -> dict[str, str]:
    """When and with what the run was made."""
    records = [json.loads(p.read_text(encoding="utf-8")) for p in root.rglob("*.run.json")]
    if not records:
        return {}
    last = max(records, key=lambda r: r.get("started", ""))
    libraries = ", ".join(f"{name} {version}" for name, version in last.get("libraries", {}).items())
    return {
        "last artifact": last.get("started", ""),
        "git revision": last.get("git_revision", "") or "unknown",
        "device": ", ".join(sorted({r.get("device", "") for r in records} - {""})),
        "python": last.get("python", ""),
        "libraries": libraries,
    }
