"""Options of anchors."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from bowerbird.config.systems.base import ExperimentBase


class AnchorExperiment(ExperimentBase):
    """A bound that is scored like a system: what the best and the worst conversion would get."""

    converts_with: ClassVar = ()

    system: Literal["anchor"] = "anchor"
    anchor: Literal["ground-truth", "heldout-target", "random-speaker"] = Field(
        "ground-truth",
        description="the source itself; other speech of the target; speech of a third speaker",
    )
