"""Training stages `content` and `flow`; `ppg` is in ``recognizer.py``.

Letters: ``B`` batch, ``T`` frames, ``M`` mel bands, ``C`` content dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bowerbird.artifacts.models import load_matching
from bowerbird.audio import FRAMES_PER_SECOND
from bowerbird.config.systems.takin import ContentStage, FlowStage
from bowerbird.encoders.spectral import frame_rate
from bowerbird.nn.flow import flow_loss, on_path
from bowerbird.systems.base import (
    Batch,
    BatchSpec,
    StageInputs,
    TrainingStage,
    adamw,
    prompt_range,
    warmed_up_rate,
)
from bowerbird.systems.takin.network import (
    CONTENT,
    FLOW,
    Condition,
    HybridContent,
    Reference,
    Takin,
    item_generator,
    mel_frames,
    normalize,
)
from bowerbird.systems.takin.recognizer import PpgTraining
from bowerbird.systems.vocoder.training import Synthesis, VocoderTraining

AUXILIARY = frozenset({"phones", "speaker_embedding"})
LEAST_FRAMES = 25  # half a second: shorter utterances are left out


class ContentTraining(VocoderTraining[ContentStage]):
    """Stage 1: the content encoder as a codec. The decoder makes the wave of c and e, and is left behind."""

    name = "content"

    def __init__(self, options: ContentStage, inputs: StageInputs) -> None:
        self.content_config = content_config(options, inputs)
        super().__init__(options, replace(inputs, feature_dim=options.content_dim))
        self.weights = replace(self.weights, commitment=options.vq_weight)
        self.content = HybridContent(**self.content_config)
        self.modules["content"] = self.content
        self.optimizers["generator"].add_param_group({"params": list(self.content.parameters())})
        speaker_dim = auxiliary_dim(inputs, "speaker_embeddings")
        self.speaker_projection = nn.Linear(speaker_dim, options.content_dim) if speaker_dim else None
        if self.speaker_projection is not None:
            self.modules["speaker_projection"] = self.speaker_projection
            self.optimizers["generator"].add_param_group({"params": list(self.speaker_projection.parameters())})
        self.commitment = torch.zeros(())

    @classmethod
    def batch_spec(cls, options: ContentStage) -> BatchSpec:
        """Features and audio; phones and speaker embeddings, where they are given."""
        return BatchSpec(frozenset({"features", "audio"}), options.segment_frames, optional=AUXILIARY)

    def prepare(self, batch: Batch) -> Batch:
        """c ``(B, T, C)``, with e added to each frame, in the place of the features."""
        hidden, self.commitment = self.content(batch.features, batch.get("phones"))
        if self.speaker_projection is not None:
            hidden = hidden + self.speaker_projection(batch.speaker_embedding)[:, None]
        return Batch(batch.utt_ids, {"features": hidden, "audio": batch.audio})

    def forward(self, batch: Batch) -> Synthesis:
        """The generated waveforms ``(B, 320 T)``, with the commitment among the losses."""
        synthesis = super().forward(batch)
        return replace(synthesis, losses=synthesis.losses | {"commitment": self.commitment})

    @property
    def exported(self) -> nn.Module:
        """The content encoder."""
        return self.content

    def architecture(self) -> dict[str, Any]:
        """The decoder's, and what the content encoder is built from."""
        return {**super().architecture(), "system": "takin", **self.content_config}


def auxiliary_dim(inputs: StageInputs, role: str) -> int:
    """Dimensions of auxiliary features; 0 where they are not given."""
    return inputs.auxiliary.get(role, {}).get("dim", 0)


def content_config(options: ContentStage | FlowStage, inputs: StageInputs) -> dict[str, Any]:
    """What `HybridContent` is built from."""
    dims = {"feature_dim": inputs.feature_dim, "phones_dim": auxiliary_dim(inputs, "phones")}
    return {key: dims[key] if key in dims else getattr(options, key) for key in CONTENT}


@dataclass(frozen=True)
class Prediction:
    """v and u at x_t, and the content encoder's commitment."""

    velocity: Tensor  # v: (B, T, M)
    target: Tensor  # u: (B, T, M)
    commitment: Tensor  # scalar


class FlowTraining(TrainingStage[FlowStage]):
    """Stage 2: |v - u|^2 + lambda_vq commitment, the content encoder learning on."""

    name = "flow"

    def __init__(self, options: FlowStage, inputs: StageInputs) -> None:
        super().__init__(options, inputs)
        self.model = Takin(self.architecture())
        if "content" in inputs.models:
            load_matching(
                self.model.content, inputs.models["content"], self.architecture(), CONTENT, "--models: content"
            )
        self.load_start(self.model, (*CONTENT, *FLOW))
        self.modules = {"model": self.model}
        self.optimizers = {"model": adamw(self.model, options)}

    @classmethod
    def batch_spec(cls, options: FlowStage) -> BatchSpec:
        """Features and mels, a reference's mels; phones and speaker embeddings, where they are given."""
        roles = frozenset({"features", "frames", "mels", "prompt_frames", "prompt_mels", "uniform"})
        prompts = prompt_range(options.prompt_min_s, options.prompt_max_s)
        least = min(LEAST_FRAMES, options.segment_frames)
        return BatchSpec(roles, options.segment_frames, least, AUXILIARY, prompts)

    def updates(self, step: int) -> tuple[str, ...]:
        """Every step moves the whole model."""
        return ("model",)

    def learning_rate(self, step: int) -> float:
        """The learning rate at ``step``, which rises linearly over the warm-up."""
        return warmed_up_rate(self.options, step)

    def forward(self, batch: Batch) -> Prediction:
        """v and u ``(B, T, M)`` at one point of each item's path.

        The noise, t, and whether the condition is dropped are drawn by item.
        """
        data, uniform = normalize(batch.mels), batch.get("uniform")
        names: Sequence[object] = batch.utt_ids if uniform is None else uniform.tolist()
        noise, t, number = draw(names, data)
        condition, commitment = self.condition(batch)
        if uniform is not None:
            condition = condition.dropped(number < self.options.condition_dropout)
        x, target = on_path(data, noise, t)
        return Prediction(self.model(x, t, condition), target, commitment)

    def condition(self, batch: Batch) -> tuple[Condition, Tensor]:
        """What v of a batch is conditioned on, and the content encoder's commitment."""
        frames = self._mel_frames(batch.prompt_frames)
        reference = Reference(normalize(batch.prompt_mels), frames, batch.get("speaker_embedding"))
        return self.model.condition(batch.features, batch.get("phones"), reference, batch.mels.shape[1])

    def _mel_frames(self, frames: Tensor) -> Tensor:
        """Frames ``(B,)`` of the mels that stand for ``frames`` ``(B,)`` of the features."""
        return mel_frames(frames, frame_rate(self.inputs.auxiliary.get("mels", {})))

    def losses(self, update: str, batch: Batch, output: Prediction, step: int) -> dict[str, Tensor]:
        """The flow's loss and the commitment."""
        flow = flow_loss(output.velocity, output.target, self._mel_frames(batch.frames))
        total = flow + self.options.vq_weight * output.commitment
        return {"total": total, "flow": flow, "commitment": output.commitment}

    def validate(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor | None]:
        """The loss, and the L1 of the mel that ten Euler steps make of the item's own content and other speech."""
        prediction = self.forward(batch)
        condition, _ = self.condition(batch)
        noise, _, _ = draw(batch.utt_ids, batch.mels)
        made = self.model.sample(condition, noise)
        return {"flow": flow_loss(prediction.velocity, prediction.target), "mel": F.l1_loss(made, batch.mels)}, None

    @property
    def exported(self) -> nn.Module:
        """All but the vocoder."""
        return self.model

    def architecture(self) -> dict[str, Any]:
        """What `Takin` is built from, and the features that it reads; the mels where they are of another rate."""
        inputs, options, auxiliary = self.inputs, self.options, self.inputs.auxiliary
        sizes = {"bands": auxiliary_dim(inputs, "mels"), "speaker_dim": auxiliary_dim(inputs, "speaker_embeddings")}
        mels = dict(auxiliary.get("mels", {}))
        return {
            "system": "takin",
            **({"mels": mels} if frame_rate(mels) != FRAMES_PER_SECOND else {}),
            **content_config(options, inputs),
            **{key: sizes[key] if key in sizes else getattr(options, key) for key in FLOW},
            "features": dict(inputs.features),
            "phones": dict(auxiliary.get("phones", {})),
            "speaker_embeddings": dict(auxiliary.get("speaker_embeddings", {})),
        }


def draw(names: Sequence[object], like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Noise of the shape of ``like`` ``(B, ...)``, t, and another number in [0, 1), both ``(B,)``: each item's own."""
    noise, numbers = [], []
    for name in names:
        generator = item_generator("training", name)
        noise.append(torch.randn(like.shape[1:], generator=generator))
        numbers.append(torch.rand(2, generator=generator))
    t, number = torch.stack(numbers).to(like.device).unbind(1)
    return torch.stack(noise).to(like.device), t, number


STAGES: dict[str, type[TrainingStage]] = {stage.name: stage for stage in (PpgTraining, ContentTraining, FlowTraining)}
