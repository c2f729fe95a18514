"""Options of Palindromic VC."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

import pydantic
from pydantic import Field

from bowerbird.config.base import AdamWStage, GanStage, Variant
from bowerbird.config.systems.base import ExperimentBase, Inputs, Kind
from bowerbird.config.systems.vocoder import start_reference, vocoder_reference


def check_prompt_range(stage: str, shortest: float, longest: float) -> None:
    """Refuse a longest prompt that is shorter than the shortest one, both in seconds."""
    if longest < shortest:
        raise ValueError(f"{stage}.prompt_max_s: {longest:g}: shorter than prompt_min_s = {shortest:g}")


class ConverterStage(AdamWStage):
    """Palindromic VC, stage 2: the Transformer that learns the way back from retrieved features to the target's own."""

    steps: int = Field(200_000, ge=1, description="optimizer steps; a raised number resumes from the last checkpoint")
    layers: int = Field(6, ge=1, description="of the Transformer")
    heads: int = Field(16, ge=1, description="of attention")
    width: int = Field(1024, ge=8, description="of the Transformer; 1024 with 6 layers: 77 M parameters")
    feedforward: int = Field(4096, ge=8, description="width of the feed-forward layers")
    dropout: float = Field(0.1, ge=0, lt=1, description="after attention and in the feed-forward layers")
    conditioning: Literal["concat", "cross_attention"] = Field(
        "concat",
        description="concat: prompt and input are one sequence; cross_attention: the input attends to the prompt",
    )
    segment_frames: int = Field(150, ge=4, description="frames of a training crop (20 ms each)")
    prompt_min_s: float = Field(3.0, gt=0, description="shortest prompt; lengths are uniform")
    prompt_max_s: float = Field(10.0, gt=0, description="longest prompt")
    feature_weight: float = Field(1.0, ge=0, description="of the L1 loss on features")
    speaker_weight: float = Field(0.1, ge=0, description="of the speaker loss on the converted wave (lambda_spk)")
    hidden_weight: float = Field(1.0, ge=0, description="of the L1 of hidden maps inside the speaker loss (lambda_hid)")
    speaker_from: int = Field(10_000, ge=0, description="step at which the speaker loss joins")
    speaker_warmup: int = Field(10_000, ge=0, description="steps over which its weight rises to speaker_weight")
    speaker_encoder: str = Field(
        "ge2e",
        description="ge2e: the weights inside the resemblyzer package; or a folder or hub id with ECAPA-TDNN weights "
        "in speechbrain's format (speechbrain/spkrec-ecapa-voxceleb)",
    )
    lr_warmup: int = Field(2000, ge=0, description="steps of linear rise")

    @pydantic.model_validator(mode="after")
    def _fits(self) -> ConverterStage:
        check_prompt_range("converter", self.prompt_min_s, self.prompt_max_s)
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
    steps: int = Field(500_000, ge=1, description="optimizer steps; a raised number resumes from the last checkpoint")
    prompt_min_s: float = Field(3.0, gt=0, description="shortest prompt the converter gets; lengths are uniform")
    prompt_max_s: float = Field(10.0, gt=0, description="longest prompt")
    context_frames: int = Field(
        150, ge=4, description="frames that the frozen converter sees around the crop the vocoder learns on"
    )

    @pydantic.model_validator(mode="after")
    def _fits(self) -> RevocoderStage:
        check_prompt_range("revocoder", self.prompt_min_s, self.prompt_max_s)
        if self.context_frames < self.segment_frames:
            raise ValueError(
                f"revocoder.context_frames: {self.context_frames}: less than segment_frames = {self.segment_frames}"
            )
        return self


class PalindromicExperiment(ExperimentBase):
    """Palindromic VC: trained on pairs that kNN retrieval makes, converts without retrieval."""

    SIZES: ClassVar[Mapping[str, Any]] = {
        "paper": {"converter": {"speaker_encoder": "speechbrain/spkrec-ecapa-voxceleb"}},
        "nano": {
            "prompt_s": 10.0,
            "converter": {
                "start_from": "bundled:nano-converter",
                "layers": 3,
                "heads": 4,
                "width": 192,
                "feedforward": 512,
                "segment_frames": 100,
                "prompt_min_s": 1.0,
                "prompt_max_s": 4.0,
                "steps": 40,
                "batch_size": 8,
                "learning_rate": 1.0e-4,
                "lr_warmup": 10,
                "speaker_from": 25,  # with the speaker loss a step costs ten times as much: it joins last
                "speaker_warmup": 5,
                "speaker_weight": 0.1,
            },
            "revocoder": {
                "generator": "sourcefilter-nano",
                "start_from": "bundled:nano-vocoder",
                "context_frames": 100,
                "segment_frames": 32,
                "prompt_min_s": 1.0,
                "prompt_max_s": 4.0,
                "steps": 60,
                "batch_size": 8,
                "learning_rate": 1.0e-4,
                "adversarial_from": 1_000_000,
            },
        },
    }
    REFERENCES: ClassVar = frozenset({"features", "pairs", "vocoder"})

    system: Literal["palindromic"] = "palindromic"
    features: str = Field("nano", description="name in `features`")
    pairs: str = Field("knn4", description="name in `pairs`: the synthetic inputs")
    vocoder: str = Field(
        "vocoder", description="stage 1: experiment that trains the vocoder, bundled:NAME, or a model folder"
    )
    prompt_s: float = Field(
        0.0, ge=0, description="seconds of the target's speech that prompt a conversion; 0: all that the trial gives"
    )
    window_s: float = Field(
        0.0,
        ge=0,
        description="longer sources are converted in overlapping windows of this length; 0: of the crops that stage 2 trained on",
    )
    synthesis: Literal["stage3", "stage1"] = Field(
        "stage3", description="stage3: the vocoder of converted features; stage1: the one of real features"
    )
    converter: ConverterStage = Field(default_factory=ConverterStage, description="stage 2")
    revocoder: RevocoderStage = Field(default_factory=RevocoderStage, description="stage 3")

    @property
    def stages(self) -> tuple[str, ...]:
        """Training stages in order."""
        return ("converter", "revocoder")

    def training_inputs(self, stage: str) -> Inputs:
        """Pairs and the speech they come from; stage 2 learns through the vocoder, stage 3 behind the converter."""
        inputs: Inputs = {
            "features": Variant("features", self.features),
            "audio": Variant("audio"),
            "pairs": Variant("pairs", self.pairs),
        }
        if stage == "converter":
            inputs["vocoder"] = vocoder_reference(self.vocoder)
        else:
            inputs["converter"] = self.model("converter")
        return inputs | start_reference(self.stage_options(stage), stage)

    def conversion_inputs(self) -> Inputs:
        """Features of source and prompt, the converter, and the vocoder of the stage that `synthesis` names."""
        inputs: Inputs = {"features": Variant("features", self.features), "converter": self.model("converter")}
        if self.synthesis == "stage1":
            return inputs | {"vocoder": vocoder_reference(self.vocoder)}
        return inputs | {"revocoder": self.model("revocoder")}

    def external_models(self) -> Iterator[tuple[str, str]]:
        """The verifier of the speaker loss may come from a hub."""
        if self.converter.speaker_weight:
            yield "converter.speaker_encoder", self.converter.speaker_encoder

    def kind(self, pair_methods: Mapping[str, str]) -> Kind:
        """Trained on pairs that are not the nearest frames, it is a control."""
        return "control" if pair_methods.get(self.pairs, "nearest") != "nearest" else "system"

    def title(self, pair_methods: Mapping[str, str]) -> str:
        """The paper; of a control, what its pairs are made of."""
        method = pair_methods.get(self.pairs, "nearest")
        return super().title(pair_methods) + (f", on pairs of {method} frames" if method != "nearest" else "")

    def verifiers(self) -> Iterator[tuple[str, str]]:
        """The verifier of the speaker loss."""
        if self.converter.speaker_weight:
            yield self.converter.speaker_encoder, "trained with its speaker loss"
