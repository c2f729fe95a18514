"""Options of the vocoder that predicts WORLD's parameters, and of copy synthesis by it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from bowerbird.config.base import AdamWStage, Variant
from bowerbird.config.sections.features import FeaturesConfig
from bowerbird.config.systems.base import ExperimentBase, Inputs, Kind
from bowerbird.config.systems.vocoder import start_reference


class WorldStage(AdamWStage):
    """The regression from features to WORLD's parameters."""

    steps: int = Field(2400, ge=1, description="optimizer steps; a raised number resumes from the last checkpoint")
    segment_frames: int = Field(100, ge=4, description="frames of a training crop (20 ms each)")
    learning_rate: float = Field(8.0e-4, gt=0, description="AdamW's highest learning rate")
    lr_warmup: int = Field(100, ge=0, description="steps of linear rise")
    lr_decay: float = Field(0.9, gt=0, le=1, description="factor per `lr_decay_steps`")
    lr_decay_steps: int = Field(250, ge=1, description="steps of one decay")
    ema: float = Field(0.995, ge=0, lt=1, description="decay of the averaged weights; 0: none")
    grad_clip: float = Field(1.0, ge=0, description="largest gradient norm; 0: no clipping")
    valid_every: int = Field(400, ge=1, description="steps between validations")
    envelope_weight: float = Field(4.0, ge=0, description="of the L1 of envelopes, in deviations of each value")


class WorldExperiment(ExperimentBase):
    """WORLD behind a small network: features to its parameters, then 16 kHz speech. Its conversion is copy synthesis."""

    REFERENCES: ClassVar = frozenset({"features", "world", "pairs"})

    system: Literal["world"] = "world"
    features: str = Field("mel", description="name in `features`: what the network reads")
    world: str = Field("world", description="name in `features`, of encoder world: what it learns to predict")
    pairs: str = Field(
        "", description="prematched training: a variant of `pairs` with same_speaker: true; default: real features"
    )
    vocoder: WorldStage = Field(default_factory=WorldStage, description="training stage")

    @property
    def stages(self) -> tuple[str, ...]:
        """Training stages in order."""
        return ("vocoder",)

    def training_inputs(self, stage: str) -> Inputs:
        """Features and the parameters they stand for; prematched features, where pairs are named."""
        inputs: Inputs = {"features": Variant("features", self.features), "world": Variant("features", self.world)}
        pairs: Inputs = {"pairs": Variant("pairs", self.pairs)} if self.pairs else {}
        return inputs | pairs | start_reference(self.stage_options(stage), stage)

    def conversion_inputs(self) -> Inputs:
        """The source's features, and the vocoder itself."""
        return {"features": Variant("features", self.features), "vocoder": self.model("vocoder")}

    def check_features(self, features: Mapping[str, FeaturesConfig]) -> None:
        """It learns to predict WORLD's parameters and nothing else."""
        if features[self.world].kind != "world":
            raise ValueError(
                f"world: {self.world!r}: must name features of encoder world, not {features[self.world].encoder}"
            )

    def kind(self, pair_methods: Mapping[str, str]) -> Kind:
        """An anchor: copy synthesis bounds every system on this vocoder."""
        return "anchor"

    def anchor_role(self) -> str:
        """The bound of every system on this vocoder."""
        return "vocoder"

    def title(self, pair_methods: Mapping[str, str]) -> str:
        """What the anchor plays."""
        return "the source through WORLD, whose parameters a network predicts: resynthesis"
