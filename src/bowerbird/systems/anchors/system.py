"""Anchors: bounds that are scored like a system, by the same code, on the same trials.

* ``ground-truth``: the source itself. What intelligibility, prosody and quality can reach; no conversion at all.
* ``heldout-target``: the target's held-out utterance. What similarity can reach; it says other words than the source.
* ``random-speaker``: an utterance of a third speaker. What similarity is by chance.

The anchor of the vocoder (copy synthesis of the source) is the system ``vocoder``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from bowerbird.config.systems.anchors import AnchorExperiment
from bowerbird.errors import BowerbirdError
from bowerbird.systems.base import Conversion, System, Utterance

# anchor -> column of the trials that names the utterance it plays
PLAYS = {"ground-truth": "source_utt", "heldout-target": "heldout_utt", "random-speaker": "random_speaker_utt"}


class Anchor(System):
    """Plays one utterance the trial names."""

    def __init__(self, anchor: str) -> None:
        self.column = PLAYS[anchor]

    @classmethod
    def load(cls, experiment: Any, models: Mapping[str, Path], device: torch.device) -> Anchor:
        return cls(experiment.anchor)

    def convert(
        self, source: Utterance, references: list[Utterance], trial: Mapping[str, Any] | None = None
    ) -> Conversion:
        """The utterance itself: it must be the source or among ``references``."""
        if trial is None:
            raise BowerbirdError("system: anchor: only makes sense for trials, which name the utterance it plays")
        for utterance in (source, *references):
            if utterance.utt_id == trial[self.column]:
                return Conversion(wave=utterance.wave, features=utterance.features, details={})
        raise BowerbirdError(f"{trial['trial_id']}: {self.column} {trial[self.column]!r} was not given to the anchor")


def played_utterance(experiment: AnchorExperiment, trial: Mapping[str, Any]) -> str:
    """Id of the utterance an anchor plays in ``trial``."""
    return str(trial[PLAYS[experiment.anchor]])


SYSTEM = Anchor
