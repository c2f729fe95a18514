"""Options that the training stages of several systems share, and those of the vocoder and the recogniser."""

from __future__ import annotations

from typing import Literal

import pydantic
from pydantic import Field


class Section(pydantic.BaseModel):
    """A frozen group of options; unknown keys are errors."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", validate_default=True)


class StageOptions(Section):
    """What every training stage has."""

    steps: int = Field(1000, ge=1, description="optimiser steps; raising it goes on from the last checkpoint")
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
    learning_rate: float = Field(2.0e-4, gt=0, description="of both AdamW optimisers")
    beta1: float = Field(0.8, ge=0, lt=1, description="AdamW")
    beta2: float = Field(0.99, ge=0, lt=1, description="AdamW")
    weight_decay: float = Field(0.01, ge=0, description="AdamW")
    lr_decay: float = Field(0.999, gt=0, le=1, description="factor each `lr_decay_steps`")
    lr_decay_steps: int = Field(1000, ge=1, description="steps of one decay")
    start_from: str = Field("", description="bundled:NAME or a model folder whose weights start the generator")


class VocoderStage(GanStage):
    """Features to waveform: HiFi-GAN with the kNN-VC configuration, or a size for two cores."""

    generator: Literal["hifigan", "bigvgan-base", "hifigan-nano", "vocos-nano", "sourcefilter-nano"] = Field(
        "hifigan",
        description="hifigan: kNN-VC's, 16.53 M parameters; bigvgan-base: for mels, 14 M; the others train on two cores",
    )
    losses: Literal["knnvc", "palindromic"] = Field(
        "knnvc", description="knnvc: 45 mel + feature matching + LSGAN; palindromic: MR-STFT + LSGAN"
    )


class PpgStage(StageOptions):
    """Takin-VC's recogniser: a Conformer of ours, with CTC on the corpus's transcripts; its results are features."""

    symbols: Literal["characters", "words"] = Field(
        "characters",
        description="what is recognised: characters of the transcripts; words: what spaces separate, where transcripts are phones",
    )
    layers: int = Field(12, ge=1, description="Conformer blocks")
    kernel: int = Field(31, ge=1, description="frames of the depthwise convolution; odd")
    width: int = Field(512, ge=8, description="of the blocks")
    heads: int = Field(8, ge=1, description="of attention")
    feedforward: int = Field(2048, ge=8, description="width of the feed-forward layers")
    channels: int = Field(128, ge=1, description="of the convolutions in front, which halve the rate of mels at 10 ms")
    dropout: float = Field(0.1, ge=0, lt=1, description="in all blocks")
    mask_bands: int = Field(27, ge=0, le=80, description="SpecAugment: most bands hidden, twice; 0: none")
    mask_time: float = Field(0.05, ge=0, le=1, description="SpecAugment: largest share of time hidden, ten times; 0: none")
    longest_s: float = Field(20.0, gt=0, description="longer utterances are left out, seconds")
    learning_rate: float = Field(5.0e-4, gt=0, description="AdamW's highest")
    lr_warmup: int = Field(10000, ge=0, description="steps of linear rise")
    lr_decay: float = Field(0.98, gt=0, le=1, description="factor each `lr_decay_steps`")
    lr_decay_steps: int = Field(1000, ge=1, description="steps of one decay")
    beta1: float = Field(0.9, ge=0, lt=1, description="AdamW")
    beta2: float = Field(0.98, ge=0, lt=1, description="AdamW")
    weight_decay: float = Field(0.01, ge=0, description="AdamW")
    grad_clip: float = Field(1.0, ge=0, description="largest gradient norm; 0: no clipping")

    @pydantic.model_validator(mode="after")
    def _fits(self) -> PpgStage:
        if self.kernel % 2 == 0:
            raise ValueError(f"ppg.kernel: {self.kernel}: must be odd")
        if self.width % (2 * self.heads):
            raise ValueError(f"ppg.heads: {self.heads}: twice the heads must divide width = {self.width}")
        return self
