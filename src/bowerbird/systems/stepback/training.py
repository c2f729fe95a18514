"""Stages `preparation`, `classifier` and `dual_flow`."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bowerbird.artifacts.models import load_weights, read_model_config
from bowerbird.config.paths import bundled
from bowerbird.config.systems.stepback import ClassifierStage, DualFlowStage, PreparationStage, SpectrogramStage
from bowerbird.errors import BowerbirdError
from bowerbird.nn.multitarget import Encoder
from bowerbird.systems.base import Batch, DataNeeds, StageInputs, TrainingStage
from bowerbird.systems.stepback.corruption import degrade
from bowerbird.systems.stepback.network import (
    FRAMES_PER_SECOND,
    SIZES,
    Autoencoder,
    Candidates,
    Voices,
    build_classifier,
    load_autoencoder,
    log_probabilities,
    voice_dim,
)


def another(speaker: Tensor) -> Tensor:
    """For each item the place of the next one of another speaker, ``(batch,)``; its own where all are of one."""
    count = len(speaker)
    places = torch.arange(count, device=speaker.device)
    following = (places[:, None] + places) % count  # row i: i, i + 1, ...
    differs = speaker[following] != speaker[:, None]
    return following[places, differs.int().argmax(dim=1)]


class SpectrogramTraining(TrainingStage):
    """What the three stages share: data, learning rate, Adam, starting weights."""

    options: SpectrogramStage
    config: dict[str, Any]  # of the result

    @classmethod
    def data_needs(cls, options: SpectrogramStage) -> DataNeeds:
        length = round(options.reference_s * FRAMES_PER_SECOND)
        return DataNeeds(options.segment_frames, audio=True, speakers=True, prompt_frames=(length, length))

    @classmethod
    def build(cls, options: Any, inputs: StageInputs) -> Self:
        return cls(options, inputs)

    def __init__(self, options: Any, inputs: StageInputs) -> None:
        self.options, self.inputs = options, inputs

    def adam(self, module: nn.Module, rate: float = 1.0) -> torch.optim.Adam:
        """Adam of a module, at ``rate`` times the learning rate."""
        betas = (self.options.beta1, self.options.beta2)
        return torch.optim.Adam(
            [{"params": list(module.parameters()), "rate": rate}], self.options.learning_rate, betas
        )

    def start(self) -> None:
        """Take the weights of a model of the same architecture, where `start_from` names one."""
        if not self.options.start_from:
            return
        folder = Path(bundled(self.options.start_from))
        theirs = read_model_config(folder)
        for key, ours in self.config.items():
            if key not in ("features", "dropout", "scale") and theirs.get(key) != ours:
                raise BowerbirdError(
                    f"start_from: {self.options.start_from}: its {key} is {theirs.get(key)!r}, this stage's is {ours!r}; "
                    "weights can only start a model of the same architecture"
                )
        load_weights(self.exported, folder)

    def learning_rate(self, step: int) -> float:
        return self.options.learning_rate * self.options.lr_decay ** (step // self.options.lr_decay_steps)

    def updates(self, step: int) -> tuple[str, ...]:
        return tuple(self.optimizers)

    def architecture(self) -> dict[str, Any]:
        return self.config


class PreparationTraining(SpectrogramTraining):
    """Stage 1: L_rec."""

    def __init__(self, options: PreparationStage, inputs: StageInputs) -> None:
        super().__init__(options, inputs)
        reference = options.speakers == "reference"
        self.config = {
            "system": "stepback",
            "part": "autoencoder",
            "feature_dim": inputs.feature_dim,
            "features": dict(inputs.features),
            "speakers": options.speakers,
            "speaker_encoder": options.speaker_encoder if reference else "",
            "names": [] if reference else list(inputs.speakers),
            **{key: getattr(options, key) for key in SIZES},
        }
        self.voices = Voices(self.config)
        self.config["speaker_dim"] = voice_dim(self.voices.verifier) if reference else options.speaker_dim
        self.autoencoder = Autoencoder(self.config)
        self.modules = {"autoencoder": self.autoencoder, "voices": self.voices}
        self.optimizers = {"autoencoder": self.adam(self.autoencoder)}
        self.start()

    def forward(self, batch: Batch) -> Tensor:
        """D(E(x), s)."""
        return self.autoencoder(batch.features, self.voices(batch, self.autoencoder))

    def losses(self, update: str, batch: Batch, output: Tensor, step: int) -> dict[str, Tensor]:
        loss = F.l1_loss(output.float(), batch.features)
        return {"total": loss, "reconstruction": loss}

    def validate(self, batch: Batch) -> tuple[dict[str, Tensor], None]:
        """L_rec of one whole utterance."""
        return {"reconstruction": F.l1_loss(self.forward(batch).float(), batch.features)}, None

    @property
    def exported(self) -> nn.Module:
        return self.autoencoder


class ClassifierTraining(SpectrogramTraining):
    """Stage 2: L_clf on recordings, and on what stage 1 makes of them, as it will be asked about such."""

    def __init__(self, options: ClassifierStage, inputs: StageInputs) -> None:
        super().__init__(options, inputs)
        self.autoencoder, prepared = load_autoencoder(inputs.models["preparation"])
        self.voices = Voices(prepared)
        outputs = prepared["speaker_dim"] if self.voices.reference else len(prepared["names"])
        keys = ("system", "feature_dim", "speakers", "speaker_encoder", "names")
        self.config = {
            **{key: prepared[key] for key in keys},
            "part": "classifier",
            "outputs": outputs,
            "channels": options.channels,
            "dropout": options.dropout,
            "scale": options.scale,
        }
        self.classifier = build_classifier(self.config)
        self.modules = {"classifier": self.classifier, "autoencoder": self.autoencoder, "voices": self.voices}
        self.optimizers = {"classifier": self.adam(self.classifier)}
        self.start()

    def forward(self, batch: Batch) -> Tensor:
        """The voices."""
        return self.voices(batch, self.autoencoder)

    def losses(self, update: str, batch: Batch, output: Tensor, step: int) -> dict[str, Tensor]:
        who = Candidates.of(batch, output, self.voices.reference)
        heard = log_probabilities(self.classifier, batch.features, who, self.options.scale)
        losses = {"recordings": F.nll_loss(heard, who.labels), "accuracy": right(heard, who.labels)}
        total, weight = losses["recordings"], self.options.reconstructed_weight
        if weight:
            with torch.no_grad():
                made = self.autoencoder(batch.features, output).float()
            heard = log_probabilities(self.classifier, made, who, self.options.scale)
            losses["reconstructions"] = F.nll_loss(heard, who.labels)
            total = total + weight * losses["reconstructions"]
        return {"total": total, **losses}

    def validate(self, batch: Batch) -> tuple[dict[str, Tensor], None]:
        """Cosine between what is answered and the voice (`reference`); the largest probability (`table`)."""
        answer = self.classifier(batch.features).float()
        if self.voices.reference:
            return {"cosine": F.cosine_similarity(answer, self.forward(batch)).mean()}, None
        return {"confidence": answer.softmax(dim=1).amax(dim=1).mean()}, None

    @property
    def exported(self) -> nn.Module:
        return self.classifier


def right(log_probability: Tensor, labels: Tensor) -> Tensor:
    """Share of items whose most probable candidate is the right one."""
    return (log_probability.argmax(dim=1) == labels).float().mean()


class Flow:
    """What the two updates of a step share: the voices, and the one content z of both flows, encoded when first asked for."""

    def __init__(self, encoder: Encoder, spectrogram: Tensor, voices: Tensor) -> None:
        self._encoder, self._spectrogram, self.voices = encoder, spectrogram, voices

    @cached_property
    def content(self) -> Tensor:
        return self._encoder(self._spectrogram)


class DualFlowTraining(SpectrogramTraining):
    """Stage 3: small stages in turn. The encoder moves in each, the decoder (slower) in those of the dual flow.

    The loop differentiates the losses of an update with respect to that optimizer's parameters alone; so L_amend and L_rob,
    which only the update "encoder" has, reach the encoder through a decoder that stands still. C is frozen throughout.
    """

    options: DualFlowStage

    def __init__(self, options: DualFlowStage, inputs: StageInputs) -> None:
        super().__init__(options, inputs)
        self.autoencoder, self.config = load_autoencoder(inputs.models["preparation"])
        self.config.pop("identity", None)
        if self.config["feature_dim"] != inputs.feature_dim:
            raise BowerbirdError(
                f"--models: preparation: it reads {self.config['feature_dim']} bands, the shards have "
                f"{inputs.feature_dim}; train all stages on the same features"
            )
        self.autoencoder.requires_grad_(True)
        judge = read_model_config(inputs.models["classifier"])
        for key in ("feature_dim", "speakers", "speaker_encoder", "names"):
            if judge[key] != self.config[key]:
                raise BowerbirdError(
                    f"--models: classifier: its {key} differ from the preparation's; train it after this preparation"
                )
        self.scale, self.classifier = judge["scale"], build_classifier(judge)
        load_weights(self.classifier, inputs.models["classifier"])
        self.classifier.eval().requires_grad_(False)
        self.voices = Voices(self.config)
        self.modules = {"autoencoder": self.autoencoder, "classifier": self.classifier, "voices": self.voices}
        outward = nn.ModuleList([self.autoencoder.decoder])
        if self.autoencoder.table is not None:
            outward.append(self.autoencoder.table)
        self.optimizers = {"encoder": self.adam(self.autoencoder.encoder)}
        self.optimizers["decoder"] = self.adam(outward, options.decoder_rate)
        self.start()

    def is_robustness(self, step: int) -> bool:
        """Whether the small stage of this step is the one of robustness."""
        every = self.options.robustness_every
        return bool(every) and step % every == 0

    def updates(self, step: int) -> tuple[str, ...]:
        return ("encoder",) if self.is_robustness(step) else ("encoder", "decoder")

    def ramp(self, step: int, start: int, length: int) -> float:
        """0 up to step ``start``, then rising to 1 over ``length`` steps."""
        since = step - start
        return 0.0 if since <= 0 else min(1.0, since / length) if length else 1.0

    def forward(self, batch: Batch) -> Flow:
        return Flow(self.autoencoder.encoder, batch.features, self.voices(batch, self.autoencoder))

    def losses(self, update: str, batch: Batch, output: Flow, step: int) -> dict[str, Tensor]:
        if self.is_robustness(step):
            return self._robustness(batch, output.voices.detach())
        if update == "encoder":
            return self._dual_flow(batch, output.content, output.voices.detach(), step, amended=True)
        return self._dual_flow(batch, output.content.detach(), output.voices, step, amended=False)

    def _robustness(self, batch: Batch, voices: Tensor) -> dict[str, Tensor]:
        """L_rob: what the encoder hears in noise is decoded to what was said without."""
        low, high = self.options.snr_min_db, self.options.snr_max_db
        heard = self.autoencoder.encoder(degrade(batch.features, low, high))
        made = self.autoencoder.decoder(heard, voices, batch.features.shape[1])
        loss = F.l1_loss(made.float(), batch.features)
        return {"total": self.options.robustness_weight * loss, "robustness": loss}

    def _dual_flow(self, batch: Batch, content: Tensor, voices: Tensor, step: int, amended: bool) -> dict[str, Tensor]:
        """L_rec, L_to, L_away, and L_amend where ``amended``, with their weights at ``step``."""
        options, x = self.options, batch.features
        other = another(batch.speaker)
        both = self.autoencoder.decoder(content.repeat(2, 1, 1), torch.cat([voices, voices[other]]), x.shape[1])
        own, converted = both.float().chunk(2)  # x_s, x_t: (batch, frames, bands)
        losses = {"reconstruction": F.l1_loss(own, x)}
        total = options.reconstruction_weight * losses["reconstruction"]
        has_other = (batch.speaker[other] != batch.speaker).float()  # an item without another speaker has one flow only
        rise = self.ramp(step, options.conversion_from, options.conversion_ramp)
        if rise and (options.toward_weight or options.away_weight):
            who = Candidates.of(batch, voices, self.voices.reference)
            heard = log_probabilities(self.classifier, converted, who, self.scale)
            toward = -heard.gather(1, who.labels[other, None])[:, 0]
            away = -anyone_but(heard, who.labels)
            losses |= {"toward": (has_other * toward).mean(), "away": (has_other * away).mean()}
            losses["heard_as_target"] = right(heard, who.labels[other])
            total = total + rise * (options.toward_weight * losses["toward"] + options.away_weight * losses["away"])
        distance = (converted - x).abs().mean(dim=(1, 2))
        losses["distance"] = distance.detach().mean()
        if amended:
            losses["amendment"] = (has_other * F.relu(options.margin - distance)).mean()
            rise = self.ramp(step, options.amendment_from, options.amendment_ramp)
            total = total + rise * options.amendment_weight * losses["amendment"]
        return {"total": total, **losses}

    def validate(self, batch: Batch) -> tuple[dict[str, Tensor], None]:
        """L_rec of one whole utterance, clean and with noise at the middle of its range."""
        voices, x = self.voices(batch, self.autoencoder), batch.features
        level = (self.options.snr_min_db + self.options.snr_max_db) / 2
        return {
            "reconstruction": F.l1_loss(self.autoencoder(x, voices).float(), x),
            "robustness": F.l1_loss(self.autoencoder(degrade(x, level, level), voices).float(), x),
        }, None

    @property
    def exported(self) -> nn.Module:
        return self.autoencoder


def anyone_but(log_probability: Tensor, labels: Tensor) -> Tensor:
    """log (1 - p(label)) of each item, ``(batch,)``: the others' probabilities, summed; a lone candidate gives log 1e-6."""
    hidden = log_probability.scatter(1, labels[:, None], float("-inf"))
    lowest = torch.full_like(log_probability[:, :1], -13.8)
    return torch.cat([hidden, lowest], dim=1).logsumexp(dim=1)


STAGES = {"preparation": PreparationTraining, "classifier": ClassifierTraining, "dual_flow": DualFlowTraining}
