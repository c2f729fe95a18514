"""Copy synthesis."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch

from bowerbird.config.systems.vocoder import VocoderExperiment
from bowerbird.systems.base import Conversion, System, Utterance, check_models, features_of
from bowerbird.systems.vocoder.synthesis import Vocoder, load_vocoder


class VocoderSystem(System[VocoderExperiment]):
    """Copy synthesis: the source from its own features. No system on this vocoder can do better."""

    def __init__(self, vocoder: Vocoder) -> None:
        self.vocoder = vocoder

    @classmethod
    def load(cls, experiment: VocoderExperiment, models: Mapping[str, Path], device: torch.device) -> Self:
        """The vocoder alone."""
        check_models(models, ("vocoder",), "copy synthesis")
        return cls(load_vocoder(models["vocoder"], device))

    def convert(
        self, source: Utterance, references: list[Utterance], trial: Mapping[str, Any] | None = None
    ) -> Conversion:
        """The source itself, through its features; ``references`` are not read."""
        features = features_of(source, "copy synthesis")
        return Conversion(wave=self.vocoder.vocode(features), features=features)


SYSTEM = VocoderSystem
