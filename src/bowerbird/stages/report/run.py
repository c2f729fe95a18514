"""What lies below ``results/<run>/``, read as the page needs it. Whatever is not there is simply empty."""

from __future__ import annotations

import csv
import json
import statistics
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from bowerbird.artifacts.files import file_sha256
from bowerbird.artifacts.tables import read_identity, read_table
from bowerbird.config.paths import bundled
from bowerbird.config.study import Config
from bowerbird.errors import BowerbirdError

NOUNS = ("corpus", "features", "codebook", "pairs", "training", "conversion", "evaluation")


SPLITS = {"train": 0, "valid": 1, "test": 2}


@dataclass(frozen=True)
class Weights:
    """Weights that had a part in the results: what they are for, what they are, and their digest."""

    role: str
    name: str
    sha256: str


@dataclass
class Step:
    """One line of the ledger: what a stage, or one variant of it, took."""

    name: str
    jobs: int = 0
    seconds: float = 0.0
    wall_s: float | None = None  # with start-up, measured by the workflow
    peak_mib: float = 0.0
    files: int = 0
    disk_mib: float = 0.0
    parts: list[Step] = field(default_factory=list)
    measured: int = 0  # jobs that the workflow measured
    audio_s: float = 0.0  # speech that went through, each variant's counted

    @property
    def rtf(self) -> float | None:
        """Seconds of work a second of speech; None where no speech goes through once (training, a report)."""
        return self.seconds / self.audio_s if self.audio_s and self.jobs else None


@dataclass(frozen=True)
class Described:
    """A table with the facts embedded in it."""

    name: str
    table: pd.DataFrame
    facts: dict[str, Any]
    record: dict[str, Any]


@dataclass(frozen=True)
class Sampling:
    """What a number of steps of Takin-VC's sampler took."""

    experiment: str
    model: str  # experiment that trained the flow, with the options besides the sampler that change its cost
    sampler: str
    steps: int
    calls: int  # of the U-Net for one conversion: a midpoint step looks twice, guidance doubles
    rtf: dict[str, float]  # seconds of work a second of audio, by step of the conversion
    audio_s: float


@dataclass(frozen=True)
class Run:
    """A run on disk and its resolved configuration."""

    root: Path
    config: Config

    @property
    def name(self) -> str:
        return self.config.run

    # ---------------------------------------------------------------------------------------------------- the speech
    @cached_property
    def manifest(self) -> pd.DataFrame:
        return self.table("corpus/manifest.parquet")

    @cached_property
    def trials(self) -> pd.DataFrame:
        return self.table("corpus/trials.parquet")

    def table(self, path: str) -> pd.DataFrame:
        """A table below the root; one without rows and columns if it is not there."""
        return read_table(self.root / path) if (self.root / path).exists() else pd.DataFrame()

    @property
    def splits(self) -> list[dict[str, Any]]:
        """Speakers, utterances and hours of each split, and of all."""
        if self.manifest.empty:
            return []
        parts = sorted(self.manifest.groupby("split"), key=lambda item: (SPLITS.get(str(item[0]), 9), str(item[0])))
        return [
            {
                "split": name,
                "speakers": part["speaker"].nunique(),
                "utterances": len(part),
                "seconds": float(part["duration_s"].sum()),
                "median_s": statistics.median(part["duration_s"]),
            }
            for name, part in [*parts, ("all", self.manifest)]
        ]

    @property
    def rejected(self) -> list[tuple[str, int]]:
        """Reasons and how many utterances were refused for each, the commonest first."""
        table = self.table("corpus/rejected.parquet")
        counts = Counter(table["reason"]) if len(table) else Counter()
        return sorted(counts.items(), key=lambda item: (-item[1], item[0]))

    # ------------------------------------------------------------------------------------------- codebook, pairs, models
    @cached_property
    def codebooks(self) -> list[Described]:
        return self._described("codebook/*/summary.parquet")

    @cached_property
    def residuals(self) -> dict[str, Described]:
        """What linear probes read from codebooks' residuals, by codebook."""
        return {found.name: found for found in self._described("codebook/*/residual.parquet")}

    def residual_places(self, codebook: str) -> pd.DataFrame:
        """Frames and seconds of speech in two principal components (empty if there are none)."""
        return self.table(f"codebook/{codebook}/pca.parquet")

    @cached_property
    def pairs(self) -> list[Described]:
        return self._described("pairs/*/quality.parquet")

    def _described(self, pattern: str) -> list[Described]:
        found = []
        for path in sorted(self.root.glob(pattern)):
            record = read_identity(path)
            found.append(Described(path.parent.name, read_table(path), record.get("facts", {}), record))
        return found

    @cached_property
    def curves(self) -> dict[str, pd.DataFrame]:
        """Metrics by step of every trained stage, by ``experiment / stage``."""
        found = {}
        for path in sorted(self.root.glob("training/*/*/metrics.jsonl")):
            lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
            if lines:
                found[f"{path.parent.parent.name} / {path.parent.name}"] = pd.DataFrame(lines)
        return found

    @cached_property
    def weights(self) -> list[Weights]:
        """Encoders by what their features record, trained and bundled models by their files."""
        found = []
        for folder in sorted(p for p in self.root.glob("features/*") if p.is_dir()):
            for shard in sorted(folder.glob("shard-*.parquet"))[:1]:
                encoder = read_identity(shard).get("encoder", {})
                name = f"{encoder.get('encoder', 'unknown')}, layer {encoder.get('layer', '?')}"
                found.append(Weights(f"features {folder.name}", name, str(encoder.get("weights_sha256", ""))))
        for path in sorted(self.root.glob("training/*/*/model.safetensors")):
            architecture = read_json(path.with_name("config.json"))
            name = ", ".join(str(architecture[k]) for k in ("generator", "system") if k in architecture) or "trained"
            found.append(
                Weights(f"{path.parent.parent.name} / {path.parent.name}", f"{name}, trained here", file_sha256(path))
            )
        bundles = {getattr(e, "vocoder", None) for e in self.config.experiments.values()}
        for spec in sorted(s for s in bundles if isinstance(s, str) and s.startswith("bundled:")):
            found.append(Weights("vocoder", spec, _bundled_sha256(spec)))
        for name, experiment in self.config.experiments.items():
            if spec := getattr(experiment, "published", ""):
                path = Path(spec).expanduser() / "bigvgan_generator.pt"
                local = path.is_file()
                found.append(
                    Weights(
                        f"{name} / vocoder", path.parent.name if local else spec, file_sha256(path) if local else ""
                    )
                )
        return found

    @property
    def experiments(self) -> list[dict[str, str]]:
        """What each experiment is: its system, and the options that differ from the defaults."""
        rows = []
        for name, experiment in self.config.experiments.items():
            options = experiment.model_dump(mode="json", exclude_defaults=True, exclude={"system"})
            text = ", ".join(f"{key}: {value}" for key, value in _flat(options))
            rows.append({"name": name, "system": experiment.system, "options": text})
        return rows

    # --------------------------------------------------------------------------------------------------- what it took
    @cached_property
    def records(self) -> dict[Path, dict[str, Any]]:
        """Run records beside the artifacts, by path below the root."""
        paths = (p for noun in NOUNS for p in sorted((self.root / noun).rglob("*.run.json")))
        return {path.relative_to(self.root): read_json(path) for path in paths if "checkpoints" not in path.parts}

    @cached_property
    def ledger(self) -> list[Step]:
        """Stages in order, each with its variants."""
        steps = [_step(self.root, noun, self.records) for noun in NOUNS]
        for step in steps:
            for part in step.parts:
                part.audio_s = self._speech(step.name, part.name)
            step.audio_s = sum(part.audio_s for part in step.parts) or self._speech(step.name, "")
        return [step for step in steps if step.jobs or step.files]

    def _speech(self, noun: str, variant: str) -> float:
        """Seconds of speech that one variant of a stage goes over: the corpus's, or that of its conversions."""
        if noun in ("corpus", "features", "codebook", "pairs"):
            whole = variant or noun == "corpus"
            return float(self.manifest["duration_s"].sum()) if whole and len(self.manifest) else 0.0
        if noun in ("conversion", "evaluation") and variant:
            record = self.records.get(Path("conversion", variant, "trials.parquet.run.json"), {})
            return float(record.get("audio_s", 0.0))
        return 0.0

    @property
    def total(self) -> Step:
        """The whole run as one line."""
        steps = self.ledger
        known = [step.wall_s for step in steps if step.wall_s is not None]
        return Step(
            "all",
            sum(s.jobs for s in steps),
            sum(s.seconds for s in steps),
            sum(known) if known else None,
            max((s.peak_mib for s in steps), default=0.0),
            sum(s.files for s in steps),
            sum(s.disk_mib for s in steps),
        )

    @cached_property
    def speeds(self) -> list[tuple[str, dict[str, float], float]]:
        """(experiment, seconds of work a second of audio by step, seconds of audio) of conversions that were made."""
        found = []
        for path, record in self.records.items():
            if path.parts[0] == "conversion" and record.get("rtf"):
                found.append((path.parts[1], dict(record["rtf"]), float(record.get("audio_s", 0.0))))
        return found

    @property
    def speed_steps(self) -> list[str]:
        """Steps of all conversions, in the order they are made."""
        steps = dict.fromkeys(step for _, rtf, _ in self.speeds for step in rtf)
        ends = ("conversion", "writing")
        return [
            *(["reading"] if "reading" in steps else []),
            *(s for s in steps if s not in ("reading", *ends)),
            *(s for s in ends if s in steps),
        ]

    @cached_property
    def samplings(self) -> list[Sampling]:
        """Conversions of Takin-VC by the sampler's steps, of flows that were sampled in more than one way."""
        found: dict[str, list[Sampling]] = {}
        for name, rtf, audio_s in self.speeds:
            experiment: Any = self.config.experiments.get(name)
            if experiment is None or experiment.system != "takin" or "flow" not in rtf:
                continue
            model = f"{experiment.reuse.get('flow', name)}, w = {experiment.guidance:g}, {experiment.reference_s:g} s"
            calls = experiment.sampling_steps * (2 if experiment.sampler == "midpoint" else 1)
            calls *= 2 if experiment.guidance else 1
            one = Sampling(name, model, experiment.sampler, experiment.sampling_steps, calls, rtf, audio_s)
            found.setdefault(model, []).append(one)
        groups = [group for group in found.values() if len({(s.sampler, s.steps) for s in group}) > 1]
        return sorted((s for group in groups for s in group), key=lambda s: (s.model, s.sampler, s.steps, s.experiment))

    @property
    def trial_list(self) -> dict[str, Any]:
        """Hash and leak report of the list of trials, {} where there is none."""
        path = self.root / "corpus" / "trials.parquet"
        return read_identity(path) if path.exists() else {}

    @property
    def made(self) -> dict[str, str]:
        """When and with what the artifacts were made, as their records say."""
        records = list(self.records.values())
        if not records:
            return {}
        started = sorted(r["started"] for r in records if r.get("started"))
        last = max(records, key=lambda r: r.get("started", ""))
        revisions = sorted({r.get("git_revision") or "outside a checkout" for r in records})
        return {
            "artifacts made": f"{_day(started[0])} to {_day(started[-1])}" if started else "unknown",
            "git revision": ", ".join(revisions) + (" (+: with changes)" if any("+" in r for r in revisions) else ""),
            "device": ", ".join(sorted({str(r["device"]) for r in records if r.get("device")})),
            "libraries": ", ".join(
                [f"python {last.get('python', '?')}", *(f"{k} {v}" for k, v in last.get("libraries", {}).items())]
            ),
        }


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; {} where there is none to read."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _bundled_sha256(spec: str) -> str:
    try:
        return file_sha256(Path(bundled(spec)) / "model.safetensors")
    except (OSError, BowerbirdError):
        return ""


def _flat(options: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in options.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _day(stamp: str) -> str:
    """``2026-11-21 06:16 UTC`` of an ISO stamp."""
    return stamp.replace("T", " ").removesuffix("Z")[:16] + " UTC"


def _step(root: Path, noun: str, records: dict[Path, dict[str, Any]]) -> Step:
    """One stage from its records, its files and the workflow's measurements."""
    total = Step(noun)
    parts: dict[str, Step] = {}
    counted: dict[tuple[str, str], float] = {}
    for path in sorted((root / noun).rglob("*")):
        if not path.is_file() or path.name.startswith(".") or {"checkpoints", "tensorboard"} & set(path.parts):
            continue
        below = path.relative_to(root)
        variant = below.parts[1] if len(below.parts) > 2 else ""
        part = parts.setdefault(variant, Step(variant)) if variant else total
        record = records.get(below)
        job = (str(record.get("started", "")), _job(record, below)) if record and "identity" in record else None
        again = counted.get(job) if job else None  # a job that writes two artifacts has a record beside each
        took = float(record.get("seconds", 0.0)) if record else 0.0
        if job:
            counted[job] = max(took, again or 0.0)
        for step in {id(part): part, id(total): total}.values():
            if record is None:
                step.files += 1
                step.disk_mib += path.stat().st_size / 2**20
            else:
                step.jobs += again is None
                step.seconds += max(0.0, took - (again or 0.0))
                step.peak_mib = max(step.peak_mib, float(record.get("peak_memory_mib", 0.0)))
    measured = [row for path in sorted((root / "benchmarks" / noun).rglob("*.tsv")) for row in _benchmark(path)]
    if measured:
        total.wall_s, total.measured = sum(_float(row.get("s")) for row in measured), len(measured)
        total.peak_mib = max(total.peak_mib, *(_float(row.get("max_rss")) for row in measured))
    total.parts = list(parts.values()) if noun != "corpus" else []
    return total


def _job(record: dict[str, Any], path: Path) -> str:
    """What artifacts of one job have in common: its recipe, and the folder they lie in."""
    identity = record.get("identity", {})
    return json.dumps([str(path.parent), identity.get("params"), identity.get("inputs")], sort_keys=True)


def _benchmark(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle, delimiter="\t"))


def _float(text: str | None) -> float:
    try:
        return float(text or 0)
    except ValueError:  # "-" where it was too short to measure
        return 0.0
