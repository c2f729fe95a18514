"""The training loop, one for every stage of every system: steps, validation, checkpoints, signals."""

from __future__ import annotations

import contextlib
import logging
import math
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from bowerbird.audio import SAMPLE_RATE
from bowerbird.config.sections.training import TrainingConfig
from bowerbird.errors import BowerbirdError
from bowerbird.stages.training.checkpoints import Checkpoints, TrainingState, optimizer_tensors, restore_optimizer
from bowerbird.stages.training.data import EpochBatches
from bowerbird.stages.training.metrics_logger import MetricsLogger
from bowerbird.stages.training.updates import StageUpdater
from bowerbird.systems.base import Batch

logger = logging.getLogger(__name__)


class Trainer:
    """Trains one stage from its last checkpoint to its last step."""

    def __init__(
        self,
        updater: StageUpdater,
        settings: TrainingConfig,
        batches: EpochBatches,
        validation: Sequence[Batch],
        checkpoints: Checkpoints,
        metrics_logger: MetricsLogger,
    ) -> None:
        self.updater, self.stage, self.options = updater, updater.stage, updater.options
        self.processes, self.settings = updater.processes, settings
        self.batches, self.validation = batches, validation
        self.checkpoints, self.metrics_logger = checkpoints, metrics_logger
        self.finished_step = 0

    def run(self, workers: int = 0) -> bool:
        """Train up to ``options.steps`` from the last checkpoint; False if a signal stopped it before (saved)."""
        self._resume()
        steps, processes = self.options.steps, self.processes
        batches = self.batches.from_step(self.finished_step + 1, steps, workers)
        with stop_signals() as stop:
            for step, batch in enumerate(batches, start=self.finished_step + 1):
                losses = self._step(step, batch.to(processes.device))
                self.finished_step = step
                if processes.is_first:
                    self.metrics_logger.step(step, losses, self.stage.learning_rate(step))
                    if step % self.options.valid_every == 0 or step == steps:
                        self._validate(step)
                stopped = processes.any(stop.is_set())
                if stopped or step % self.settings.checkpoint_every == 0 or step == steps:
                    self._save()
                if stopped and step < steps:
                    logger.warning("stopped by a signal after step %d of %d; saved, run again to go on", step, steps)
                    return False
        return True

    def _step(self, step: int, batch: Batch) -> dict[str, float]:
        """The losses of one step; an error names the utterances of a step whose losses are not finite."""
        try:
            return self.updater.step(step, batch)
        except FloatingPointError as error:
            utterances = ", ".join(item.utt_id for item in self.batches.draw(step))
            raise BowerbirdError(
                f"step {step}: {error}: not finite; no model was written. The batch: {utterances}. Look at "
                "the features and audio of these utterances, or lower the learning rate"
            ) from None

    @torch.no_grad()
    def _validate(self, step: int) -> None:
        """Log mean metrics over the validation utterances, with the weights that would be the result."""
        if not self.validation:
            return
        totals: dict[str, list[float]] = {}
        for module in self.stage.modules.values():
            module.eval()
        with self.updater.averaged():
            for number, batch in enumerate(self.validation):
                with self.updater.autocast():
                    metrics, wave = self.stage.validate(batch.to(self.processes.device))
                for name, value in metrics.items():
                    totals.setdefault(name, []).append(float(value))
                if wave is not None and number < self.settings.audio_samples:
                    self.metrics_logger.audio(f"{batch.utt_ids[0]}/generated", wave, step, SAMPLE_RATE)
        self.metrics_logger.validation(step, {name: math.fsum(v) / len(v) for name, v in totals.items()})

    def _save(self) -> None:
        """Write a checkpoint; every process waits for it."""
        if self.processes.is_first:
            tensors = {
                f"modules/{name}/{key}": tensor
                for name, module in self.stage.modules.items()
                for key, tensor in module.state_dict().items()
            }
            for name, optimizer in self.stage.optimizers.items():
                tensors |= {f"optimizers/{name}/{key}": t for key, t in optimizer_tensors(optimizer).items()}
            if self.updater.average:
                tensors |= {f"average/{key}": tensor for key, tensor in self.updater.average.weights.items()}
            self.checkpoints.save(TrainingState(self.finished_step, tensors, self.metrics_logger.state()))
        self.processes.wait()

    def _resume(self) -> None:
        """Take up the last sound checkpoint, if there is one."""
        state = self.checkpoints.latest(self.options.steps)
        if state:
            for name, module in self.stage.modules.items():
                module.load_state_dict(_below(state.tensors, f"modules/{name}/"))
            for name, optimizer in self.stage.optimizers.items():
                restore_optimizer(optimizer, _below(state.tensors, f"optimizers/{name}/"))
            if self.updater.average:
                self.updater.average.load(_below(state.tensors, "average/"))
            self.finished_step = state.step
            logger.info("going on after step %d of %d", state.step, self.options.steps)
        if self.processes.is_first:
            self.metrics_logger.open(self.finished_step, state.metrics if state else {})
            for batch in self.validation[: self.settings.audio_samples]:
                audio = batch.get("audio")
                if audio is not None and not state:
                    self.metrics_logger.audio(f"{batch.utt_ids[0]}/recorded", audio[0], 0, SAMPLE_RATE)

    def result(self) -> dict[str, Tensor]:
        """The trained weights by name; an error if one is not finite."""
        try:
            return self.updater.result()
        except FloatingPointError as error:
            raise BowerbirdError(f"step {self.finished_step}: {error}: not finite; no model was written") from None


@contextlib.contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGUSR1 (preemption, wall time) set, instead of ending the process."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with ``prefix``, by the rest of their names."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
