"""Stepback, ready to convert."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from bowerbird.encoders.speaker import embed_speakers
from bowerbird.errors import BowerbirdError
from bowerbird.nn.mel import LogMagnitude, LogMel, griffin_lim
from bowerbird.systems.base import Conversion, System, Utterance
from bowerbird.systems.stepback.corruption import corrupt
from bowerbird.systems.stepback.network import BINS, Autoencoder, Voices, load_autoencoder
from bowerbird.systems.vocoder.synthesis import Vocoder, load_vocoder


class Stepback(System):
    """vocoder(D(E(x), t)), t heard in the references or looked up in the table."""

    def __init__(
        self,
        autoencoder: Autoencoder,
        config: Mapping[str, Any],
        vocoder: Vocoder | None,
        damage: str = "none",
        level: float = 0.0,
    ) -> None:
        self.autoencoder, self.config, self.vocoder = autoencoder, config, vocoder
        self.damage, self.level = damage, level
        self.voices = Voices(config)

    @classmethod
    def load(cls, experiment: Any, models: Mapping[str, Path], device: torch.device) -> Self:
        drawn = experiment.synthesis == "griffin-lim"
        for needed in (experiment.checkpoint,) if drawn else (experiment.checkpoint, "vocoder"):
            if needed not in models:
                raise BowerbirdError(f"--models: Stepback needs {needed}=FOLDER")
        autoencoder, config = load_autoencoder(models[experiment.checkpoint])
        if drawn and config["feature_dim"] != BINS:
            raise BowerbirdError(
                f"synthesis: griffin-lim: needs features of {BINS} bins (encoder: log-magnitude), these have "
                f"{config['feature_dim']}; use a vocoder for mels"
            )
        vocoder = None if drawn else load_vocoder(models["vocoder"], device)
        if vocoder and vocoder.input_dim != config["feature_dim"]:
            raise BowerbirdError(
                f"--models: vocoder: it reads {vocoder.input_dim} dimensions, Stepback makes {config['feature_dim']}; name "
                "one that was trained on these features"
            )
        system = cls(autoencoder.to(device), config, vocoder, experiment.corruption, experiment.corruption_level)
        system.voices.to(device)
        return system

    def convert(
        self, source: Utterance, references: list[Utterance], trial: Mapping[str, Any] | None = None
    ) -> Conversion:
        """``source`` in the voice of ``references``; with a table, of the trial's target speaker, by name."""
        started = time.perf_counter()
        if source.features is None or not len(source.features):
            raise BowerbirdError(f"{source.utt_id}: has no features; Stepback needs them")
        x = source.features.float()
        if self.damage != "none":
            wave = torch.from_numpy(corrupt(source.wave.numpy(), self.damage, self.level))
            x = (LogMagnitude if x.shape[1] == BINS else LogMel)()(wave[None])[0, : len(x)].to(x.device)
        converted = self.autoencoder(x[None], self._voice(references, trial, x.device))[0]
        done = time.perf_counter()
        wave = self.vocoder.vocode(converted) if self.vocoder else griffin_lim(converted).cpu()
        return Conversion(
            wave, converted, {"seconds": {"stepback": done - started, "vocoding": time.perf_counter() - done}}
        )

    def _voice(self, references: list[Utterance], trial: Mapping[str, Any] | None, device: torch.device) -> Tensor:
        """The target ``(1, speaker_dim)``."""
        if self.voices.reference:
            heard = embed_speakers(self.voices.verifier, [r.wave.to(device) for r in references])
            return F.normalize(heard.mean(dim=0, keepdim=True), dim=1)
        name = str(trial["target_speaker"]) if trial else ""
        if name not in self.config["names"]:
            raise BowerbirdError(
                f"target speaker {name!r}: not among the {len(self.config['names'])} that this model learned; with "
                "preparation.speakers: table the trials must be of split train (trials.split); reference takes any voice"
            )
        return self.autoencoder.table(torch.tensor([self.config["names"].index(name)], device=device))


SYSTEM = Stepback
