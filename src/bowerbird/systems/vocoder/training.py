"""Training stage `vocoder`: crops of features to crops of waveform, against discriminators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bowerbird.artifacts.models import load_weights, read_model_config
from bowerbird.audio import HOP, SAMPLE_RATE
from bowerbird.config.base import GanStage
from bowerbird.config.paths import bundled
from bowerbird.errors import BowerbirdError
from bowerbird.nn.losses import MultiResolutionStftLoss, discriminator_loss, feature_matching_loss, generator_loss
from bowerbird.nn.mel import LogMel
from bowerbird.nn.sourcefilter import Controls, SourceFilter, pitch_loss, track_pitch
from bowerbird.systems.base import Batch, DataNeeds, StageInputs, TrainingStage, adamw
from bowerbird.systems.vocoder.network import build_discriminators, build_generator


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
    """kNN-VC (= HiFi-GAN, eq. 9): 45 mel + 2 matching + adversarial. QR-VC: 20 mel. Palindromic: MR-STFT + adversarial.

    The nano generators add what lets them get far in few steps: an MR-STFT term to kNN-VC's recipe, and a mel term to
    Palindromic's.
    """
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

    target: Tensor  # (batch, samples): the recording
    wave: Tensor  # (batch, samples)
    losses: dict[str, Tensor]  # of the generator's own


class VocoderTraining(TrainingStage):
    """Stage "vocoder": crops of features to crops of waveform, against discriminators."""

    def __init__(self, options: GanStage, inputs: StageInputs) -> None:
        self.options, self.inputs = options, inputs
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
        if options.start_from:
            self._start_from(Path(bundled(options.start_from)))

    @classmethod
    def data_needs(cls, options: GanStage) -> DataNeeds:
        return DataNeeds(options.segment_frames, audio=True, same_speaker_pairs=True)

    @classmethod
    def build(cls, options: GanStage, inputs: StageInputs) -> Self:
        return cls(options, inputs)

    def _start_from(self, folder: Path) -> None:
        """Take the generator's weights from another model of the same architecture."""
        self._must_match(folder, ("generator", "input_dim"))
        load_weights(self.generator, folder)

    def _must_match(self, folder: Path, keys: Sequence[str]) -> None:
        """Refuse a model to start from whose architecture is another one."""
        theirs, ours = read_model_config(folder), self.architecture()
        for key in keys:
            if theirs.get(key) != ours[key]:
                raise BowerbirdError(
                    f"start_from: {self.options.start_from}: its {key} is {theirs.get(key)!r}, this stage's is "
                    f"{ours[key]!r}; weights can only start a model of the same architecture on the same features"
                )

    def prepare(self, batch: Batch) -> Batch:
        """The features to learn on and the audio they stand for: prematched features, where there are pairs."""
        return batch if batch.retrieved is None else replace(batch, features=batch.retrieved)

    def updates(self, step: int) -> tuple[str, ...]:
        return ("discriminators", "generator") if step > self.options.adversarial_from else ("generator",)

    def learning_rate(self, step: int) -> float:
        return self.options.learning_rate * self.options.lr_decay ** (step // self.options.lr_decay_steps)

    def forward(self, batch: Batch) -> Synthesis:
        """The generated waveforms ŷ; prematched features where there are pairs.

        The source-filter generator is given the pitch of the recording (teacher forcing) and learns to tell it.
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
        """Mel L1 and MR-STFT of one whole utterance."""
        batch = self.prepare(batch)
        y_hat = self.generator(batch.features)
        metrics = {"mel": F.l1_loss(self.mel(y_hat), self.mel(batch.audio)), "stft": self.stft(y_hat, batch.audio)}
        return metrics, y_hat[0]

    @property
    def exported(self) -> nn.Module:
        return self.generator

    def architecture(self) -> dict[str, Any]:
        return {
            "system": "vocoder",
            "generator": self.options.generator,
            "input_dim": self.inputs.feature_dim,
            "sample_rate": SAMPLE_RATE,
            "hop": HOP,
            "features": dict(self.inputs.features),
        }


STAGES = {"vocoder": VocoderTraining}
