"""Options of kNN-VC."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from bowerbird.config.base import Variant
from bowerbird.config.sections.features import FeaturesConfig
from bowerbird.config.sections.search import SearchOptions
from bowerbird.config.systems.base import ExperimentBase, Inputs, Kind
from bowerbird.config.systems.vocoder import vocoder_reference


class KnnvcExperiment(ExperimentBase, SearchOptions):
    """kNN-VC (Baas et al. 2023): every source frame is replaced by the mean of its k nearest target frames."""

    SIZES: ClassVar[Mapping[str, Any]] = {
        "nano": {  # what features of encoder world want; measured in docs/nano.md
            "k": 8,
            "context": 1,
            "detail": 0.2,
            "keep": ["pitch", "energy", "aperiodicity"],
            "smoothing_ms": 10.0,
            "variance": 0.7,
        }
    }
    REFERENCES: ClassVar = frozenset({"features", "vocoder"})

    system: Literal["knnvc"] = "knnvc"
    features: str = Field("nano", description="name in `features`: what is retrieved, and what the vocoder reads")
    vocoder: str = Field("vocoder", description="experiment that trains the vocoder, bundled:NAME, or a model folder")
    k: int = Field(4, ge=1, description="neighbors averaged")
    retrieval: Literal["nearest", "random"] = Field(
        "nearest", description="random: the control that ignores the source's content"
    )
    detail: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the source's own movement that is added to what is retrieved: what a source frame differs in from "
        "the mean of its k nearest frames elsewhere in the source; it gives words back that averaging blurs, and some of "
        "the source's voice with them",
    )
    keep: list[Literal["pitch", "energy", "aperiodicity"]] = Field(
        [],
        description="only with features of encoder world: parameters that stay the source's; its pitch is moved to the target's "
        "mean of log F0",
    )
    smoothing_ms: float = Field(
        0.0,
        ge=0,
        le=200,
        description="only with features of encoder world: Hann window over time that envelopes are averaged by",
    )
    variance: float = Field(
        0.0,
        ge=0,
        le=1,
        description="only with features of encoder world: how far the spread over time of each value of the envelope, which "
        "averaging narrows, is brought back to the reference's; 1: all the way",
    )

    @property
    def needs_world(self) -> bool:
        """Whether an option asks for something that only WORLD's parameters have."""
        return bool(self.keep or self.smoothing_ms or self.variance)

    def conversion_inputs(self) -> Inputs:
        """Features of source and references, the keys they are searched by, and the vocoder."""
        keys: Inputs = {"search_keys": tuple(Variant("features", name) for name in self.search)} if self.search else {}
        return {"features": Variant("features", self.features), **keys, "vocoder": vocoder_reference(self.vocoder)}

    def check_features(self, features: Mapping[str, FeaturesConfig]) -> None:
        """Only WORLD's parameters have a pitch to keep and envelopes to smooth."""
        if self.needs_world and features[self.features].kind != "world":
            options = {"keep": self.keep, "smoothing_ms": self.smoothing_ms, "variance": self.variance}
            named = ", ".join(f"{name}: {value}" for name, value in options.items() if value)
            raise ValueError(f"{named}: only for features of encoder world, and {self.features!r} are of another")

    def key_weights(self) -> Mapping[str, float]:
        """What `search` says."""
        return self.search

    def kind(self, pair_methods: Mapping[str, str]) -> Kind:
        """Random retrieval is a control."""
        return "control" if self.retrieval == "random" else "system"

    def title(self, pair_methods: Mapping[str, str]) -> str:
        """The paper, whether it is more than the paper, and what the control does."""
        more = self.search or self.context or self.continuity or self.detail or self.needs_world
        extended = ", with keys and values" if more else ""
        return super().title(pair_methods) + extended + (", random retrieval" if self.retrieval == "random" else "")
