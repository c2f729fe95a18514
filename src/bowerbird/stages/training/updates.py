"""One step of training: the updates of a stage on one batch, the same mathematics however the batch is split."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bowerbird.stages.training.data import equal_parts
from bowerbird.stages.training.distributed import Processes
from bowerbird.systems.base import Batch, TrainingStage


class StageUpdater:
    """Moves the weights of one stage, step by step, and keeps their average where the options ask for one.

    Randomness inside a step (dropout, noise) starts from ``[seed, step, process]``, so there is no generator's state to
    save: what a step does depends on the weights, the optimizers' states and its number.
    """

    def __init__(self, stage: TrainingStage, processes: Processes) -> None:
        self.stage, self.options, self.processes = stage, stage.options, processes
        for module in stage.modules.values():
            module.to(processes.device)
        self.average = WeightAverage(stage.exported, self.options.ema) if self.options.ema else None

    def step(self, step: int, batch: Batch) -> dict[str, float]:
        """All updates of one step on this process's part of the batch; losses are means over all processes.

        A FloatingPointError says which losses are not finite; then no weight has moved by them.
        """
        seed = np.random.SeedSequence([self.options.seed, step, self.processes.rank]).generate_state(1)[0]
        torch.manual_seed(int(seed))
        micro_batches = [batch[rows] for rows in equal_parts(len(batch), self.options.accumulate)]
        for module in self.stage.modules.values():
            module.train(any(p.requires_grad for p in module.parameters()))
        shared = None
        if len(micro_batches) == 1:  # otherwise its graph would be kept for all micro-batches: computed in each update
            with self.autocast():
                shared = self.stage.forward(batch)
        losses: dict[str, float] = {}
        for update in self.stage.updates(step):
            losses |= self.update(update, step, micro_batches, shared)
        if self.average:
            self.average.update(self.stage.exported, step)
        return losses

    def update(self, update: str, step: int, micro_batches: Sequence[Batch], shared: Any) -> dict[str, float]:
        """Move one optimizer by the gradient of its loss over the whole batch; its losses by name.

        ``shared`` is what `TrainingStage.forward` made of the only micro-batch, None where there are several.
        """
        optimizer = self.stage.optimizers[update]
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        for group in optimizer.param_groups:
            group["lr"] = self.stage.learning_rate(step) * group.get("rate", 1.0)
        optimizer.zero_grad(set_to_none=True)
        sums: dict[str, Tensor] = {}
        with self._only(update):
            for batch in micro_batches:
                share = len(batch) / self.options.batch_size
                with self.autocast():
                    output = self.stage.forward(batch) if shared is None else shared
                    losses = self.stage.losses(update, batch, output, step)
                (losses["total"] * share).backward()
                for name, loss in losses.items():
                    sums[name] = loss.detach().float() * share + sums.get(name, 0.0)
        self.processes.sum_gradients(parameters)
        values = self.processes.sum(torch.stack(list(sums.values()))).tolist()
        named = {f"{update}/{name}": value for name, value in zip(sums, values, strict=True)}
        if self.options.grad_clip:
            named[f"{update}/gradient_norm"] = float(nn.utils.clip_grad_norm_(parameters, self.options.grad_clip))
        if bad := [f"{name} = {value}" for name, value in named.items() if not math.isfinite(value)]:
            raise FloatingPointError(", ".join(bad))
        optimizer.step()
        return named

    @contextlib.contextmanager
    def _only(self, update: str) -> Iterator[None]:
        """Meanwhile the parameters of other optimizers need no gradients."""
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

    def autocast(self) -> torch.autocast:
        """The precision of forward passes."""
        enabled = self.options.precision == "bfloat16"
        return torch.autocast(self.processes.device.type, torch.bfloat16, enabled=enabled)

    def averaged(self) -> contextlib.AbstractContextManager[None]:
        """Meanwhile the stage has the weights that would be the result: averaged ones, where they are kept."""
        return self.average.applied(self.stage.exported) if self.average else contextlib.nullcontext()

    def result(self) -> dict[str, Tensor]:
        """The weights that are the result, on the CPU. A FloatingPointError names one that is not finite."""
        weights = dict(self.stage.exported.state_dict())
        if self.average:
            weights |= self.average.weights
        for name, tensor in weights.items():
            if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                raise FloatingPointError(f"weight {name}")
        return {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}


class WeightAverage:
    """Exponential moving average of a module's parameters (EMA); early steps are averaged over fewer."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Take in the module's parameters after ``step``."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, parameter in module.named_parameters():
            self.weights[name].lerp_(parameter, 1 - decay)

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Put back averages by the names of the parameters."""
        for name, tensor in weights.items():
            self.weights[name].copy_(tensor)

    @contextlib.contextmanager
    def applied(self, module: nn.Module) -> Iterator[None]:
        """Meanwhile the module has averaged weights."""
        own = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
        module.load_state_dict(self.weights, strict=False)
        try:
            yield
        finally:
            module.load_state_dict(own, strict=False)
