"""The training loop, one for every stage of every system."""

from __future__ import annotations

import contextlib
import logging
import math
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bowerbird.audio import SAMPLE_RATE
from bowerbird.config.base import StageOptions
from bowerbird.config.sections.training import TrainingConfig
from bowerbird.errors import BowerbirdError
from bowerbird.stages.training.checkpoints import Checkpoint, Checkpoints, optimizer_tensors, restore_optimizer
from bowerbird.stages.training.data import EpochBatches, equal_parts
from bowerbird.stages.training.distributed import Processes
from bowerbird.stages.training.metrics_logger import Journal
from bowerbird.systems.base import Batch, TrainingStage

logger = logging.getLogger(__name__)


class Trainer:
    """Trains one stage, step by step.

    Randomness inside a step (dropout, noise) starts from ``[seed, step, process]``, so there is no generator's state to
    save: what a step does depends on the weights, the optimizers' states and its number.
    """

    def __init__(
        self,
        stage: TrainingStage,
        options: StageOptions,
        settings: TrainingConfig,
        batches: EpochBatches,
        validation: Sequence[Batch],
        processes: Processes,
        checkpoints: Checkpoints,
        journal: Journal,
    ) -> None:
        self.stage, self.options, self.settings = stage, options, settings
        self.batches, self.validation = batches, validation
        self.processes, self.checkpoints, self.journal = processes, checkpoints, journal
        for module in stage.modules.values():
            module.to(processes.device)
        self.average = WeightAverage(stage.exported, options.ema) if options.ema else None
        self.finished_step = 0

    def run(self, workers: int = 0) -> bool:
        """Train up to ``options.steps`` from the last checkpoint; False if a signal stopped it before (saved)."""
        self._resume()
        steps, processes = self.options.steps, self.processes
        batches = self.batches.from_step(self.finished_step + 1, steps, workers)
        with stop_signals() as stop:
            for step, batch in enumerate(batches, start=self.finished_step + 1):
                losses = self.step(step, batch.to(processes.device))
                self.finished_step = step
                if processes.is_first:
                    self.journal.step(step, losses, self.stage.learning_rate(step))
                    if step % self.options.valid_every == 0 or step == steps:
                        self._validate(step)
                stopped = processes.any(stop.is_set())
                if stopped or step % self.settings.checkpoint_every == 0 or step == steps:
                    self._save()
                if stopped and step < steps:
                    logger.warning("stopped by a signal after step %d of %d; saved, run again to go on", step, steps)
                    return False
        return True

    # ------------------------------------------------------------------------------------------------------- one step
    def step(self, step: int, batch: Batch) -> dict[str, float]:
        """All updates of one step on this process's part of the batch; losses are means over all processes."""
        torch.manual_seed(
            int(np.random.SeedSequence([self.options.seed, step, self.processes.rank]).generate_state(1)[0])
        )
        micro_batches = [batch[rows] for rows in equal_parts(len(batch), self.options.accumulate)]
        for module in self.stage.modules.values():
            module.train(any(p.requires_grad for p in module.parameters()))
        shared = None
        if len(micro_batches) == 1:  # otherwise its graph would be kept for all micro-batches: computed in each update
            with self._autocast():
                shared = self.stage.forward(batch)
        losses: dict[str, float] = {}
        for update in self.stage.updates(step):
            losses |= self._update(update, step, micro_batches, shared)
        if self.average:
            self.average.update(self.stage.exported, step)
        return losses

    def _update(self, update: str, step: int, micro_batches: Sequence[Batch], shared: Any) -> dict[str, float]:
        """Move one optimizer by the gradient of its loss over the whole batch."""
        optimizer = self.stage.optimizers[update]
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        for group in optimizer.param_groups:
            group["lr"] = self.stage.learning_rate(step) * group.get("rate", 1.0)
        optimizer.zero_grad(set_to_none=True)
        sums: dict[str, Tensor] = {}
        with self._only(update):
            for batch in micro_batches:
                share = len(batch) / self.options.batch_size
                with self._autocast():
                    output = self.stage.forward(batch) if shared is None else shared
                    losses = self.stage.losses(update, batch, output, step)
                (losses["total"] * share).backward()
                for name, loss in losses.items():
                    sums[name] = sums.get(name, 0.0) + loss.detach().float() * share
        self.processes.sum_gradients(parameters)
        values = self.processes.sum(torch.stack(list(sums.values()))).tolist()
        named = {f"{update}/{name}": value for name, value in zip(sums, values, strict=True)}
        if self.options.grad_clip:
            named[f"{update}/gradient_norm"] = float(nn.utils.clip_grad_norm_(parameters, self.options.grad_clip))
        self._must_be_finite(step, named)
        optimizer.step()
        return named

    @contextlib.contextmanager
    def _only(self, update: str) -> Iterator[None]:
        """Other optimizers' parameters need no gradients meanwhile."""
        others = [
            parameter
            for name, optimizer in self.stage.optimizers.items()
            for group in optimizer.param_groups
            for parameter in group["params"]
            if name != update and parameter.requires_grad
        ]
        for parameter in others:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in others:
                parameter.requires_grad_(True)

    def _autocast(self) -> torch.autocast:
        enabled = self.options.precision == "bfloat16"
        return torch.autocast(self.processes.device.type, torch.bfloat16, enabled=enabled)

    def _must_be_finite(self, step: int, losses: Mapping[str, float]) -> None:
        bad = [f"{name} = {value}" for name, value in losses.items() if not math.isfinite(value)]
        if bad:
            utterances = ", ".join(item.utt_id for item in self.batches.draw(step))
            raise BowerbirdError(
                f"step {step}: {', '.join(bad)}: not finite; no model was written. The batch: {utterances}. Look at "
                "the features and audio of these utterances, or lower the learning rate"
            )

    # ----------------------------------------------------------------------------------------------------- validation
    @torch.no_grad()
    def _validate(self, step: int) -> None:
        """Mean metrics over the validation utterances, with the weights that would be the result."""
        if not self.validation:
            return
        totals: dict[str, list[float]] = {}
        for module in self.stage.modules.values():
            module.eval()
        with self.average.applied(self.stage.exported) if self.average else contextlib.nullcontext():
            for number, batch in enumerate(self.validation):
                with self._autocast():
                    metrics, wave = self.stage.validate(batch.to(self.processes.device))
                for name, value in metrics.items():
                    totals.setdefault(name, []).append(float(value))
                if wave is not None and number < self.settings.audio_samples:
                    self.journal.audio(f"{batch.utt_ids[0]}/generated", wave, step, SAMPLE_RATE)
        self.journal.validation(step, {name: math.fsum(v) / len(v) for name, v in totals.items()})

    # ---------------------------------------------------------------------------------------------------- checkpoints
    def _save(self) -> None:
        if self.processes.is_first:
            tensors = {
                f"modules/{name}/{key}": tensor
                for name, module in self.stage.modules.items()
                for key, tensor in module.state_dict().items()
            }
            for name, optimizer in self.stage.optimizers.items():
                tensors |= {f"optimizers/{name}/{key}": t for key, t in optimizer_tensors(optimizer).items()}
            if self.average:
                tensors |= {f"average/{key}": tensor for key, tensor in self.average.weights.items()}
            self.checkpoints.save(Checkpoint(self.finished_step, tensors, self.journal.state()))
        self.processes.wait()

    def _resume(self) -> None:
        """Take up the last sound checkpoint, if there is one."""
        checkpoint = self.checkpoints.latest(self.options.steps)
        if checkpoint:
            for name, module in self.stage.modules.items():
                module.load_state_dict(_below(checkpoint.tensors, f"modules/{name}/"))
            for name, optimizer in self.stage.optimizers.items():
                restore_optimizer(optimizer, _below(checkpoint.tensors, f"optimizers/{name}/"))
            if self.average:
                self.average.load(_below(checkpoint.tensors, "average/"))
            self.finished_step = checkpoint.step
            logger.info("going on after step %d of %d", checkpoint.step, self.options.steps)
        if self.processes.is_first:
            state = checkpoint.state if checkpoint else {"lines": [], "window": []}
            self.journal.open(self.finished_step, **state)
            for batch in self.validation[: self.settings.audio_samples]:
                if batch.audio is not None and not checkpoint:
                    self.journal.audio(f"{batch.utt_ids[0]}/recorded", batch.audio[0], 0, SAMPLE_RATE)

    def result(self) -> dict[str, Tensor]:
        """The trained weights: averaged ones where asked; an error if one is not finite."""
        weights = dict(self.stage.exported.state_dict())
        if self.average:
            weights |= self.average.weights
        for name, tensor in weights.items():
            if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                raise BowerbirdError(f"step {self.finished_step}: weight {name}: not finite; no model was written")
        return {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}


class WeightAverage:
    """Exponential moving average of a module's parameters (EMA); early steps are averaged over fewer."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, parameter in module.named_parameters():
            self.weights[name].lerp_(parameter, 1 - decay)

    def load(self, weights: Mapping[str, Tensor]) -> None:
        for name, tensor in weights.items():
            self.weights[name].copy_(tensor)

    @contextlib.contextmanager
    def applied(self, module: nn.Module) -> Iterator[None]:
        """The module with averaged weights."""
        own = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
        module.load_state_dict(self.weights, strict=False)
        try:
            yield
        finally:
            module.load_state_dict(own, strict=False)


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
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
