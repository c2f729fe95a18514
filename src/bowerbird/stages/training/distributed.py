"""One process or several (``torchrun``): the same mathematics.

Gradients and losses are summed over processes explicitly, each process's share weighted by its part of the batch. There
is no wrapper around the modules, so a stage with several optimizers needs no special care.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from bowerbird.nn.device import pick_device


@dataclass(frozen=True)
class Processes:
    """This process among those that train together."""

    rank: int
    count: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and logs."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum of ``tensor`` ``(...)`` over processes, in place."""
        if self.count > 1:
            dist.all_reduce(tensor)
        return tensor

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Sum the gradients of ``parameters`` over processes, in one message."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        if self.count == 1 or not gradients:
            return
        flat = self.sum(torch.cat([g.reshape(-1) for g in gradients]))
        for gradient, total in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(total.view_as(gradient))

    def any(self, flag: bool) -> bool:
        """Whether ``flag`` is set in some process."""
        if self.count == 1:
            return flag
        return bool(self.sum(torch.tensor(float(flag), device=self.device)).item())

    def wait(self) -> None:
        """Return when every process has called this (a barrier)."""
        if self.count > 1:
            dist.barrier()


@contextlib.contextmanager
def join(device: str) -> Iterator[Processes]:
    """This process among those that ``torchrun`` started (nccl on GPUs, gloo on the CPU), or alone."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    chosen = pick_device(device)
    if count == 1:
        yield Processes(0, 1, chosen)
        return
    if chosen.type == "cuda":
        chosen = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(chosen)
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield Processes(dist.get_rank(), count, chosen)
    finally:
        dist.destroy_process_group()
