"""What every group of options is made of."""

from __future__ import annotations

from typing import Literal

import pydantic
from pydantic import Field


class Section(pydantic.BaseModel):
    """A frozen group of options; unknown keys are errors."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", validate_default=True)


class StageOptions(Section):
    """What every training stage has."""

    steps: int = Field(1000, ge=1, description="optimizer steps; raising it goes on from the last checkpoint")
    batch_size: int = Field(16, ge=1, description="items a step, over all GPUs")
    accumulate: int = Field(1, ge=1, description="micro-batches a step; batch_size is their sum")
    precision: Literal["float32", "bfloat16"] = Field("float32", description="of the forward pass")
    ema: float = Field(0.0, ge=0, lt=1, description="decay of the averaged weights; 0: none")
    grad_clip: float = Field(0.0, ge=0, description="largest gradient norm; 0: no clipping")
    valid_every: int = Field(200, ge=1, description="steps between validations")
    seed: int = Field(0, ge=0, description="of the start, the order of batches and their crops")


class GanStage(StageOptions):
    """A generator of waveforms against discriminators: what vocoders have in common."""

    generator: str
    losses: str
    adversarial_weight: float = Field(1.0, ge=0, description="of the generator's LSGAN loss (lambda)")
    adversarial_from: int = Field(
        0, ge=0, description="step at which the discriminators join; before it, reconstruction only"
    )
    segment_frames: int = Field(24, ge=4, description="frames of a training crop (20 ms each)")
    learning_rate: float = Field(2.0e-4, gt=0, description="of both AdamW optimizers")
    beta1: float = Field(0.8, ge=0, lt=1, description="AdamW")
    beta2: float = Field(0.99, ge=0, lt=1, description="AdamW")
    weight_decay: float = Field(0.01, ge=0, description="AdamW")
    lr_decay: float = Field(0.999, gt=0, le=1, description="factor each `lr_decay_steps`")
    lr_decay_steps: int = Field(1000, ge=1, description="steps of one decay")
    start_from: str = Field("", description="bundled:NAME or a model folder whose weights start the generator")
