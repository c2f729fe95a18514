"""Palindromic VC, ready to convert."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch

from bowerbird.artifacts.models import read_model_config
from bowerbird.audio import FRAMES_PER_SECOND
from bowerbird.config.systems.palindromic import PalindromicExperiment
from bowerbird.systems.base import Conversion, System, Utterance, check_models, features_of
from bowerbird.systems.palindromic.network import Converter, convert_in_windows, load_converter
from bowerbird.systems.vocoder.synthesis import Vocoder, load_vocoder


class Palindromic(System[PalindromicExperiment]):
    """vocoder(T(S; A)): no retrieval."""

    def __init__(self, converter: Converter, vocoder: Vocoder, prompt_s: float, window: int) -> None:
        self.converter, self.vocoder, self.prompt_s, self.window = converter, vocoder, prompt_s, window

    @classmethod
    def load(cls, experiment: PalindromicExperiment, models: Mapping[str, Path], device: torch.device) -> Self:
        """The converter, and the vocoder of the stage that `synthesis` names."""
        role = "revocoder" if experiment.synthesis == "stage3" else "vocoder"
        check_models(models, ("converter", role), "Palindromic VC")
        converter = load_converter(models["converter"]).to(device)
        window = (
            round(experiment.window_s * FRAMES_PER_SECOND) or read_model_config(models["converter"])["segment_frames"]
        )
        return cls(converter, load_vocoder(models[role], device), experiment.prompt_s, window)

    def convert(
        self, source: Utterance, references: list[Utterance], trial: Mapping[str, Any] | None = None
    ) -> Conversion:
        """``source`` prompted by the first `prompt_s` seconds of ``references``, or by all of them."""
        started = time.perf_counter()
        features = features_of(source, "Palindromic VC")
        prompt = torch.cat([features_of(reference, "Palindromic VC") for reference in references])
        if self.prompt_s:
            prompt = prompt[: round(self.prompt_s * FRAMES_PER_SECOND)]
        converted = convert_in_windows(self.converter, features, prompt, self.window)
        done = time.perf_counter()
        wave = self.vocoder.vocode(converted)
        seconds = {"converter": done - started, "vocoding": time.perf_counter() - done}
        return Conversion(wave, converted, {"seconds": seconds, "heard_s": len(prompt) / FRAMES_PER_SECOND})


SYSTEM = Palindromic
