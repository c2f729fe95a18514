"""Stage `training`: one stage of one system, from shards to a model folder.

Kill it at any time and run the same command again: it goes on from its last checkpoint, and the result is the same.
"""

from __future__ import annotations

import importlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from bowerbird.artifacts.files import atomic_path, write_json, write_text
from bowerbird.artifacts.identity import IDENTITY_KEY, Identity, RunRecord, inputs_digest, stable_hash
from bowerbird.artifacts.shards import open_array
from bowerbird.artifacts.tables import read_identity
from bowerbird.config.base import StageOptions
from bowerbird.config.paths import bundled
from bowerbird.config.sections.runtime import RuntimeConfig
from bowerbird.config.sections.training import TrainingConfig
from bowerbird.config.systems import Experiment
from bowerbird.config.systems.base import stage_options
from bowerbird.errors import BowerbirdError
from bowerbird.stages.training import PREEMPTED, VERSION
from bowerbird.stages.training.checkpoints import Checkpoints
from bowerbird.stages.training.data import EpochBatches, StageData, StepBatches, equal_parts
from bowerbird.stages.training.distributed import Processes, join
from bowerbird.stages.training.loop import Trainer
from bowerbird.stages.training.metrics_logger import Journal
from bowerbird.stages.training.transcripts import TranscriptBatches, Transcripts
from bowerbird.systems.base import Batch, DataNeeds, StageInputs

VALID_UTTERANCES, VALID_FRAMES = 16, 500  # whole utterances of a validation, and where each is cut


OTHERS = ("mels", "phones", "voices")  # artifacts like features that some stages read besides


NO_FILES: list[Path] = []


NO_MODELS: list[str] = []


logger = logging.getLogger(__name__)


def train_stage(
    output: Path,
    stage: str,
    experiment: Experiment,
    manifest: Path,
    training: TrainingConfig,
    runtime: RuntimeConfig,
    features: list[Path] = NO_FILES,
    audio: list[Path] = NO_FILES,
    pairs: list[Path] = NO_FILES,
    units: list[Path] = NO_FILES,
    codebook: Path | None = None,
    mels: list[Path] = NO_FILES,
    phones: list[Path] = NO_FILES,
    voices: list[Path] = NO_FILES,
    models: list[str] = NO_MODELS,
) -> int:
    """Train one stage of an experiment; ``output`` is its model.safetensors, the rest is written beside it.

    ``models`` are "role=folder". Returns 0, or 75 when SIGTERM or SIGUSR1 stopped it: then a checkpoint was saved and
    the same command goes on from there.
    """
    torch.set_num_threads(runtime.threads)
    folders = _model_folders(models)
    files = {"manifest": [manifest], "features": features, "audio": audio, "pairs": pairs, "units": units}
    files["codebook"] = [codebook] if codebook else []
    files |= {"mels": mels, "phones": phones, "voices": voices}
    files |= {role: [folder / "model.safetensors"] for role, folder in folders.items()}
    job = Job(output, experiment, stage, _options(experiment, stage), files, folders)
    with join(runtime.device) as processes, RunRecord(str(processes.device), job.options.precision) as record:
        trainer = _trainer(job, training, processes)
        try:
            finished = trainer.run(runtime.workers)
        finally:
            if trainer.journal.is_open:
                trainer.journal.close()
        if finished and processes.is_first:
            _write_model(job, trainer, record)
    return 0 if finished else PREEMPTED


@dataclass(frozen=True)
class Job:
    """One training: what, on which files, to where."""

    output: Path
    experiment: Any
    stage: str
    options: StageOptions
    files: Mapping[str, list[Path]]  # by role
    models: Mapping[str, Path]  # folders by role

    @property
    def identity(self) -> Identity:
        """Options and digests of inputs; a model to start from counts by its weights, not by its path."""
        values = self.options.model_dump(exclude={"start_from"})
        files = dict(self.files)
        if start := getattr(self.options, "start_from", ""):
            files["start"] = [Path(bundled(start)) / "model.safetensors"]
        inputs = {role: inputs_digest(paths) for role, paths in files.items() if paths}
        return Identity("training", VERSION, {"system": self.experiment.system, "stage": self.stage, **values}, inputs)

    @property
    def recipe(self) -> dict[str, Any]:
        """The identity without the number of steps: what may share checkpoints."""
        identity = self.identity
        params = {name: value for name, value in identity.params.items() if name != "steps"}
        return {"version": identity.version, "params": params, "inputs": dict(identity.inputs)}


def _trainer(job: Job, settings: TrainingConfig, processes: Processes) -> Trainer:
    """Everything that a training needs, opened and built."""
    options, files = job.options, job.files
    kind = importlib.import_module(f"bowerbird.systems.{job.experiment.package()}.training").STAGES[job.stage]
    needs = kind.data_needs(options)
    if not (files["features"] or needs.transcripts):
        raise BowerbirdError("--features: missing: training reads at least one shard of features")
    if options.batch_size < processes.count * options.accumulate:
        raise BowerbirdError(
            f"{job.stage}.batch_size: {options.batch_size}: less than one item for each of {processes.count} processes "
            f"with {options.accumulate} micro-batches"
        )
    data = _open(needs, files)
    facts = read_identity(files["features"][0].with_suffix(".parquet")).get("params", {}) if files["features"] else {}
    others = {role: _facts(files[role][0]) for role in OTHERS if files[role]}
    torch.manual_seed(options.seed)
    codebook = next(iter(files["codebook"]), None)
    symbols = data.symbols if isinstance(data, Transcripts) else ()
    inputs = StageInputs(data.feature_dim, facts, job.models, codebook, data.speakers, symbols, others)
    stage = kind.build(options, inputs)
    batches = _batches(job, data, processes)
    validation = _validation_batches(data) if processes.is_first else []
    recipe = job.recipe
    folder = job.output.parent / "checkpoints" / stable_hash(recipe)
    checkpoints = Checkpoints(folder, settings.keep_checkpoints)
    if processes.is_first:
        _announce(folder, recipe)
        checkpoints.clean()
        logger.info(
            "%s of %s: %.2f M parameters on %s; %d utterances to train on, %d to validate",
            job.stage,
            job.experiment.system,
            sum(p.numel() for p in stage.exported.parameters()) / 1.0e6,
            processes.device,
            len(batches.items),
            len(validation),
        )
    tensorboard = job.output.parent / "tensorboard" / folder.name
    journal = Journal(folder / "metrics.jsonl", tensorboard, options.steps, settings.log_every)
    return Trainer(stage, options, settings, batches, validation, processes, checkpoints, journal)


def _open(needs: DataNeeds, files: Mapping[str, list[Path]]) -> StageData | Transcripts:
    """What the stage reads: crops of features, or whole utterances with their transcripts."""
    if needs.transcripts:
        return Transcripts(needs, files["manifest"][0], files["audio"])
    roles = ("features", "audio", "pairs", "units", *OTHERS)
    return StageData(needs, files["manifest"][0], **{role: files[role] for role in roles})


def _facts(path: Path) -> dict[str, Any]:
    """The dimensions of a shard's rows, and what its index says of their origin."""
    return {"dim": int(open_array(path).shape[1]), **read_identity(path.with_suffix(".parquet")).get("params", {})}


def _batches(job: Job, data: StageData | Transcripts, processes: Processes) -> EpochBatches:
    """This process's batches of the training split."""
    frames = data.needs.segment_frames
    items = data.items("train", at_least=frames)
    if not items:
        raise BowerbirdError(
            f"{job.files['manifest'][0]}: no utterance of split train with {frames} frames of features or more; lower "
            "segment_frames, or look at the corpus"
        )
    part = equal_parts(job.options.batch_size, processes.count)[processes.rank]
    if isinstance(data, Transcripts):
        return TranscriptBatches(data, items, job.options.seed, job.options.batch_size, part)
    return StepBatches(data, items, job.options.seed, job.options.batch_size, part)


def _validation_batches(data: StageData | Transcripts) -> list[Batch]:
    """Some whole utterances of the validation split, the same ones at every validation."""
    items = data.items("valid")
    if not items:
        logger.warning("no utterance of split valid: training without validation")
    return [
        data.whole(item, VALID_FRAMES) for item in items[:: max(1, len(items) // VALID_UTTERANCES)][:VALID_UTTERANCES]
    ]


def _options(experiment: Any, stage: str) -> StageOptions:
    if stage not in experiment.stages:
        known = ", ".join(experiment.stages) or "none"
        raise BowerbirdError(f"--stage: {stage!r}: no training stage of {experiment.system}; it has: {known}")
    return stage_options(experiment, stage)


def _model_folders(models: list[str]) -> dict[str, Path]:
    folders = {}
    for word in models:
        role, equals, folder = word.partition("=")
        if not equals or not (Path(folder) / "model.safetensors").is_file():
            raise BowerbirdError(f"--models: {word}: not role=FOLDER with a folder that holds model.safetensors")
        folders[role] = Path(folder)
    return folders


def _announce(folder: Path, recipe: Mapping[str, Any]) -> None:
    """Record the recipe beside its checkpoints; where there are only other recipes' ones, say what differs."""
    if not (folder / "recipe.json").exists():
        for other in sorted(folder.parent.glob("*/recipe.json")):
            before, now = _flat(json.loads(other.read_text(encoding="utf-8"))), _flat(recipe)
            changed = [
                f"{key}: {before.get(key, 'absent')} -> {now.get(key, 'absent')}"
                for key in sorted(before.keys() | now.keys())
                if before.get(key) != now.get(key)
            ]
            logger.warning(
                "starting anew: the checkpoints in %s are of another recipe (%s)", other.parent, "; ".join(changed)
            )
    write_json(folder / "recipe.json", recipe)


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat |= _flat(item, f"{prefix}{key}.") if isinstance(item, Mapping) else {f"{prefix}{key}": item}
    return flat


def _write_model(job: Job, trainer: Trainer, record: RunRecord) -> None:
    """The model folder's files; the weights come last, so where they are, all is."""
    identity, output = job.identity, job.output
    weights = trainer.result()
    record.extra["processes"] = trainer.processes.count
    record.extra["steps_per_second"] = round(trainer.journal.steps_per_second(trainer.finished_step), 4)
    write_json(
        output.with_name("config.json"), {**trainer.stage.architecture(), "identity": identity.as_dict()}, seal=True
    )
    write_text(output.with_name("metrics.jsonl"), "".join(f"{line}\n" for line in trainer.journal.lines), seal=True)
    record.write(output, identity)
    with atomic_path(output, seal=True) as temporary:
        # written from memory: save_file would leave a file that nobody else may read
        temporary.write_bytes(save(weights, metadata={IDENTITY_KEY.decode(): identity.to_json()}))
