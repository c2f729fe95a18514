"""`train-stage`: one stage of one system, from shards to a model folder.

Kill it at any time and run the same command again: it resumes from its last checkpoint, and the result is the same.
"""

from __future__ import annotations

import importlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from bowerbird.artifacts.files import atomic_path, write_json, write_text
from bowerbird.artifacts.identity import IDENTITY_KEY, Identity, RunRecord, input_digests, stable_hash
from bowerbird.artifacts.models import model_files
from bowerbird.artifacts.shards import open_array, parameters_of
from bowerbird.config.base import StageOptions
from bowerbird.config.sections.runtime import RuntimeConfig
from bowerbird.config.sections.training import TrainingConfig
from bowerbird.config.systems.base import ExperimentBase
from bowerbird.config.systems.registry import Experiment
from bowerbird.encoders.checkpoint import model_folder, parse_model_folders
from bowerbird.errors import BowerbirdError
from bowerbird.stages.training import PREEMPTED, VERSION
from bowerbird.stages.training.checkpoints import Checkpoints
from bowerbird.stages.training.data import EpochBatches, StageData, TrainingData, equal_parts
from bowerbird.stages.training.distributed import Processes, join
from bowerbird.stages.training.loop import Trainer
from bowerbird.stages.training.metrics_logger import MetricsLogger
from bowerbird.stages.training.transcripts import Transcripts
from bowerbird.stages.training.updates import StageUpdater
from bowerbird.systems.base import Batch, BatchSpec, StageInputs, TrainingStage

VALID_UTTERANCES, VALID_FRAMES = 16, 500  # whole utterances of a validation, and where each is cut
AUXILIARY = ("mels", "phones", "world", "speaker_embeddings")  # features that some stages read besides
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
    codebook: Path | None = None,
    mels: list[Path] = NO_FILES,
    phones: list[Path] = NO_FILES,
    world: list[Path] = NO_FILES,
    speaker_embeddings: list[Path] = NO_FILES,
    models: list[str] = NO_MODELS,
) -> int:
    """Train one stage of an experiment; ``output`` is its model.safetensors, the rest is written beside it.

    ``models`` are "role=folder". Returns 0, or 75 when SIGTERM or SIGUSR1 stopped it during its steps: then a checkpoint was
    saved, and the same command resumes from there.
    """
    torch.set_num_threads(runtime.threads)
    shards = {"features": features, "audio": audio, "pairs": pairs, "mels": mels, "phones": phones}
    shards |= {"world": world, "speaker_embeddings": speaker_embeddings}
    job = TrainingJob(output, experiment, stage, manifest, shards, codebook, parse_model_folders(models))
    with join(runtime.device) as processes:
        record = RunRecord(str(processes.device), job.options.precision)
        trainer = open_trainer(job, training, processes)
        try:
            finished = trainer.run(runtime.workers)
        finally:
            trainer.metrics_logger.close()
        if finished and processes.is_first:
            write_model(job, trainer, record)
    return 0 if finished else PREEMPTED


@dataclass(frozen=True)
class TrainingJob:
    """One training: what, on which files, to where."""

    output: Path
    experiment: ExperimentBase
    stage: str
    manifest: Path
    shards: Mapping[str, Sequence[Path]]  # by role
    codebook: Path | None
    models: Mapping[str, Path]  # folders by role

    @property
    def options(self) -> StageOptions:
        """The options of the stage; an error where the system has no such stage."""
        try:
            return self.experiment.stage_options(self.stage)
        except ValueError as error:
            raise BowerbirdError(f"--stage: {error}") from None

    @property
    def identity(self) -> Identity:
        """Options, and digests of the inputs by role; a model counts by its weights and its config, not by its path."""
        files: dict[str, Sequence[Path]] = {"manifest": [self.manifest], **self.shards}
        files["codebook"] = [self.codebook] if self.codebook else []
        files |= {role: model_files(folder) for role, folder in self.models.items()}
        if self.options.start_from:
            files["start"] = model_files(model_folder(self.options.start_from, f"{self.stage}.start_from"))
        params = self.experiment.training_params(self.stage)
        return Identity("training", VERSION, params, input_digests(files))

    @property
    def recipe(self) -> dict[str, Any]:
        """The identity without the number of steps: what may share checkpoints."""
        identity = self.identity
        params = {name: value for name, value in identity.params.items() if name != "steps"}
        return {"version": identity.version, "params": params, "inputs": dict(identity.inputs)}


def open_trainer(job: TrainingJob, settings: TrainingConfig, processes: Processes) -> Trainer:
    """Everything that a training needs, opened and built."""
    options = job.options
    kind = stage_class(job.experiment, job.stage)
    if options.batch_size < processes.count * options.accumulate:
        raise BowerbirdError(
            f"{job.stage}.batch_size: {options.batch_size}: less than one item for each of {processes.count} processes "
            f"with {options.accumulate} micro-batches"
        )
    data = open_data(kind.batch_spec(options), job)
    inputs = stage_inputs(job, data)
    torch.manual_seed(options.seed)
    updater = StageUpdater(kind(options, inputs), processes)
    batches = training_batches(job, data, processes)
    validation = validation_batches(data) if processes.is_first else []
    folder = job.output.parent / "checkpoints" / stable_hash(job.recipe)
    checkpoints = Checkpoints(folder, settings.keep_checkpoints)
    if processes.is_first:
        record_recipe(folder, job.recipe)
        checkpoints.clean()
        size = sum(p.numel() for p in updater.stage.exported.parameters()) / 1.0e6
        what = f"{job.stage} of {job.experiment.system_name}: {size:.2f} M parameters on {processes.device}"
        logger.info("%s; %d utterances to train on, %d to validate", what, len(batches.items), len(validation))
    tensorboard = job.output.parent / "tensorboard" / folder.name
    metrics_logger = MetricsLogger(folder / "metrics.jsonl", tensorboard, options.steps, settings.log_every)
    return Trainer(updater, settings, batches, validation, checkpoints, metrics_logger)


def stage_class(experiment: ExperimentBase, stage: str) -> type[TrainingStage]:
    """The training stage of a system, by its name."""
    return importlib.import_module(f"{experiment.package()}.training").STAGES[stage]


def open_data(spec: BatchSpec, job: TrainingJob) -> TrainingData:
    """What the stage reads: crops of features, or whole utterances with their transcripts."""
    if spec.transcripts:
        return Transcripts(spec, job.manifest, job.shards)
    return StageData(spec, job.manifest, job.shards)


def stage_inputs(job: TrainingJob, data: TrainingData) -> StageInputs:
    """What the stage is built from, besides its options."""
    features = job.shards["features"]
    return StageInputs(
        data.feature_dim,
        parameters_of(features[0]) if features else {},
        job.models,
        job.codebook,
        data.speakers,
        data.symbols,
        {
            role: {"dim": dim_of(paths[0]), **parameters_of(paths[0])}
            for role in AUXILIARY
            if (paths := job.shards[role])
        },
        data.moments() if isinstance(data, StageData) else {},
    )


def dim_of(shard: Path) -> int:
    """The dimension of a shard's rows."""
    return int(open_array(shard).shape[1])


def training_batches(job: TrainingJob, data: TrainingData, processes: Processes) -> EpochBatches:
    """This process's batches of the training split."""
    options, frames = job.options, data.spec.shortest
    items = data.items("train", at_least=frames)
    if not items:
        raise BowerbirdError(
            f"{job.manifest}: no utterance of split train with {frames} frames of features or more; lower "
            "segment_frames, or look at the corpus"
        )
    part = equal_parts(options.batch_size, processes.count)[processes.rank]
    return data.batches(items, options.seed, options.batch_size, part)


def validation_batches(data: TrainingData) -> list[Batch]:
    """Some whole utterances of the validation split, the same ones at every validation."""
    items = data.items("valid")
    if not items:
        logger.warning("no utterance of split valid: training without validation")
    chosen = items[:: max(1, len(items) // VALID_UTTERANCES)][:VALID_UTTERANCES]
    return [data.whole(item, VALID_FRAMES) for item in chosen]


def record_recipe(folder: Path, recipe: Mapping[str, Any]) -> None:
    """Write the recipe beside its checkpoints; where there are only other recipes' ones, warn of what differs."""
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
    """Nested mappings as one, keys joined by dots."""
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat |= _flat(item, f"{prefix}{key}.") if isinstance(item, Mapping) else {f"{prefix}{key}": item}
    return flat


def write_model(job: TrainingJob, trainer: Trainer, record: RunRecord) -> None:
    """The model folder's files; the weights come last, so where they are, all is."""
    identity, output = job.identity, job.output
    weights, metrics_logger = trainer.result(), trainer.metrics_logger
    record.extra["processes"] = trainer.processes.count
    record.extra["steps_per_second"] = round(metrics_logger.steps_per_second(trainer.finished_step), 4)
    config = {**trainer.stage.architecture(), "identity": identity.as_dict()}
    write_json(output.with_name("config.json"), config, seal=True)
    write_text(output.with_name("metrics.jsonl"), "".join(f"{line}\n" for line in metrics_logger.lines), seal=True)
    record.write(output, identity)
    with atomic_path(output, seal=True) as temporary:
        # written from memory: save_file would leave a file that nobody else may read
        temporary.write_bytes(save(weights, metadata={IDENTITY_KEY.decode(): identity.to_json()}))
