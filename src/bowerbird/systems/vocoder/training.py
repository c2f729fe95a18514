"""Training stage `vocoder`: crops of features to crops of waveform, against discriminators.

Letters: ``B`` batch, ``T`` frames, ``D`` feature dimension; a frame is 320 samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bowerbird.audio import HOP, SAMPLE_RATE
from bowerbird.config.base import GanStage
from bowerbird.nn.losses import MultiResolutionStftLoss, discriminator_loss, feature_matching_loss, generator_loss
from bowerbird.nn.mel import LogMel
from bowerbird.nn.sourcefilter import Controls, SourceFilter, pitch_loss, track_pitch
from bowerbird.systems.base import Batch, BatchSpec, StageInputs, TrainingStage, adamw
from bowerbird.systems.vocoder.network import build_discriminators, build_generator

GanOptionsT = TypeVar("GanOptionsT", bound=GanStage)


@dataclass(frozen=True)
class LossWeights:
    """Weights of the generator's losses."""

    mel: float  # L1 of log-mel spectrograms
    stft: float  # multi-resolution STFT
    matching: float  # feature matching
    adversarial: float  # LSGAN
    pitch: float = 0.0  # cross-entropies of pitch class and voicing (source-filter generator)
    commitment: float = 0.0  # of a quantizer (Takin-VC's content encoder)


def loss_weights(options: GanStage) -> LossWeights:
    """The weights behind the names of `losses`; see the package's docstring."""
    nano, adversarial = options.generator.endswith("-nano"), options.adversarial_weight
    pitch = 1.0 if options.generator == "sourcefilter-nano" else 0.0
    if options.losses in ("knnvc", "qrvc", "codec"):
        mel = 20.0 if options.losses == "qrvc" else 45.0
        stft = mel / 3 if nano else 0.0
        return LossWeights(mel=mel, stft=stft, matching=2.0, adversarial=adversarial, pitch=mel / 9 * pitch)
    return LossWeights(mel=1.0 if nano else 0.0, stft=1.0, matching=0.0, adversarial=adversarial, pitch=pitch / 2)


@dataclass(frozen=True)
class Synthesis:
    """What the generator made of a batch."""

    target: Tensor  # (B, 320 T): the recording y
    wave: Tensor  # (B, 320 T): ŷ
    losses: dict[str, Tensor]  # of the generator's own


class VocoderTraining(TrainingStage[GanOptionsT]):
    """A generator of waveforms against discriminators. Stages that learn on other features override `prepare`."""

    name = "vocoder"

    def __init__(self, options: GanOptionsT, inputs: StageInputs) -> None:
        super().__init__(options, inputs)
        self.weights = loss_weights(options)
        self.generator = build_generator(options.generator, inputs.feature_dim)
        self.discriminators = build_discriminators(options.generator)
        self.mel, self.stft = LogMel(), MultiResolutionStftLoss()
        self.modules = {
            "generator": self.generator,
            "discriminators": self.discriminators,
            "mel": self.mel,
            "stft": self.stft,
        }
        self.optimizers = {name: adamw(self.modules[name], options) for name in ("discriminators", "generator")}
        self.load_generator()

    def load_generator(self) -> None:
        """Load the generator's weights from the model that `start_from` names, if any."""
        self.load_start(self.generator, ("generator", "input_dim"))

    @classmethod
    def batch_spec(cls, options: GanOptionsT) -> BatchSpec:
        """Features and audio; prematched features, where there are pairs."""
        roles, pairs = frozenset({"features", "audio"}), frozenset({"retrieved"})
        return BatchSpec(roles, options.segment_frames, optional=pairs, same_speaker_pairs=True)

    def prepare(self, batch: Batch) -> Batch:
        """The features to learn on and the audio they stand for: prematched features, where there are pairs."""
        retrieved = batch.get("retrieved")
        return batch if retrieved is None else Batch(batch.utt_ids, {**batch.tensors, "features": retrieved})

    def updates(self, step: int) -> tuple[str, ...]:
        """Discriminators, then generator; the generator alone before the discriminators join."""
        return ("discriminators", "generator") if step > self.options.adversarial_from else ("generator",)

    def learning_rate(self, step: int) -> float:
        """`lr_decay` per `lr_decay_steps`."""
        return self.options.learning_rate * self.options.lr_decay ** (step // self.options.lr_decay_steps)

    def forward(self, batch: Batch) -> Synthesis:
        """The generated waveforms ŷ of features ``(B, T, D)``.

        The source-filter generator is given the pitch of the recording (teacher forcing) and learns to predict it.
        """
        batch = self.prepare(batch)
        features, y = batch.features, batch.audio
        if not isinstance(self.generator, SourceFilter):
            return Synthesis(y, self.generator(features), {})
        controls = Controls.of(self.generator.encode(features))
        pitch, voiced = track_pitch(y)
        own = {"pitch": pitch_loss(controls, pitch, voiced)}
        return Synthesis(y, self.generator.render(controls, pitch, voiced), own)

    def losses(self, update: str, batch: Batch, output: Synthesis, step: int) -> dict[str, Tensor]:
        """LSGAN of the discriminators; of the generator, reconstruction, its own losses, and the adversarial ones."""
        y, y_hat = output.target, output.wave
        if update == "discriminators":
            real, _ = self.discriminators(y)
            fake, _ = self.discriminators(y_hat.detach())
            return {"total": discriminator_loss(real, fake)}
        losses = self._reconstruction(y, y_hat) | output.losses
        if step > self.options.adversarial_from:
            losses |= self._adversarial(y, y_hat)
        total = sum(getattr(self.weights, name) * loss for name, loss in losses.items())
        return {"total": total, **losses}

    def _reconstruction(self, y: Tensor, y_hat: Tensor) -> dict[str, Tensor]:
        losses = {}
        if self.weights.mel:
            losses["mel"] = F.l1_loss(self.mel(y_hat), self.mel(y))
        if self.weights.stft:
            losses["stft"] = self.stft(y_hat, y)
        return losses

    def _adversarial(self, y: Tensor, y_hat: Tensor) -> dict[str, Tensor]:
        fake, layers_fake = self.discriminators(y_hat)
        losses = {"adversarial": generator_loss(fake)}
        if self.weights.matching:
            with torch.no_grad():
                _, layers_real = self.discriminators(y)
            losses["matching"] = feature_matching_loss(layers_real, layers_fake)
        return losses

    def validate(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
        """Mel L1 and multi-resolution STFT of one whole utterance."""
        batch = self.prepare(batch)
        y_hat = self.generator(batch.features)
        metrics = {"mel": F.l1_loss(self.mel(y_hat), self.mel(batch.audio)), "stft": self.stft(y_hat, batch.audio)}
        return metrics, y_hat[0]

    @property
    def exported(self) -> nn.Module:
        """The generator."""
        return self.generator

    def architecture(self) -> dict[str, Any]:
        """The generator's name and the features it reads."""
        return {
            "system": "vocoder",
            "generator": self.options.generator,
            "input_dim": self.inputs.feature_dim,
            "sample_rate": SAMPLE_RATE,
            "hop": HOP,
            "features": dict(self.inputs.features),
        }


STAGES: dict[str, type[TrainingStage]] = {VocoderTraining.name: VocoderTraining}
