"""Section `training`: checkpoints and logs."""

from __future__ import annotations

from pydantic import Field

from bowerbird.config.base import Section


class TrainingConfig(Section):
    """Checkpoints and logs of trainings; none of it changes the weights."""

    checkpoint_every: int = Field(500, ge=1, description="steps between checkpoints")
    keep_checkpoints: int = Field(2, ge=1, description="checkpoints kept")
    log_every: int = Field(20, ge=1, description="steps between lines of metrics")
    audio_samples: int = Field(2, ge=0, description="validation utterances written to TensorBoard as audio")
