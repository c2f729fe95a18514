"""Stages `content` and `flow`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bowerbird.artifacts.models import load_weights, read_model_config
from bowerbird.config.paths import bundled
from bowerbird.config.systems.takin import ContentStage, FlowStage
from bowerbird.encoders.spectral import frame_rate
from bowerbird.errors import BowerbirdError
from bowerbird.nn.flow import flow_loss, on_path
from bowerbird.systems.base import Batch, DataNeeds, StageInputs, TrainingStage, adamw, warmed_up_rate
from bowerbird.systems.takin.network import (
    CONTENT,
    FLOW,
    FRAMES_PER_SECOND,
    Condition,
    HybridContent,
    Takin,
    item_generator,
    mel_frames,
    normalize,
)
from bowerbird.systems.takin.recognizer import PpgTraining
from bowerbird.systems.vocoder.training import Synthesis, VocoderTraining


class ContentTraining(VocoderTraining):
    """Stage 1: the content encoder as a codec. The decoder makes the wave of c and the voice print, and is left behind."""

    def __init__(self, options: ContentStage, inputs: StageInputs) -> None:
        self.content_config = content_config(options, inputs)
        super().__init__(options, replace(inputs, feature_dim=options.content_dim))
        self.weights = replace(self.weights, commitment=options.vq_weight)
        self.content = HybridContent(**self.content_config)
        voice_dim = inputs.others.get("speaker_embeddings", {}).get("dim", 0)
        self.voice = nn.Linear(voice_dim, options.content_dim) if voice_dim else None
        self.modules["content"] = self.content
        self.optimizers["generator"].add_param_group({"params": list(self.content.parameters())})
        if self.voice is not None:
            self.modules["voice"] = self.voice
            self.optimizers["generator"].add_param_group({"params": list(self.voice.parameters())})
        self.commitment = torch.zeros(())

    @classmethod
    def data_needs(cls, options: ContentStage) -> DataNeeds:
        return DataNeeds(options.segment_frames, audio=True)

    def prepare(self, batch: Batch) -> Batch:
        """c, with the voice print added to each frame, in the place of the features."""
        hidden, self.commitment = self.content(batch.features, batch.phones)
        if self.voice is not None:
            hidden = hidden + self.voice(batch.voice)[:, None]
        return Batch(batch.utt_ids, hidden, batch.audio)

    def forward(self, batch: Batch) -> Synthesis:
        synthesis = super().forward(batch)
        return replace(synthesis, losses=synthesis.losses | {"commitment": self.commitment})

    @property
    def exported(self) -> nn.Module:
        return self.content

    def architecture(self) -> dict[str, Any]:
        return {**super().architecture(), "system": "takin", **self.content_config}


def content_config(options: ContentStage | FlowStage, inputs: StageInputs) -> dict[str, Any]:
    """What `HybridContent` is built from."""
    dims = {"feature_dim": inputs.feature_dim, "phones_dim": inputs.others.get("phones", {}).get("dim", 0)}
    return {key: dims[key] if key in dims else getattr(options, key) for key in CONTENT}


@dataclass(frozen=True)
class Prediction:
    """v and u at x_t, and the content encoder's commitment."""

    velocity: Tensor  # (batch, T, bands)
    target: Tensor
    commitment: Tensor


class FlowTraining(TrainingStage):
    """Stage 2: |v - u|^2 + lambda_vq commitment, the content encoder learning on."""

    def __init__(self, options: FlowStage, inputs: StageInputs) -> None:
        self.options, self.inputs = options, inputs
        self.model = Takin(self.architecture())
        if "content" in inputs.models:
            self._take_content(inputs.models["content"])
        if options.start_from:
            self._start_from(Path(bundled(options.start_from)))
        self.modules = {"model": self.model}
        self.optimizers = {"model": adamw(self.model, options)}

    @classmethod
    def data_needs(cls, options: FlowStage) -> DataNeeds:
        prompts = round(options.prompt_min_s * FRAMES_PER_SECOND), round(options.prompt_max_s * FRAMES_PER_SECOND)
        return DataNeeds(options.segment_frames, mels=True, prompt_frames=prompts)

    @classmethod
    def build(cls, options: FlowStage, inputs: StageInputs) -> Self:
        return cls(options, inputs)

    def _take_content(self, folder: Path) -> None:
        """The content encoder that stage 1 trained."""
        must_agree("flow", "the model of stage `content`", read_model_config(folder), self.architecture(), CONTENT)
        load_weights(self.model.content, folder)

    def _start_from(self, folder: Path) -> None:
        """Take the weights of another model of the same architecture on the same features."""
        theirs = read_model_config(folder)
        must_agree("flow.start_from", self.options.start_from, theirs, self.architecture(), (*CONTENT, *FLOW))
        load_weights(self.model, folder)

    def updates(self, step: int) -> tuple[str, ...]:
        return ("model",)

    def learning_rate(self, step: int) -> float:
        return warmed_up_rate(self.options, step)

    def forward(self, batch: Batch) -> Prediction:
        """One point of each item's path. Its noise, its t, and whether its condition is dropped are drawn by item."""
        data = normalize(batch.mels)
        names = batch.utt_ids if batch.chance is None else [float(chance) for chance in batch.chance]
        noise, t, chance = draw(names, data)
        condition, commitment = self._condition(batch)
        if batch.chance is not None:
            condition = condition.dropped(chance < self.options.condition_dropout)
        x, target = on_path(data, noise, t)
        return Prediction(self.model(x, t, condition), target, commitment)

    def _condition(self, batch: Batch) -> tuple[Condition, Tensor]:
        frames = mel_frames(batch.prompt_frames, frame_rate(self.inputs.others.get("mels", {})))
        return self.model.condition(
            batch.features, batch.phones, normalize(batch.prompt_mels), frames, batch.voice, batch.mels.shape[1]
        )

    def losses(self, update: str, batch: Batch, output: Prediction, step: int) -> dict[str, Tensor]:
        flow = flow_loss(output.velocity, output.target)
        total = flow + self.options.vq_weight * output.commitment
        return {"total": total, "flow": flow, "commitment": output.commitment}

    def validate(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor | None]:
        """The loss, and the L1 of the mel that ten Euler steps make of the item's own content and other speech."""
        prediction = self.forward(batch)
        condition, _ = self._condition(batch)
        noise, _, _ = draw(batch.utt_ids, batch.mels)
        made = self.model.sample(condition, noise)
        return {"flow": flow_loss(prediction.velocity, prediction.target), "mel": F.l1_loss(made, batch.mels)}, None

    @property
    def exported(self) -> nn.Module:
        return self.model

    def architecture(self) -> dict[str, Any]:
        inputs, options = self.inputs, self.options
        dims = {role: inputs.others.get(role, {}).get("dim", 0) for role in ("mels", "speaker_embeddings")}
        sizes = {"bands": dims["mels"], "speaker_dim": dims["speaker_embeddings"]}
        mels = dict(inputs.others.get("mels", {}))
        return {
            "system": "takin",
            **({"mels": mels} if frame_rate(mels) != FRAMES_PER_SECOND else {}),
            **content_config(options, inputs),
            **{key: sizes[key] if key in sizes else getattr(options, key) for key in FLOW},
            "features": dict(inputs.features),
            "phones": dict(inputs.others.get("phones", {})),
            "speaker_embeddings": dict(inputs.others.get("speaker_embeddings", {})),
        }


def draw(names: Any, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Noise of the shape of ``like`` (batch, ...), t and another number in [0, 1) ``(batch,)``: each item's own."""
    noise, numbers = [], []
    for name in names:
        generator = item_generator("training", name)
        noise.append(torch.randn(like.shape[1:], generator=generator))
        numbers.append(torch.rand(2, generator=generator))
    t, chance = torch.stack(numbers).to(like.device).unbind(1)
    return torch.stack(noise).to(like.device), t, chance


def must_agree(
    where: str, name: str, theirs: Mapping[str, Any], ours: Mapping[str, Any], keys: tuple[str, ...]
) -> None:
    """Weights only fit a model of the same architecture."""
    for key in keys:
        if theirs.get(key) != ours[key]:
            raise BowerbirdError(
                f"{where}: {name}: its {key} is {theirs.get(key)!r}, this stage's is {ours[key]!r}; give both the same"
            )


STAGES = {"ppg": PpgTraining, "content": ContentTraining, "flow": FlowTraining}
