"""Options of QR-VC."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import pydantic
from pydantic import Field

from bowerbird.config.base import GanStage, Variant
from bowerbird.config.systems.base import ExperimentBase, Inputs
from bowerbird.config.systems.vocoder import start_reference


class ResynthesisStage(GanStage):
    """QR-VC: disentangler and HiFi-GAN end to end."""

    generator: Literal["hifigan-1024", "vocos-nano", "sourcefilter-nano", "hifigan-nano"] = Field(
        "hifigan-1024",
        description="hifigan-1024: QR-VC's, for features of 1024 dimensions; the others train on two cores",
    )
    losses: Literal["qrvc"] = Field("qrvc", description="LSGAN + 2 feature matching + 20 mel")
    steps: int = Field(500_000, ge=1, description="optimizer steps; a raised number resumes from the last checkpoint")
    segment_frames: int = Field(28, ge=4, description="frames of the crop the generator learns on (20 ms each)")
    context_frames: int = Field(150, ge=4, description="frames around it, of which the residual's mean is the speaker")
    variation_dim: int = Field(8, ge=0, description="channels of speaking variation; 0: without compensation")
    assignment: Literal["cosine", "euclidean"] = Field("cosine", description="how a frame's centroid is looked up")

    @pydantic.model_validator(mode="after")
    def _crop_inside(self) -> ResynthesisStage:
        if self.context_frames < self.segment_frames:
            raise ValueError(
                f"resynthesis.context_frames: {self.context_frames}: less than segment_frames = {self.segment_frames}"
            )
        return self


class QrvcExperiment(ExperimentBase):
    """QR-VC: K-means content, and a quantization residual split linearly into speaker and speaking variation."""

    SIZES: ClassVar[Mapping[str, Any]] = {
        "nano": {
            "resynthesis": {
                "generator": "sourcefilter-nano",
                "start_from": "bundled:nano-qrvc",
                "context_frames": 100,
                "steps": 60,
                "batch_size": 8,
                "learning_rate": 1.0e-4,
                "adversarial_from": 1_000_000,
            }
        }
    }
    REFERENCES: ClassVar = frozenset({"features", "codebook"})

    system: Literal["qrvc"] = "qrvc"
    features: str = Field("nano", description="name in `features`; the paper's: WavLM-Large, layer 6")
    codebook: str = Field("k256", description="name in `codebook`, fitted on these features")
    resynthesis: ResynthesisStage = Field(default_factory=ResynthesisStage, description="the one training stage")

    @property
    def stages(self) -> tuple[str, ...]:
        """Training stages in order."""
        return ("resynthesis",)

    def training_inputs(self, stage: str) -> Inputs:
        """Features, the audio they stand for, and the codebook that quantizes them."""
        inputs: Inputs = {
            "features": Variant("features", self.features),
            "audio": Variant("audio"),
            "codebook": Variant("codebook", self.codebook),
        }
        return inputs | start_reference(self.stage_options(stage), stage)

    def conversion_inputs(self) -> Inputs:
        """Features of source and references, and the model, which holds its centroids."""
        return {"features": Variant("features", self.features), "resynthesis": self.model("resynthesis")}

    def codebook_name(self) -> str:
        """The codebook whose residual the system uses."""
        return self.codebook

    def bottleneck_stage(self) -> str:
        """The stage, unless it trains without compensation of speaking variation."""
        return "resynthesis" if self.resynthesis.variation_dim else ""
