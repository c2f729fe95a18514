"""Options of QR-VC."""

from __future__ import annotations

from typing import ClassVar, Literal

import pydantic
from pydantic import Field

from bowerbird.config.base import GanStage
from bowerbird.config.systems.base import ExperimentBase


class ResynthesisStage(GanStage):
    """QR-VC: disentangler and HiFi-GAN end to end."""

    generator: Literal["hifigan-1024", "vocos-nano", "sourcefilter-nano", "hifigan-nano"] = Field(
        "hifigan-1024",
        description="hifigan-1024: QR-VC's, for features of 1024 dimensions; the others train on two cores",
    )
    losses: Literal["qrvc"] = Field("qrvc", description="LSGAN + 2 feature matching + 20 mel")
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

    stages: ClassVar = ("resynthesis",)
    trains_on: ClassVar = {"resynthesis": ("features", "audio", "codebook")}
    converts_with: ClassVar = ("features",)

    system: Literal["qrvc"] = "qrvc"
    features: str = Field("nano", description="name in `features`; the paper's: WavLM-Large, layer 6")
    codebook: str = Field("k256", description="name in `codebook`, fitted on these features")
    resynthesis: ResynthesisStage = Field(default_factory=ResynthesisStage, description="the one training stage")
