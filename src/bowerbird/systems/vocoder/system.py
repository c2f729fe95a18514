"""Copy synthesis."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch

from bowerbird.errors import BowerbirdError
from bowerbird.systems.base import Conversion, System, Utterance
from bowerbird.systems.vocoder.synthesis import Vocoder, load_vocoder


class VocoderSystem(System):
    """Copy synthesis: the source, resynthesised from its own features. The ceiling of every system on this vocoder."""

    def __init__(self, vocoder: Vocoder) -> None:
        self.vocoder = vocoder

    @classmethod
    def load(cls, experiment: Any, models: Mapping[str, Path], device: torch.device) -> Self:
        return cls(load_vocoder(models["vocoder"], device))

    def convert(
        self, source: Utterance, references: list[Utterance], trial: Mapping[str, Any] | None = None
    ) -> Conversion:
        """The source itself, through its features; ``references`` are not heard."""
        if source.features is None:
            raise BowerbirdError(f"{source.utt_id}: copy synthesis needs the source's features")
        return Conversion(wave=self.vocoder.vocode(source.features), features=source.features)


SYSTEM = VocoderSystem
