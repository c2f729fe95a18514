"""Options of anchors: bounds that are scored like a system."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from bowerbird.config.systems.base import ExperimentBase, Kind

# anchor -> (column of the trials that names the utterance it plays, what it is)
PLAYS = {
    "ground-truth": ("source_utt", "the source itself"),
    "heldout-target": ("heldout_utt", "other speech of the target"),
    "random-speaker": ("random_speaker_utt", "speech of a third speaker"),
}


class AnchorExperiment(ExperimentBase):
    """A bound that is scored like a system: what the best and the worst conversion would get."""

    system: Literal["anchor"] = "anchor"
    anchor: Literal["ground-truth", "heldout-target", "random-speaker"] = Field(
        "ground-truth",
        description="the source itself; other speech of the target; speech of a third speaker",
    )

    def kind(self, pair_methods: Mapping[str, str]) -> Kind:
        """An anchor."""
        return "anchor"

    def anchor_role(self) -> str:
        """The bound by its name."""
        return self.anchor

    def title(self, pair_methods: Mapping[str, str]) -> str:
        """What the anchor plays."""
        return PLAYS[self.anchor][1]

    def spoken_column(self) -> str:
        """Column of the trials that names the utterance it plays."""
        return PLAYS[self.anchor][0]

    def reference_utterances(self, trial: Mapping[str, Any]) -> list[str]:
        """The utterance that it plays."""
        return [str(trial[self.spoken_column()])]
