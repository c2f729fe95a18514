"""Mean shift, ready to convert.

Letters: ``T`` frames of the source, ``R`` frames of the references, ``D`` feature dimension.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from bowerbird.systems.base import Conversion, System, Utterance, check_models, features_of
from bowerbird.systems.vocoder.synthesis import Vocoder, load_vocoder
from mean_shift.options import MeanShiftExperiment

SMALLEST_DEVIATION = 1.0e-5  # a dimension of the source that hardly changes is moved and not scaled up


def shift(source: Tensor, references: Tensor, match_deviation: bool) -> Tensor:
    """``source`` ``(T, D)`` with the mean, and on request the deviation, of each dimension of ``references`` ``(R, D)``."""
    centered = source - source.mean(dim=0)
    if match_deviation:
        deviation = source.std(dim=0, correction=0).clamp_min(SMALLEST_DEVIATION)
        centered = centered / deviation * references.std(dim=0, correction=0)
    return centered + references.mean(dim=0)


class MeanShift(System[MeanShiftExperiment]):
    """An affine map of each feature dimension, then a vocoder."""

    def __init__(self, vocoder: Vocoder, match_deviation: bool = True) -> None:
        self.vocoder, self.match_deviation = vocoder, match_deviation

    @classmethod
    def load(cls, experiment: MeanShiftExperiment, models: Mapping[str, Path], device: torch.device) -> Self:
        """The system with its vocoder on ``device``."""
        check_models(models, ("vocoder",), "mean shift")
        return cls(load_vocoder(models["vocoder"], device), experiment.match_deviation)

    def convert(
        self, source: Utterance, references: list[Utterance], trial: Mapping[str, Any] | None = None
    ) -> Conversion:
        """``source`` with the statistics of ``references``, vocoded; ``details`` holds the seconds of each step."""
        started = time.perf_counter()
        target = torch.cat([features_of(reference, "mean shift") for reference in references])  # (R, D)
        converted = shift(features_of(source, "mean shift"), target, self.match_deviation)  # (T, D)
        shifted = time.perf_counter()
        wave = self.vocoder.vocode(converted)
        seconds = {"shift": shifted - started, "vocoding": time.perf_counter() - shifted}
        return Conversion(wave, converted, {"seconds": seconds})


SYSTEM = MeanShift
