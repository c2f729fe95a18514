"""Training stage `vocoder`: crops of features to crops of WORLD's parameters.

Letters: ``B`` batch, ``T`` frames, ``D`` feature dimension.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bowerbird.audio import HOP, SAMPLE_RATE
from bowerbird.config.systems.world import WorldStage
from bowerbird.nn import world
from bowerbird.nn.world_vocoder import WorldVocoder
from bowerbird.systems.base import Batch, BatchSpec, StageInputs, TrainingStage, adamw, warmed_up_rate

DECIBELS = 10.0  # of aperiodicity that weigh as much as one deviation of an envelope


class WorldTraining(TrainingStage[WorldStage]):
    """A regression from features to WORLD's parameters."""

    name = "vocoder"

    def __init__(self, options: WorldStage, inputs: StageInputs) -> None:
        super().__init__(options, inputs)
        self.model = WorldVocoder(inputs.feature_dim)
        self.model.normalize(inputs.moments["features"], inputs.moments["world"])
        self.modules = {"model": self.model}
        self.optimizers = {"model": adamw(self.model, options)}
        self.load_start(self.model, ("generator", "input_dim"))

    @classmethod
    def batch_spec(cls, options: WorldStage) -> BatchSpec:
        """Features and WORLD's parameters; prematched features, where there are pairs."""
        roles = frozenset({"features", "world"})
        return BatchSpec(
            roles, options.segment_frames, optional=frozenset({"retrieved"}), same_speaker_pairs=True, moments=roles
        )

    def updates(self, step: int) -> tuple[str, ...]:
        """The one model."""
        return ("model",)

    def learning_rate(self, step: int) -> float:
        """A linear rise, then `lr_decay` per `lr_decay_steps`."""
        return warmed_up_rate(self.options, step)

    def forward(self, batch: Batch) -> Tensor:
        """Normalized parameters ``(B, T, 252)``."""
        retrieved = batch.get("retrieved")
        predicted: Tensor = self.model.predict(batch.features if retrieved is None else retrieved)
        return predicted

    def losses(self, update: str, batch: Batch, output: Tensor, step: int) -> dict[str, Tensor]:
        """The four terms, each a mean over items and frames, and their sum."""
        model, target = self.model, batch.world
        difference = (output.float() - (target - model.target_mean) / model.target_deviation).abs()
        voiced = target[..., world.VOICING]
        pitch = difference[..., world.PITCH] * model.target_deviation[world.PITCH] * voiced
        decibels = difference[..., world.APERIODICITY] * model.target_deviation[world.APERIODICITY]
        losses = {
            "envelope": difference[..., world.ENVELOPE].mean(),
            "aperiodicity": decibels.mean() / DECIBELS,
            "voicing": F.binary_cross_entropy_with_logits(output[..., world.VOICING].float(), voiced),
            "pitch": pitch.mean(),
        }
        rest = losses["aperiodicity"] + losses["voicing"] + losses["pitch"]
        return {"total": self.options.envelope_weight * losses["envelope"] + rest, **losses}

    def validate(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
        """The terms of one whole utterance, and its wave."""
        output = self.forward(batch)
        with torch.no_grad():
            terms = self.losses("model", batch, output, 0)
        retrieved = batch.get("retrieved")
        return terms, self.model(batch.features if retrieved is None else retrieved)[0]

    @property
    def exported(self) -> nn.Module:
        """The network, with the moments that it normalizes by."""
        return self.model

    def architecture(self) -> dict[str, Any]:
        """The generator's name and the features it reads."""
        return {
            "system": "world",
            "generator": "world-nano",
            "input_dim": self.inputs.feature_dim,
            "sample_rate": SAMPLE_RATE,
            "hop": HOP,
            "features": dict(self.inputs.features),
            "world": dict(self.inputs.auxiliary["world"]),
        }


STAGES: dict[str, type[TrainingStage]] = {WorldTraining.name: WorldTraining}
