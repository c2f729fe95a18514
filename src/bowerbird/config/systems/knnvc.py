"""Options of kNN-VC."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from bowerbird.config.systems.base import ExperimentBase


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
