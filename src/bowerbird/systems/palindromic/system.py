"""Palindromic VC, ready to convert."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch

from bowerbird.errors import BowerbirdError
from bowerbird.systems.base import Conversion, System, Utterance
from bowerbird.systems.palindromic.network import FRAMES_PER_SECOND, Converter, load_converter
from bowerbird.systems.vocoder.synthesis import Vocoder, load_vocoder


class Palindromic(System):
    """vocoder(T(S; A)): no retrieval."""

    def __init__(self, converter: Converter, vocoder: Vocoder, prompt_s: float) -> None:
        self.converter, self.vocoder, self.prompt_s = converter, vocoder, prompt_s

    @classmethod
    def load(cls, experiment: Any, models: Mapping[str, Path], device: torch.device) -> Self:
        role = "revocoder" if experiment.synthesis == "stage3" else "vocoder"
        for needed in ("converter", role):
            if needed not in models:
                raise BowerbirdError(f"--models: Palindromic VC needs {needed}=FOLDER")
        return cls(
            load_converter(models["converter"]).to(device), load_vocoder(models[role], device), experiment.prompt_s
        )

    def convert(
        self, source: Utterance, references: list[Utterance], trial: Mapping[str, Any] | None = None
    ) -> Conversion:
        """``source`` prompted by the first `prompt_s` seconds of ``references``; ``details`` say how much there was."""
        started = time.perf_counter()
        for utterance in (source, *references):
            if utterance.features is None or not len(utterance.features):
                raise BowerbirdError(f"{utterance.utt_id}: has no features; Palindromic VC needs them")
        prompt = torch.cat([reference.features for reference in references]).float()
        prompt = prompt[: round(self.prompt_s * FRAMES_PER_SECOND)]
        frames = torch.tensor([len(prompt)], device=prompt.device)
        converted = self.converter(source.features.float()[None], prompt[None], frames)[0]
        done = time.perf_counter()
        wave = self.vocoder.vocode(converted)
        seconds = {"converter": done - started, "vocoding": time.perf_counter() - done}
        return Conversion(wave, converted, {"seconds": seconds, "prompt_s": len(prompt) / FRAMES_PER_SECOND})


SYSTEM = Palindromic
