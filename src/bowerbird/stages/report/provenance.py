"""What the results were made with: weights, options of the experiments, devices and libraries."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bowerbird.artifacts.files import file_sha256
from bowerbird.artifacts.tables import read_identity
from bowerbird.config.paths import Paths
from bowerbird.stages.report.costs import Records, read_json
from bowerbird.stages.report.run_data import Run


@dataclass(frozen=True)
class UsedWeights:
    """Weights that the results depend on: what they are for, what they are, and their digest ("" if not known)."""

    role: str
    name: str
    sha256: str


@dataclass(frozen=True)
class ListedExperiment:
    """An experiment: its system, its size, and the options that differ from those of this size."""

    name: str
    system: str
    options: str


def list_weights(run: Run) -> list[UsedWeights]:
    """Encoders as their features record them, models that the run trained, and models from elsewhere that it converts with."""
    return [*_encoders(run), *_trained_models(run), *dict.fromkeys(_foreign_models(run))]


def _encoders(run: Run) -> Iterator[UsedWeights]:
    for name in run.config.features:
        indices = [Paths.index(path) for path in run.paths.all_shards("features", name)]
        for path in [path for path in indices if path.exists()][:1]:
            encoder = read_identity(path).get("encoder", {})
            text = f"{encoder.get('encoder', 'unknown')}, layer {encoder.get('layer', '?')}"
            yield UsedWeights(f"features {name}", text, str(encoder.get("weights_sha256", "")))


def _trained_models(run: Run) -> Iterator[UsedWeights]:
    for name, stage in run.graph.trained_stages():
        outputs = run.graph.train_stage(name, stage).outputs
        if outputs["model"].exists():
            architecture = read_json(outputs["config"])
            known = [str(architecture[key]) for key in ("generator", "system") if key in architecture]
            text = f"{', '.join(known) or 'trained'}, trained here"
            yield UsedWeights(f"{name} / {stage}", text, file_sha256(outputs["model"]))


def _foreign_models(run: Run) -> Iterator[UsedWeights]:
    """Bundled models, and models in folders or on a hub; a folder is named without the folders above it."""
    for name in run.config.experiments:
        job = run.graph.convert_trials(name)
        for role, model in job.models.items():
            if isinstance(model, Path) and model.is_relative_to(run.paths.root):
                continue  # trained here
            weights = [path for path in job.inputs[role] if path.suffix != ".json" and path.is_file()]
            text = model.name if isinstance(model, Path) else str(model)
            yield UsedWeights(role, text, file_sha256(weights[0]) if weights else "")


def list_experiments(run: Run) -> list[ListedExperiment]:
    """Every experiment with its options."""
    rows = []
    for name, experiment in run.config.experiments.items():
        text = ", ".join(f"{key}: {value}" for key, value in experiment.changed_options().items())
        rows.append(ListedExperiment(name, experiment.system_name, text))
    return rows


def made_with(records: Records) -> dict[str, str]:
    """When and with what the artifacts were made, by heading, as their run records say; {} without records."""
    if not records:
        return {}
    known = list(records.values())
    started = sorted(record["started"] for record in known if record.get("started"))
    last = max(known, key=lambda record: record.get("started", ""))
    revisions = sorted({record.get("git_revision") or "outside a checkout" for record in known})
    changed = " (+: with changes)" if any("+" in revision for revision in revisions) else ""
    libraries = [f"python {last.get('python', '?')}", *(f"{k} {v}" for k, v in last.get("libraries", {}).items())]
    return {
        "artifacts made": f"{_minute(started[0])} to {_minute(started[-1])}" if started else "unknown",
        "git revision": ", ".join(revisions) + changed,
        "device": ", ".join(sorted({str(record["device"]) for record in known if record.get("device")})),
        "libraries": ", ".join(libraries),
    }


def _minute(stamp: str) -> str:
    """``2026-11-21 06:16 UTC`` of an ISO stamp."""
    return stamp.replace("T", " ").removesuffix("Z")[:16] + " UTC"
