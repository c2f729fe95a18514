"""Options of Palindromic VC."""

from __future__ import annotations

from typing import ClassVar, Literal

import pydantic
from pydantic import Field

from bowerbird.config.base import GanStage, StageOptions
from bowerbird.config.systems.base import ExperimentBase


class ConverterStage(StageOptions):
    """Palindromic VC, stage 2: the Transformer that learns the way back from retrieved features to the target's own."""

    layers: int = Field(6, ge=1, description="of the Transformer")
    heads: int = Field(16, ge=1, description="of attention")
    width: int = Field(1024, ge=8, description="of the Transformer; 1024 with 6 layers: 77 M parameters")
    feedforward: int = Field(4096, ge=8, description="width of the feed-forward layers")
    dropout: float = Field(0.1, ge=0, lt=1, description="after attention and in the feed-forward layers")
    conditioning: Literal["concat", "cross_attention"] = Field(
        "concat",
        description="concat: prompt and input are one sequence; cross_attention: the input looks at the prompt",
    )
    segment_frames: int = Field(150, ge=4, description="frames of a training crop (20 ms each)")
    prompt_min_s: float = Field(3.0, gt=0, description="shortest prompt; lengths are uniform")
    prompt_max_s: float = Field(10.0, gt=0, description="longest prompt")
    feature_weight: float = Field(1.0, ge=0, description="of the L1 loss on features")
    speaker_weight: float = Field(0.1, ge=0, description="of the speaker loss on the converted wave (lambda_spk)")
    hidden_weight: float = Field(1.0, ge=0, description="of the L1 of hidden maps inside the speaker loss (lambda_hid)")
    speaker_from: int = Field(0, ge=0, description="step at which the speaker loss joins")
    speaker_warmup: int = Field(1000, ge=0, description="steps over which its weight rises to speaker_weight")
    speaker_encoder: str = Field(
        "ge2e",
        description="ge2e: the weights inside the resemblyzer package; or a folder or hub id with ECAPA-TDNN weights "
        "in speechbrain's format (speechbrain/spkrec-ecapa-voxceleb)",
    )
    learning_rate: float = Field(1.0e-4, gt=0, description="AdamW's highest")
    lr_warmup: int = Field(1000, ge=0, description="steps of linear rise")
    lr_decay: float = Field(0.999, gt=0, le=1, description="factor each `lr_decay_steps`")
    lr_decay_steps: int = Field(1000, ge=1, description="steps of one decay")
    beta1: float = Field(0.9, ge=0, lt=1, description="AdamW")
    beta2: float = Field(0.98, ge=0, lt=1, description="AdamW")
    weight_decay: float = Field(0.01, ge=0, description="AdamW")
    start_from: str = Field("", description="bundled:NAME or a model folder whose weights start the converter")

    @pydantic.model_validator(mode="after")
    def _prompt_range(self) -> ConverterStage:
        if self.prompt_max_s < self.prompt_min_s:
            raise ValueError(
                f"converter.prompt_max_s: {self.prompt_max_s:g}: shorter than prompt_min_s = {self.prompt_min_s:g}"
            )
        if self.width % (2 * self.heads):
            raise ValueError(f"converter.heads: {self.heads}: twice the heads must divide width = {self.width}")
        return self


class RevocoderStage(GanStage):
    """Palindromic VC, stage 3: a vocoder trained on what the converter makes of retrieved features."""

    generator: Literal["hifigan", "hifigan-nano", "vocos-nano", "sourcefilter-nano"] = Field(
        "hifigan", description="as in stage 1"
    )
    losses: Literal["knnvc", "palindromic"] = Field(
        "palindromic",
        description="palindromic: MR-STFT + LSGAN, as in stage 1; knnvc: 45 mel + feature matching + LSGAN",
    )
    prompt_min_s: float = Field(3.0, gt=0, description="shortest prompt the converter gets; lengths are uniform")
    prompt_max_s: float = Field(10.0, gt=0, description="longest prompt")
    context_frames: int = Field(
        150, ge=4, description="frames that the frozen converter sees around the crop the vocoder learns on"
    )

    @pydantic.model_validator(mode="after")
    def _crop_inside(self) -> RevocoderStage:
        if self.context_frames < self.segment_frames:
            raise ValueError(
                f"revocoder.context_frames: {self.context_frames}: less than segment_frames = {self.segment_frames}"
            )
        if self.prompt_max_s < self.prompt_min_s:
            raise ValueError(
                f"revocoder.prompt_max_s: {self.prompt_max_s:g}: shorter than prompt_min_s = {self.prompt_min_s:g}"
            )
        return self


class PalindromicExperiment(ExperimentBase):
    """Palindromic VC: trained on pairs that kNN retrieval makes, converts without retrieval."""

    stages: ClassVar = ("converter", "revocoder")
    trains_on: ClassVar = {
        "converter": ("features", "audio", "pairs", "vocoder"),
        "revocoder": ("features", "audio", "pairs", "stage:converter"),
    }
    converts_with: ClassVar = ("features", "vocoder")

    system: Literal["palindromic"] = "palindromic"
    features: str = Field("nano", description="name in `features`")
    pairs: str = Field("knn4", description="name in `pairs`: the synthetic inputs")
    vocoder: str = Field("vocoder", description="stage 1: experiment that trains the vocoder, or bundled:NAME")
    prompt_s: float = Field(10.0, gt=0, description="seconds of the target's speech that prompt a conversion")
    synthesis: Literal["stage3", "stage1"] = Field(
        "stage3", description="stage3: the vocoder of converted features; stage1: the one of real features"
    )
    converter: ConverterStage = Field(default_factory=ConverterStage, description="stage 2")
    revocoder: RevocoderStage = Field(default_factory=RevocoderStage, description="stage 3")
