"""Options of mean shift."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from bowerbird.config.base import Variant
from bowerbird.config.systems.base import ExperimentBase, Inputs
from bowerbird.config.systems.vocoder import vocoder_reference


class MeanShiftExperiment(ExperimentBase):
    """Mean shift: each feature dimension of the source gets the mean and the deviation of the references."""

    REFERENCES: ClassVar = frozenset({"features", "vocoder"})

    system: Literal["mean-shift"] = "mean-shift"
    version: int = Field(1, ge=1, description="of this system's code: raised when the same trial gives other samples")
    features: str = Field("nano", description="name in `features`")
    vocoder: str = Field("vocoder", description="experiment that trains the vocoder, bundled:NAME, or a model folder")
    match_deviation: bool = Field(True, description="false: only the means are moved (ablation)")

    def conversion_inputs(self) -> Inputs:
        """Features of source and references, and the vocoder."""
        return {"features": Variant("features", self.features), "vocoder": vocoder_reference(self.vocoder)}
