"""Options of kNN-VC."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from bowerbird.config.base import Variant
from bowerbird.config.systems.base import ExperimentBase, Inputs, Kind
from bowerbird.config.systems.vocoder import vocoder_reference


class KnnvcExperiment(ExperimentBase):
    """kNN-VC (Baas et al. 2023): every source frame is replaced by the mean of its k nearest target frames."""

    REFERENCES: ClassVar = frozenset({"features", "vocoder"})

    system: Literal["knnvc"] = "knnvc"
    features: str = Field("nano", description="name in `features`")
    vocoder: str = Field("vocoder", description="experiment that trains the vocoder, bundled:NAME, or a model folder")
    k: int = Field(4, ge=1, description="neighbors averaged")
    retrieval: Literal["nearest", "random"] = Field(
        "nearest", description="random: the control that ignores the source's content"
    )

    def conversion_inputs(self) -> Inputs:
        """Features of source and references, and the vocoder."""
        return {"features": Variant("features", self.features), "vocoder": vocoder_reference(self.vocoder)}

    def kind(self, pair_methods: Mapping[str, str]) -> Kind:
        """Random retrieval is a control."""
        return "control" if self.retrieval == "random" else "system"

    def title(self, pair_methods: Mapping[str, str]) -> str:
        """The paper, or what the control does."""
        return super().title(pair_methods) + (", random retrieval" if self.retrieval == "random" else "")
