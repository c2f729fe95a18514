"""An anchor: one utterance that the trial names, as it was recorded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch

from bowerbird.config.systems.anchors import AnchorExperiment
from bowerbird.errors import BowerbirdError
from bowerbird.systems.base import Conversion, System, Utterance


class Anchor(System[AnchorExperiment]):
    """Plays the utterance whose id stands in one column of the trial."""

    def __init__(self, column: str) -> None:
        self.column = column

    @classmethod
    def load(cls, experiment: AnchorExperiment, models: Mapping[str, Path], device: torch.device) -> Self:
        """The anchor; it needs no model."""
        return cls(experiment.spoken_column())

    def convert(
        self, source: Utterance, references: list[Utterance], trial: Mapping[str, Any] | None = None
    ) -> Conversion:
        """The utterance itself: it must be the source or among ``references``."""
        if trial is None:
            raise BowerbirdError("system: anchor: only makes sense for trials, which name the utterance it plays")
        for utterance in (source, *references):
            if utterance.utt_id == trial[self.column]:
                return Conversion(wave=utterance.wave, features=utterance.features)
        raise BowerbirdError(f"{trial['trial_id']}: {self.column} {trial[self.column]!r} was not given to the anchor")


SYSTEM = Anchor
