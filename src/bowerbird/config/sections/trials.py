"""Section `trials`: what is converted to which voice."""

from __future__ import annotations

from typing import Literal

import pydantic
from pydantic import Field

from bowerbird.config.base import Section


class TrialsConfig(Section):
    """Which source is converted to which target, and what a system may use of the target's speech."""

    split: Literal["train", "valid", "test", "seen"] = Field(
        "test",
        description="speakers come from this split; seen: training speakers, by what corpus.seen_utterances kept",
    )
    sources_per_speaker: int = Field(4, ge=1, description="source utterances of each speaker")
    targets_per_source: int = Field(2, ge=1, description="target speakers of each source utterance")
    reference_s: float = Field(10.0, gt=0, description="speech of the target that a system hears, seconds; cut exactly")
    conditions: list[float] = Field(
        default_factory=list,
        description="several amounts of the target's speech, seconds, cut exactly: each trial once for each, the longer "
        "containing the shorter (3 10 30 60); empty: reference_s alone",
    )
    pools: Literal["utterance", "session"] = Field(
        "utterance",
        description="session: the references that a system uses and the held-out utterance that it is compared with are of "
        "different sessions (chapters)",
    )
    cross_gender: Literal["any", "same", "cross"] = Field(
        "any", description="gender of the target relative to the source"
    )
    cross_language: Literal["any", "same", "other"] = Field(
        "any", description="language of the target relative to the source"
    )
    file: str = Field(
        "", description="a published list of trials to take instead of drawing one; the split is then all"
    )
    file_format: Literal["freevc", "linearvc", "seed-tts-eval", "versa"] = Field(
        "freevc", description="of that list: title|src|tgt, LinearVC's CSV, meta.lst, or a folder of scp files"
    )
    seed: int = Field(0, ge=0, description="of the choice of sources and targets")

    @pydantic.field_validator("conditions")
    @classmethod
    def _conditions_are_seconds(cls, conditions: list[float]) -> list[float]:
        if any(seconds <= 0 for seconds in conditions) or len(set(conditions)) < len(conditions):
            raise ValueError(f"trials.conditions: {conditions}: must be different numbers of seconds above 0")
        return sorted(conditions)
