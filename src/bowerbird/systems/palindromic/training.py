"""Stages 2 and 3: converter and revocoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bowerbird.artifacts.models import load_weights, read_model_config
from bowerbird.audio import HOP
from bowerbird.config.paths import bundled
from bowerbird.config.systems.palindromic import ConverterStage, RevocoderStage
from bowerbird.encoders.speaker import load_speaker_network
from bowerbird.errors import BowerbirdError
from bowerbird.systems.base import Batch, DataNeeds, StageInputs, TrainingStage, adamw, warmed_up_rate
from bowerbird.systems.palindromic.network import FRAMES_PER_SECOND, build_converter, load_converter
from bowerbird.systems.vocoder.synthesis import Vocoder, load_vocoder
from bowerbird.systems.vocoder.training import VocoderTraining


class SpeakerLoss(nn.Module):
    """L_spk = 1 - cos(e(a~_1), e(a_2)) + lambda_hid |h(a~_1) - h(a_2)|, a mean over items.

    ``judge`` is frozen and differentiable in the wave: ``judge.embed_with_maps(wave)`` gives an embedding (batch, d) and hidden maps
    (batch, channels, frames). The L1 is of their means over time, averaged over maps.
    """

    def __init__(self, judge: nn.Module, hidden_weight: float) -> None:
        super().__init__()
        self.judge, self.hidden_weight = judge.requires_grad_(False), hidden_weight

    def forward(self, converted: Tensor, reference: Sequence[Tensor]) -> dict[str, Tensor]:
        """``converted`` (batch, samples) and one wave (samples,) of each speaker, to {"speaker", "cosine"}."""
        with torch.autocast(converted.device.type, enabled=False):
            embedding, hidden = self._hear(converted.float())
            with torch.no_grad():
                heard = [self._hear(wave[None].float()) for wave in reference]
            target = torch.cat([e for e, _ in heard])
            target_hidden = [torch.cat(maps) for maps in zip(*(h for _, h in heard), strict=True)]
            cosine = F.cosine_similarity(embedding, target, dim=-1).mean()
            distance = torch.stack([F.l1_loss(h, t) for h, t in zip(hidden, target_hidden, strict=True)]).mean()
        return {"speaker": 1 - cosine + self.hidden_weight * distance, "cosine": cosine.detach()}

    def _hear(self, wave: Tensor) -> tuple[Tensor, list[Tensor]]:
        embedding, hidden = self.judge.embed_with_maps(wave)
        return embedding, [h.mean(dim=-1) for h in hidden]


class ConverterTraining(TrainingStage):
    """Stage 2: features L1, and the speaker loss through the frozen vocoder."""

    def __init__(self, options: ConverterStage, inputs: StageInputs) -> None:
        self.options, self.inputs = options, inputs
        self.converter = build_converter(self.architecture())
        if options.start_from:
            self._start_from(Path(bundled(options.start_from)))
        vocoder = load_vocoder(inputs.models["vocoder"])
        must_fit(vocoder, inputs.feature_dim)
        self.vocoder = vocoder.generator.requires_grad_(False)
        self.modules = {"converter": self.converter}
        self.speaker_loss: SpeakerLoss | None = None
        if options.speaker_weight:
            self.speaker_loss = SpeakerLoss(load_speaker_network(options.speaker_encoder), options.hidden_weight)
            self.modules |= {"vocoder": self.vocoder, "speaker_loss": self.speaker_loss}
        self.optimizers = {"converter": adamw(self.converter, options)}

    @classmethod
    def data_needs(cls, options: ConverterStage) -> DataNeeds:
        return DataNeeds(options.segment_frames, audio=True, pairs=True, prompt_frames=prompt_range(options))

    @classmethod
    def build(cls, options: ConverterStage, inputs: StageInputs) -> Self:
        return cls(options, inputs)

    def _start_from(self, folder: Path) -> None:
        """Take the weights of another converter of the same architecture on the same features."""
        theirs, ours = read_model_config(folder), self.architecture()
        for key in ("feature_dim", "layers", "heads", "width", "feedforward", "conditioning"):
            if theirs.get(key) != ours[key]:
                raise BowerbirdError(
                    f"converter.start_from: {self.options.start_from}: its {key} is {theirs.get(key)!r}, this stage's is "
                    f"{ours[key]!r}; weights can only start a converter of the same architecture"
                )
        load_weights(self.converter, folder)

    def updates(self, step: int) -> tuple[str, ...]:
        return ("converter",)

    def learning_rate(self, step: int) -> float:
        return warmed_up_rate(self.options, step)

    def speaker_weight(self, step: int) -> float:
        """lambda_spk at ``step``: 0 up to `speaker_from`, then rising over `speaker_warmup` steps."""
        since = step - self.options.speaker_from
        if since <= 0:
            return 0.0
        rise = min(1.0, since / self.options.speaker_warmup) if self.options.speaker_warmup else 1.0
        return self.options.speaker_weight * rise

    def forward(self, batch: Batch) -> Tensor:
        """A~_1 = T(B^_1; A_2)."""
        return self.converter(batch.retrieved, batch.prompt, batch.prompt_frames)

    def losses(self, update: str, batch: Batch, output: Tensor, step: int) -> dict[str, Tensor]:
        features = F.l1_loss(output.float(), batch.features)
        total, losses, weight = (
            self.options.feature_weight * features,
            {"features": features},
            self.speaker_weight(step),
        )
        if self.speaker_loss is not None and weight > 0:
            heard = self.speaker_loss(self.vocoder(output), prompt_waves(batch))
            total, losses = total + weight * heard["speaker"], {**losses, **heard}
        return {"total": total, **losses}

    def validate(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor | None]:
        """Feature L1 (beside that of the retrieved features, which training starts from), and the converted wave."""
        output = self.converter(batch.retrieved, batch.prompt, batch.prompt_frames)
        metrics = {
            "features": F.l1_loss(output.float(), batch.features),
            "retrieved": F.l1_loss(batch.retrieved, batch.features),
        }
        if self.speaker_loss is None:
            return metrics, None
        wave = self.vocoder(output)
        return metrics | {"cosine": self.speaker_loss(wave, prompt_waves(batch))["cosine"]}, wave[0]

    @property
    def exported(self) -> nn.Module:
        return self.converter

    def architecture(self) -> dict[str, Any]:
        keys = ("layers", "heads", "width", "feedforward", "dropout", "conditioning")
        return {
            "system": "palindromic",
            "feature_dim": self.inputs.feature_dim,
            "features": dict(self.inputs.features),
            **{key: getattr(self.options, key) for key in keys},
        }


def prompt_range(options: ConverterStage | RevocoderStage) -> tuple[int, int]:
    """Shortest and longest prompt, frames."""
    return round(options.prompt_min_s * FRAMES_PER_SECOND), round(options.prompt_max_s * FRAMES_PER_SECOND)


def prompt_waves(batch: Batch) -> list[Tensor]:
    """a_2 of each item, without padding."""
    return [wave[: HOP * int(frames)] for wave, frames in zip(batch.prompt_audio, batch.prompt_frames, strict=True)]


def must_fit(vocoder: Vocoder, feature_dim: int) -> None:
    """The frozen vocoder must read the features that the converter makes."""
    if vocoder.input_dim != feature_dim:
        raise BowerbirdError(
            f"--models: vocoder: it reads features of {vocoder.input_dim} dimensions, the shards have {feature_dim}; "
            "name a vocoder that was trained on these features"
        )


class RevocoderTraining(VocoderTraining):
    """Stage 3: stage 1's losses on converted features, T(B^_1; A_2), the converter frozen.

    The converter sees `context_frames`, the vocoder learns on a crop of `segment_frames` inside them.
    """

    def __init__(self, options: RevocoderStage, inputs: StageInputs) -> None:
        super().__init__(options, inputs)
        self.converter = load_converter(inputs.models["converter"])
        self.modules["converter"] = self.converter

    @classmethod
    def data_needs(cls, options: RevocoderStage) -> DataNeeds:
        return DataNeeds(options.context_frames, audio=True, pairs=True, prompt_frames=prompt_range(options))

    def prepare(self, batch: Batch) -> Batch:
        """Converted features in the place of the real ones, and a crop of both features and audio while training."""
        with torch.no_grad():
            converted = self.converter(batch.retrieved, batch.prompt, batch.prompt_frames).float()
        if batch.chance is None:  # validation: whole utterances
            return Batch(batch.utt_ids, converted, batch.audio)
        length = self.options.segment_frames
        starts = (batch.chance * (converted.shape[1] - length + 1)).long().tolist()
        features = torch.stack([f[s : s + length] for f, s in zip(converted, starts, strict=True)])
        audio = torch.stack([a[HOP * s : HOP * (s + length)] for a, s in zip(batch.audio, starts, strict=True)])
        return Batch(batch.utt_ids, features, audio)


STAGES = {"converter": ConverterTraining, "revocoder": RevocoderTraining}
