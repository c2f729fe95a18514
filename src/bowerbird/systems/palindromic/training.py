"""Training stages `converter` (2) and `revocoder` (3).

Letters: ``B`` batch, ``T`` frames, ``D`` feature dimension, ``N`` samples, ``E`` dimension of an embedding, ``C`` channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bowerbird.audio import HOP
from bowerbird.config.systems.palindromic import ConverterStage, RevocoderStage
from bowerbird.encoders.speaker import SpeakerNetwork, load_speaker_network
from bowerbird.systems.base import (
    Batch,
    BatchSpec,
    StageInputs,
    TrainingStage,
    adamw,
    crop_in_context,
    prompt_range,
    prompt_waves,
    warmed_up_rate,
)
from bowerbird.systems.palindromic.network import SIZES, build_converter, load_converter
from bowerbird.systems.vocoder.synthesis import check_vocoder, load_vocoder
from bowerbird.systems.vocoder.training import VocoderTraining

LEAST_FRAMES = 25  # half a second: shorter utterances are left out


class SpeakerLoss(nn.Module):
    """L_spk = 1 - cos(e(a~_1), e(a_2)) + lambda_hid |h(a~_1) - h(a_2)|, a mean over items.

    ``verifier`` is frozen and differentiable in the wave: ``verifier.embed_with_maps(wave)`` gives an embedding ``(B, E)`` and
    hidden maps ``(B, C, T)``. The L1 is of their means over time, averaged over maps.
    """

    def __init__(self, verifier: SpeakerNetwork, hidden_weight: float) -> None:
        super().__init__()
        self.verifier, self.hidden_weight = verifier.requires_grad_(False), hidden_weight

    def forward(self, converted: Sequence[Tensor], reference: Sequence[Tensor]) -> dict[str, Tensor]:
        """The loss ("speaker") and the mean cosine ("cosine") of ``converted``, waves ``(N,)``, and one wave ``(N,)`` of each speaker."""
        with torch.autocast(converted[0].device.type, enabled=False):
            embedding, hidden = self._embed_all(converted)
            with torch.no_grad():
                target, target_hidden = self._embed_all(reference)
            cosine = F.cosine_similarity(embedding, target, dim=-1).mean()
            distance = torch.stack([F.l1_loss(h, t) for h, t in zip(hidden, target_hidden, strict=True)]).mean()
        return {"speaker": 1 - cosine + self.hidden_weight * distance, "cosine": cosine.detach()}

    def _embed_all(self, waves: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """As `_embed`, of waves ``(N,)`` that may differ in length: together where they do not."""
        if len({len(wave) for wave in waves}) == 1:
            return self._embed(torch.stack(list(waves)).float())
        embedded = [self._embed(wave[None].float()) for wave in waves]
        return torch.cat([e for e, _ in embedded]), [
            torch.cat(maps) for maps in zip(*(h for _, h in embedded), strict=True)
        ]

    def _embed(self, wave: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Embeddings ``(B, E)`` of waves ``(B, N)``, and the means ``(B, C)`` over time of each hidden map."""
        embedding, hidden = self.verifier.embed_with_maps(wave)
        return embedding, [h.mean(dim=-1) for h in hidden]


def masked_l1(output: Tensor, target: Tensor, frames: Tensor) -> Tensor:
    """Mean over items of the mean L1 over the first ``frames`` ``(B,)`` of ``output`` and ``target`` ``(B, T, D)``."""
    is_speech = torch.arange(target.shape[1], device=target.device) < frames[:, None]  # (B, T)
    distance = (output.float() - target).abs().mean(dim=2)
    return ((distance * is_speech).sum(dim=1) / frames).mean()


def without_padding(waves: Tensor, frames: Tensor) -> list[Tensor]:
    """The waves ``(N,)`` of the first ``frames`` ``(B,)`` frames of waves ``(B, 320 T)``."""
    return [wave[: HOP * count] for wave, count in zip(waves, frames.tolist(), strict=True)]


class ConverterTraining(TrainingStage[ConverterStage]):
    """Stage 2: L1 of features, and the speaker loss through the frozen vocoder."""

    name = "converter"

    def __init__(self, options: ConverterStage, inputs: StageInputs) -> None:
        super().__init__(options, inputs)
        self.converter = build_converter(self.architecture())
        self.load_start(self.converter, ("feature_dim", *(key for key in SIZES if key != "dropout")))
        vocoder = load_vocoder(inputs.models["vocoder"])
        check_vocoder(vocoder, inputs.feature_dim)
        self.vocoder = vocoder.generator.requires_grad_(False)
        self.modules = {"converter": self.converter}
        self.speaker_loss: SpeakerLoss | None = None
        if options.speaker_weight:
            self.speaker_loss = SpeakerLoss(load_speaker_network(options.speaker_encoder), options.hidden_weight)
            self.modules |= {"vocoder": self.vocoder, "speaker_loss": self.speaker_loss}
        self.optimizers = {"converter": adamw(self.converter, options)}

    @classmethod
    def batch_spec(cls, options: ConverterStage) -> BatchSpec:
        """A_1, B^_1 and A_2, the waveform of A_2 for the speaker loss, and that of A_1 to listen to beside the converted one."""
        roles = frozenset({"features", "frames", "audio", "retrieved", "prompt", "prompt_frames", "prompt_audio"})
        prompts = prompt_range(options.prompt_min_s, options.prompt_max_s)
        least = min(LEAST_FRAMES, options.segment_frames)
        return BatchSpec(roles, options.segment_frames, least, prompt_frames=prompts)

    def updates(self, step: int) -> tuple[str, ...]:
        """Every step moves the converter."""
        return ("converter",)

    def learning_rate(self, step: int) -> float:
        """The learning rate at ``step``, which rises linearly over the warm-up."""
        return warmed_up_rate(self.options, step)

    def speaker_weight(self, step: int) -> float:
        """lambda_spk at ``step``: 0 up to `speaker_from`, then rising over `speaker_warmup` steps."""
        since = step - self.options.speaker_from
        if since <= 0:
            return 0.0
        rise = min(1.0, since / self.options.speaker_warmup) if self.options.speaker_warmup else 1.0
        return self.options.speaker_weight * rise

    def forward(self, batch: Batch) -> Tensor:
        """A~_1 = T(B^_1; A_2), ``(B, T, D)``."""
        return self.converter(batch.retrieved, batch.prompt, batch.prompt_frames, batch.frames)

    def losses(self, update: str, batch: Batch, output: Tensor, step: int) -> dict[str, Tensor]:
        """The L1 of features, and the speaker loss where its weight at ``step`` is not zero."""
        features, weight = masked_l1(output, batch.features, batch.frames), self.speaker_weight(step)
        total, losses = self.options.feature_weight * features, {"features": features}
        if self.speaker_loss is not None and weight > 0:
            speaker = self.speaker_loss(without_padding(self.vocoder(output), batch.frames), prompt_waves(batch))
            total, losses = total + weight * speaker["speaker"], {**losses, **speaker}
        return {"total": total, **losses}

    def validate(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor | None]:
        """Feature L1 (beside that of the retrieved features, which training starts from), and the converted wave."""
        output = self.forward(batch)
        metrics = {
            "features": F.l1_loss(output.float(), batch.features),
            "retrieved": F.l1_loss(batch.retrieved, batch.features),
        }
        if self.speaker_loss is None:
            return metrics, None
        wave = self.vocoder(output)
        return metrics | {"cosine": self.speaker_loss(list(wave), prompt_waves(batch))["cosine"]}, wave[0]

    @property
    def exported(self) -> nn.Module:
        """The converter."""
        return self.converter

    def architecture(self) -> dict[str, Any]:
        """The converter's sizes and the features it reads."""
        return {
            "system": "palindromic",
            "feature_dim": self.inputs.feature_dim,
            "segment_frames": self.options.segment_frames,
            "features": dict(self.inputs.features),
            **{key: getattr(self.options, key) for key in SIZES},
        }


class RevocoderTraining(VocoderTraining[RevocoderStage]):
    """Stage 3: stage 1's losses on converted features, T(B^_1; A_2), the converter frozen."""

    name = "revocoder"

    def __init__(self, options: RevocoderStage, inputs: StageInputs) -> None:
        super().__init__(options, inputs)
        self.converter = load_converter(inputs.models["converter"])
        self.modules["converter"] = self.converter

    @classmethod
    def batch_spec(cls, options: RevocoderStage) -> BatchSpec:
        """B^_1, A_2 and audio of `context_frames`; the vocoder learns on `segment_frames` inside them."""
        roles = frozenset({"audio", "frames", "retrieved", "prompt", "prompt_frames", "uniform"})
        prompts = prompt_range(options.prompt_min_s, options.prompt_max_s)
        return BatchSpec(roles, options.context_frames, options.segment_frames, prompt_frames=prompts)

    def prepare(self, batch: Batch) -> Batch:
        """Converted features in the place of the real ones; in training a crop of them and of the audio."""
        with torch.no_grad():
            converted = self.converter(batch.retrieved, batch.prompt, batch.prompt_frames, batch.frames).float()
        return crop_in_context(batch, converted, self.options.segment_frames)


STAGES: dict[str, type[TrainingStage]] = {stage.name: stage for stage in (ConverterTraining, RevocoderTraining)}
