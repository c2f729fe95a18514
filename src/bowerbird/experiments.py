"""What an experiment is, for every system: its options, its stages, and what each stage reads.

Torch-free on purpose: the workflow reads this at every start. The models behind these options are in
``bowerbird.systems``, one file a paper.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar, Literal

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


class VocoderStage(StageOptions):
    """Features to waveform: HiFi-GAN with the kNN-VC configuration, or a size for two cores."""

    generator: Literal["hifigan", "hifigan-nano", "vocos-nano", "sourcefilter-nano"] = Field(
        "hifigan", description="hifigan: kNN-VC's, 16.53 M parameters; the others train on two cores"
    )
    losses: Literal["knnvc", "palindromic"] = Field(
        "knnvc", description="knnvc: 45 mel + feature matching + LSGAN; palindromic: MR-STFT + LSGAN"
    )
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


class ExperimentBase(Section):
    """Options and structure common to all experiments."""

    stages: ClassVar[tuple[str, ...]] = ()  # training stages in order
    trains_on: ClassVar[dict[str, tuple[str, ...]]] = {}  # stage -> artifacts it reads
    converts_with: ClassVar[tuple[str, ...]] = ()  # what conversion reads besides manifest, audio and trials

    reuse: dict[str, str] = Field(
        default_factory=dict, description="stage -> experiment whose model is taken instead of training one"
    )


class VocoderExperiment(ExperimentBase):
    """The shared vocoder: features of one layer to 16 kHz speech. Its conversion is copy synthesis of the source."""

    stages: ClassVar = ("vocoder",)
    trains_on: ClassVar = {"vocoder": ("features", "audio", "pairs?")}
    converts_with: ClassVar = ("features",)

    system: Literal["vocoder"] = "vocoder"
    features: str = Field("nano", description="name in `features`")
    pairs: str = Field(
        "", description="prematched training: a variant of `pairs` with same_speaker: true; default: real features"
    )
    vocoder: VocoderStage = Field(default_factory=VocoderStage, description="training stage")


class KnnvcExperiment(ExperimentBase):
    """kNN-VC (Baas et al. 2023): every source frame is replaced by the mean of its k nearest target frames."""

    converts_with: ClassVar = ("features", "vocoder")

    system: Literal["knnvc"] = "knnvc"
    features: str = Field("nano", description="name in `features`")
    vocoder: str = Field("vocoder", description="experiment that trains the vocoder, or bundled:NAME")
    k: int = Field(4, ge=1, description="neighbours averaged")
    retrieval: Literal["nearest", "random"] = Field(
        "nearest", description="random: the control that ignores the source's content"
    )


class AnchorExperiment(ExperimentBase):
    """A bound that is scored like a system: what the best and the worst conversion would get."""

    converts_with: ClassVar = ()

    system: Literal["anchor"] = "anchor"
    anchor: Literal["ground-truth", "heldout-target", "random-speaker"] = Field(
        "ground-truth",
        description="the source itself; other speech of the target; speech of a third speaker",
    )


EXPERIMENT_MODELS: tuple[type[ExperimentBase], ...] = (VocoderExperiment, KnnvcExperiment, AnchorExperiment)
Experiment = Annotated[VocoderExperiment | KnnvcExperiment | AnchorExperiment, Field(discriminator="system")]


def stage_options(experiment: Any, stage: str) -> StageOptions:
    """The options of one training stage of an experiment."""
    return getattr(experiment, stage)


def stage_params(experiment: Any, stage: str) -> str:
    """What one training stage depends on, as one line of JSON: the system and the stage's own options."""
    return _one_line({"system": experiment.system, stage: stage_options(experiment, stage).model_dump()})


def conversion_params(experiment: Any) -> str:
    """What conversion depends on, as one line of JSON: the system and its options outside training stages.

    Names of variants (`features`, `vocoder` ...) are left out: what they name comes as input files.
    """
    names = {"features", "codebook", "pairs", "vocoder", "reuse", *experiment.stages}
    return _one_line({k: v for k, v in experiment.model_dump().items() if k not in names})


def _one_line(value: dict[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
