"""Stepback, ready to convert.

Letters: ``T`` frames, ``M`` bins of the spectrogram, ``E`` dimension of an embedding.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from bowerbird.config.systems.stepback import StepbackExperiment
from bowerbird.encoders.speaker import embed_speakers
from bowerbird.errors import BowerbirdError
from bowerbird.nn.mel import LogMagnitude, LogMel, griffin_lim
from bowerbird.systems.base import Conversion, System, Utterance, check_models, features_of
from bowerbird.systems.stepback.corruption import corrupt
from bowerbird.systems.stepback.network import BINS, Autoencoder, SpeakerEmbeddings, load_autoencoder
from bowerbird.systems.vocoder.synthesis import Vocoder, check_vocoder, load_vocoder


class Stepback(System[StepbackExperiment]):
    """vocoder(D(E(x), t)), t the embedding of the references or a vector of the table."""

    def __init__(
        self,
        autoencoder: Autoencoder,
        config: Mapping[str, Any],
        vocoder: Vocoder | None,  # None: Griffin-Lim
        corruption: str = "none",
        corruption_level: float = 0.0,
    ) -> None:
        self.autoencoder, self.config, self.vocoder = autoencoder, config, vocoder
        self.corruption, self.corruption_level = corruption, corruption_level
        self.embeddings = SpeakerEmbeddings(config)

    @classmethod
    def load(cls, experiment: StepbackExperiment, models: Mapping[str, Path], device: torch.device) -> Self:
        """Encoder and decoder of the stage that `checkpoint` names, and the vocoder, unless Griffin-Lim replaces it."""
        is_drawn = experiment.synthesis == "griffin-lim"
        roles = (experiment.checkpoint,) if is_drawn else (experiment.checkpoint, "vocoder")
        check_models(models, roles, "Stepback")
        autoencoder, config = load_autoencoder(models[experiment.checkpoint])
        if is_drawn and config["feature_dim"] != BINS:
            raise BowerbirdError(
                f"synthesis: griffin-lim: needs features of {BINS} bins (encoder: log-magnitude), these have "
                f"{config['feature_dim']}; use a vocoder for mels"
            )
        vocoder = None if is_drawn else load_vocoder(models["vocoder"], device)
        if vocoder is not None:
            check_vocoder(vocoder, config["feature_dim"])
        system = cls(autoencoder.to(device), config, vocoder, experiment.corruption, experiment.corruption_level)
        system.embeddings.to(device)
        return system

    def convert(
        self, source: Utterance, references: list[Utterance], trial: Mapping[str, Any] | None = None
    ) -> Conversion:
        """``source`` in the voice of ``references``; with a table, of the trial's target speaker, by name."""
        started = time.perf_counter()
        x = features_of(source, "Stepback")
        if self.corruption != "none":
            wave = torch.from_numpy(corrupt(source.wave.numpy(), self.corruption, self.corruption_level))
            x = (LogMagnitude if x.shape[1] == BINS else LogMel)()(wave[None])[0, : len(x)].to(x.device)
        converted = self.autoencoder(x[None], self._target(references, trial, x.device))[0]
        done = time.perf_counter()
        wave = self.vocoder.vocode(converted) if self.vocoder else griffin_lim(converted).cpu()
        seconds = {"stepback": done - started, "vocoding": time.perf_counter() - done}
        return Conversion(wave, converted, {"seconds": seconds})

    def _target(self, references: list[Utterance], trial: Mapping[str, Any] | None, device: torch.device) -> Tensor:
        """The target's embedding ``(1, E)``."""
        if self.embeddings.verifier is not None:
            embedded = embed_speakers(self.embeddings.verifier, [r.wave.to(device) for r in references])
            return F.normalize(embedded.mean(dim=0, keepdim=True), dim=1)
        name = str(trial["target_speaker"]) if trial else ""
        if name not in self.config["names"]:
            raise BowerbirdError(
                f"target speaker {name!r}: not among the {len(self.config['names'])} that this model learned; with "
                "preparation.speakers: table the trials must be of split train (trials.split); reference takes any voice"
            )
        assert self.autoencoder.table is not None
        return self.autoencoder.table(torch.tensor([self.config["names"].index(name)], device=device))


SYSTEM = Stepback
