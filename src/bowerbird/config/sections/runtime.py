"""Section `runtime`: how things run on this machine."""

from __future__ import annotations

from pydantic import Field

from bowerbird.config.base import Section


class RuntimeConfig(Section):
    """How things run here. Nothing in this section changes the bytes of an artifact, so changing it causes no rerun."""

    device: str = Field("auto", description="auto, cpu, cuda, cuda:1 ...; auto takes a GPU where there is one")
    threads: int = Field(1, ge=1, description="CPU threads per job")
    batch_s: float = Field(60.0, gt=0, description="audio in one batch of feature extraction, seconds")
    workers: int = Field(0, ge=0, description="batch-loading processes of training; 0: none")
    gpus: int = Field(1, ge=0, description="GPUs of a training job; above 1 it runs under torchrun")
