"""Palindromic VC: "From A to B to A" (Mandel and Chazan 2026, arXiv 2606.08843).

Retrieval makes the training data, and is gone at conversion. Notation of the paper: capitals are features, small letters
waveforms; A is the target speaker, B a donor.

    pairs     A_1 -> B^_1     each frame of A's utterance replaced by the mean of its k nearest frames of B (`bowerbird.pairs`)
    stage 1   vocoder         features -> wave, MR-STFT + adversarial losses (`systems/vocoder.py`, losses: palindromic)
    stage 2   converter       A~_1 = T(B^_1; A_2), A_2 another utterance of A:
                              L = |A~_1 - A_1|  +  lambda_spk L_spk(a~_1, a_2),   a~_1 = vocoder(A~_1), the vocoder frozen
                              L_spk = 1 - cos(e(a~_1), e(a_2))  +  lambda_hid |h(a~_1) - h(a_2)|
                              with embedding e and hidden maps h of a frozen speaker verifier (ECAPA-TDNN)
    stage 3   revocoder       a new vocoder, stage 1's losses, on A~_1 instead of A_1
    convert   source S, prompt A: vocoder(T(S; A)); the source's own features stand where B^_1 stood

Where the paper is silent we chose, and say so: rotary positions; T predicts the difference to its input (its last layer
starts at zero, so training starts from "no conversion"); L_spk compares hidden maps by their means over time, because
a~_1 and a_2 have neither the same words nor the same length; the speaker loss warms up linearly.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bowerbird.artifacts import BowerbirdError
from bowerbird.audio import HOP
from bowerbird.config import bundled
from bowerbird.encoders.speaker import load_speaker_judge
from bowerbird.experiments import ConverterStage, RevocoderStage
from bowerbird.nn.transformer import Transformer
from bowerbird.systems.base import (
    Batch,
    Conversion,
    DataNeeds,
    StageInputs,
    System,
    TrainingStage,
    Utterance,
    adamw,
    warmed_up_rate,
)
from bowerbird.systems.vocoder import Vocoder, VocoderTraining, load_vocoder, load_weights, read_model_config

FRAMES_PER_SECOND = 50
INPUT, PROMPT = 0, 1  # rows of the segment embedding


# ------------------------------------------------------------------------------------------------------------ converter
class Converter(nn.Module):
    """T(B^; A): features of any voice to features of the prompt's (section 3.2: 6 layers, 16 heads, width 1024: 77 M).

    ``concat``: prompt and input are one sequence, told apart by segment embeddings. ``cross_attention``: the input's
    layers also look at the prompt.
    """

    def __init__(
        self,
        feature_dim: int,
        layers: int = 6,
        heads: int = 16,
        width: int = 1024,
        feedforward: int = 4096,
        dropout: float = 0.1,
        conditioning: str = "concat",
    ) -> None:
        super().__init__()
        self.conditioning = conditioning
        cross = conditioning == "cross_attention"
        self.inward = nn.Linear(feature_dim, width)
        self.segment = nn.Embedding(2, width)
        self.transformer = Transformer(layers, width, heads, feedforward, dropout, cross=cross)
        self.outward = nn.Linear(width, feature_dim)
        nn.init.normal_(self.segment.weight, std=0.02)
        nn.init.zeros_(self.outward.weight)
        nn.init.zeros_(self.outward.bias)

    def forward(self, features: Tensor, prompt: Tensor, prompt_frames: Tensor) -> Tensor:
        """``features`` (batch, L1, dim), ``prompt`` (batch, L2, dim) of which ``prompt_frames`` (batch,) are speech.

        Returns A~ (batch, L1, dim).
        """
        batch, length, _ = features.shape
        x = self.inward(features) + self.segment.weight[INPUT]
        memory = self.inward(prompt) + self.segment.weight[PROMPT]
        everywhere = torch.ones(batch, length, dtype=torch.bool, device=x.device)
        heard = torch.arange(prompt.shape[1], device=x.device) < prompt_frames[:, None]  # (batch, L2)
        places, prompt_places = (torch.arange(n, device=x.device) for n in (length, prompt.shape[1]))
        if self.conditioning == "cross_attention":
            x = self.transformer(x, places, everywhere, memory, prompt_places, heard)
        else:
            sequence = torch.cat([memory, x], dim=1)  # (batch, L2 + L1, width)
            positions = torch.cat([prompt_places, places + prompt.shape[1]])
            mask = torch.cat([heard, everywhere], dim=1)
            x = self.transformer(sequence, positions, mask)[:, prompt.shape[1] :]
        return features + self.outward(x)


def build_converter(config: Mapping[str, Any]) -> Converter:
    """The converter that `ConverterTraining.architecture` describes."""
    keys = ("layers", "heads", "width", "feedforward", "dropout", "conditioning")
    return Converter(config["feature_dim"], **{key: config[key] for key in keys})


def load_converter(folder: Path) -> Converter:
    """A trained converter, frozen."""
    config = read_model_config(folder)
    converter = build_converter(config)
    load_weights(converter, folder)
    return converter.eval().requires_grad_(False)


# --------------------------------------------------------------------------------------------------------- speaker loss
class SpeakerLoss(nn.Module):
    """L_spk = 1 - cos(e(a~_1), e(a_2)) + lambda_hid |h(a~_1) - h(a_2)|, a mean over items.

    ``judge`` is frozen and differentiable in the wave: ``judge.judge(wave)`` gives an embedding (batch, d) and hidden maps
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
        embedding, hidden = self.judge.judge(wave)
        return embedding, [h.mean(dim=-1) for h in hidden]


# -------------------------------------------------------------------------------------------------------------- stage 2
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
            self.speaker_loss = SpeakerLoss(load_speaker_judge(options.speaker_encoder), options.hidden_weight)
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


# -------------------------------------------------------------------------------------------------------------- stage 3
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


# ----------------------------------------------------------------------------------------------------------- conversion
class Palindromic(System):
    """vocoder(T(S; A)): no retrieval."""

    def __init__(self, converter: Converter, vocoder: Vocoder, prompt_s: float) -> None:
        self.converter, self.vocoder, self.prompt_s = converter, vocoder, prompt_s

    @classmethod
    def load(cls, experiment: Any, models: Mapping[str, Path], device: torch.device) -> Self:
        role = "revocoder" if experiment.synthesis == "stage3" else "vocoder"
        for needed in ("converter", role):
            if needed not in models:
                raise BowerbirdError(f"--models: Palindromic VC needs {needed}=FOLDER")
        return cls(
            load_converter(models["converter"]).to(device), load_vocoder(models[role], device), experiment.prompt_s
        )

    def convert(
        self, source: Utterance, references: list[Utterance], trial: Mapping[str, Any] | None = None
    ) -> Conversion:
        """``source`` prompted by the first `prompt_s` seconds of ``references``; ``details`` say how much there was."""
        started = time.perf_counter()
        for utterance in (source, *references):
            if utterance.features is None or not len(utterance.features):
                raise BowerbirdError(f"{utterance.utt_id}: has no features; Palindromic VC needs them")
        prompt = torch.cat([reference.features for reference in references]).float()
        prompt = prompt[: round(self.prompt_s * FRAMES_PER_SECOND)]
        frames = torch.tensor([len(prompt)], device=prompt.device)
        converted = self.converter(source.features.float()[None], prompt[None], frames)[0]
        done = time.perf_counter()
        wave = self.vocoder.vocode(converted)
        seconds = {"converter": done - started, "vocoding": time.perf_counter() - done}
        return Conversion(wave, converted, {"seconds": seconds, "prompt_s": len(prompt) / FRAMES_PER_SECOND})
