"""The vocoder that the other systems share: self-supervised features to 16 kHz speech.

The published size is kNN-VC's (Baas et al. 2023, section 3.3): HiFi-GAN v1 on features of one WavLM layer, trained on
real features or on *prematched* ones: each frame the mean of its nearest neighbours in the same speaker's other
utterances, as the vocoder will meet them at conversion.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from bowerbird.artifacts import BowerbirdError
from bowerbird.audio import HOP, SAMPLE_RATE, resample
from bowerbird.config import bundled
from bowerbird.encoders.spectral import PUBLISHED_HOP, PUBLISHED_RATE
from bowerbird.experiments import GanStage
from bowerbird.nn.bigvgan import BigVgan
from bowerbird.nn.discriminators import (
    Discriminators,
    bigvgan_discriminators,
    hifigan_discriminators,
    nano_discriminators,
    vits_discriminators,
)
from bowerbird.nn.hifigan import HifiGan
from bowerbird.nn.losses import (
    MultiResolutionStftLoss,
    discriminator_loss,
    feature_matching_loss,
    generator_loss,
)
from bowerbird.nn.mel import LogMel
from bowerbird.nn.sourcefilter import Controls, SourceFilter, pitch_loss, track_pitch
from bowerbird.nn.vocos import Vocos
from bowerbird.systems.base import (
    Batch,
    Conversion,
    DataNeeds,
    StageInputs,
    System,
    TrainingStage,
    Utterance,
    adamw,
)
from bowerbird.systems.published import MEL, WEIGHTS, is_published, load_bigvgan

GENERATORS = ("hifigan", "hifigan-1024", "hifigan-nano", "vocos-nano", "sourcefilter-nano", "bigvgan-base")


def build_generator(name: str, input_dim: int) -> nn.Module:
    """Generator ``name`` for features of ``input_dim``: ``(batch, frames, input_dim)`` to ``(batch, 320 * frames)``."""
    if name == "hifigan":
        return HifiGan(input_dim)
    if name == "hifigan-1024":  # QR-VC's: its disentangler stands where the first convolution was
        return HifiGan(input_dim, linear_dim=0, channels=1024, upsample_kernels=(16, 16, 4, 4))
    if name == "hifigan-nano":
        return HifiGan(input_dim, linear_dim=128, channels=128)
    if name == "vocos-nano":
        return Vocos(input_dim)
    if name == "sourcefilter-nano":
        return SourceFilter(input_dim)
    if name == "bigvgan-base":  # for mels
        return BigVgan(input_dim)
    raise BowerbirdError(f"generator: {name!r}: unknown; known: {', '.join(GENERATORS)}")


def build_discriminators(generator: str) -> Discriminators:
    """The discriminators that a generator is trained against."""
    if generator.endswith("-nano"):
        return nano_discriminators()
    sets = {"hifigan-1024": vits_discriminators, "bigvgan-base": bigvgan_discriminators}
    return sets.get(generator, hifigan_discriminators)()


# ----------------------------------------------------------------------------------------------------------- synthesis
class Vocoder:
    """A trained generator, ready to synthesise."""

    frame_rate = SAMPLE_RATE / HOP  # of the features it reads

    def __init__(self, generator: nn.Module, config: Mapping[str, Any], device: torch.device) -> None:
        self.generator = generator.eval().to(device)
        self.device = device
        self.input_dim: int = config["input_dim"]
        self.features: Mapping[str, Any] = config.get("features", {})  # what it was trained on: encoder, layer ...

    @torch.inference_mode()
    def vocode(self, features: Tensor, chunk_frames: int = 1000) -> Tensor:
        """Features ``(frames, dim)`` to ``(frames * 320,)`` on the CPU.

        Longer inputs go through in chunks of ``chunk_frames``. Each is generated with as much of its neighbours as the
        generator's receptive field reaches, so the seams are those of no chunking at all.
        """
        if features.ndim != 2 or features.shape[1] != self.input_dim:
            raise BowerbirdError(
                f"vocoder: features of shape {tuple(features.shape)}: it was trained on (frames, {self.input_dim}); "
                "use the features it was trained on"
            )
        if not len(features):
            return torch.zeros(0)
        if isinstance(self.generator, SourceFilter):  # its pulses run through, so only the network is cut in chunks
            encoded = self._in_chunks(self.generator.encode, features, chunk_frames)
            return self.generator.render(Controls.of(encoded[None].to(self.device)))[0].cpu()
        return self._in_chunks(self.generator, features, chunk_frames)

    def _in_chunks(self, function: Callable[[Tensor], Tensor], features: Tensor, chunk_frames: int) -> Tensor:
        """``(frames * n, ...)`` of ``function``, which makes ``(1, frames * n, ...)`` of ``(1, frames, dim)``."""
        context, pieces = self.generator.context_frames, []
        for start in range(0, len(features), chunk_frames):
            end = min(start + chunk_frames, len(features))
            first, last = max(0, start - context), min(len(features), end + context)
            result = function(features[None, first:last].to(self.device, torch.float32))[0]
            per_frame = len(result) // (last - first)
            pieces.append(result[(start - first) * per_frame : (end - first) * per_frame].cpu())
        return torch.cat(pieces)


class PublishedVocoder(Vocoder):
    """NVIDIA's BigVGAN: it hears `log-mel-24k`, and what it makes at 24 kHz is resampled."""

    frame_rate = PUBLISHED_RATE / PUBLISHED_HOP

    @torch.inference_mode()
    def vocode(self, features: Tensor, chunk_frames: int = 1000) -> Tensor:
        """Mels ``(frames, 100)`` to ``(frames * 256 * 2 / 3,)`` at 16 kHz on the CPU."""
        wave = super().vocode(features, chunk_frames)
        return torch.from_numpy(resample(wave.float().numpy(), PUBLISHED_RATE))


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


def load_vocoder(folder: str | Path, device: torch.device | str = "cpu") -> Vocoder:
    """The vocoder in a model folder (``config.json`` and ``model.safetensors``, float32 or float16), or NVIDIA's BigVGAN."""
    folder = Path(folder)
    folder = folder.parent if folder.name in ("model.safetensors", WEIGHTS) else folder
    if is_published(folder):
        return PublishedVocoder(load_bigvgan(folder), {"input_dim": MEL["num_mels"]}, torch.device(device))
    config = read_model_config(folder)
    generator = build_generator(config["generator"], config["input_dim"])
    load_weights(generator, folder)
    return Vocoder(generator, config, torch.device(device))


def read_model_config(folder: Path) -> dict[str, Any]:
    """``config.json`` of a model folder."""
    path = Path(folder) / "config.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BowerbirdError(f"{path}: cannot be read ({error.strerror}); a model folder holds config.json") from error
    except json.JSONDecodeError as error:
        raise BowerbirdError(f"{path}: not valid JSON ({error})") from error


def load_weights(module: nn.Module, folder: Path) -> None:
    """Load ``model.safetensors`` of ``folder`` into ``module``; names and shapes must agree."""
    path = Path(folder) / "model.safetensors"
    try:
        weights = {name: tensor.float() for name, tensor in load_file(path).items()}
        module.load_state_dict(weights)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise BowerbirdError(f"{path}: does not fit the architecture in its config.json: {reason}") from error
    except Exception as error:  # safetensors raises its own class, which it does not export
        raise BowerbirdError(f"{path}: cannot be read ({error})") from error


# ------------------------------------------------------------------------------------------------------------ training
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
