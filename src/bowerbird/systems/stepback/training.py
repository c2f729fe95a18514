"""Training stages `preparation`, `classifier` and `dual_flow`.

Letters: ``B`` batch, ``T`` frames, ``M`` bins of the spectrogram, ``E`` dimension of an embedding.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bowerbird.artifacts.models import load_weights, read_model_config
from bowerbird.config.systems.stepback import ClassifierStage, DualFlowStage, PreparationStage, SpectrogramStage
from bowerbird.errors import BowerbirdError
from bowerbird.nn.multitarget import SpectrogramEncoder
from bowerbird.systems.base import Batch, BatchSpec, StageInputs, TrainingStage, prompt_range
from bowerbird.systems.stepback.corruption import degrade
from bowerbird.systems.stepback.network import (
    SIZES,
    Autoencoder,
    Candidates,
    SpeakerEmbeddings,
    accuracy,
    build_classifier,
    embedding_dim,
    load_autoencoder,
    log_prob_of_others,
    log_probabilities,
    next_other_speaker,
)

SpectrogramOptionsT = TypeVar("SpectrogramOptionsT", bound=SpectrogramStage)


class SpectrogramTraining(TrainingStage[SpectrogramOptionsT]):
    """What the three stages have in common: data, learning rate, Adam, starting weights."""

    config: dict[str, Any]  # of the result

    @classmethod
    def batch_spec(cls, options: SpectrogramOptionsT) -> BatchSpec:
        """Spectrograms, their speakers, and `reference_s` of other speech of each one."""
        roles = frozenset({"features", "speaker", "prompt_frames", "prompt_audio"})
        prompts = prompt_range(options.reference_s, options.reference_s)
        return BatchSpec(roles, options.segment_frames, prompt_frames=prompts)

    def adam(self, module: nn.Module, rate: float = 1.0) -> torch.optim.Adam:
        """Adam of a module, at ``rate`` times the learning rate."""
        betas = (self.options.beta1, self.options.beta2)
        groups: list[dict[str, Any]] = [{"params": list(module.parameters()), "rate": rate}]
        return torch.optim.Adam(groups, self.options.learning_rate, betas)

    def load_matching_start(self) -> None:
        """Load the weights of the model that `start_from` names, if any; all sizes must agree."""
        self.load_start(self.exported, [key for key in self.config if key not in ("features", "dropout", "scale")])

    def learning_rate(self, step: int) -> float:
        """The learning rate at ``step``, which falls by `lr_decay` per `lr_decay_steps`."""
        return self.options.learning_rate * self.options.lr_decay ** (step // self.options.lr_decay_steps)

    def updates(self, step: int) -> tuple[str, ...]:
        """Every step moves all optimizers."""
        return tuple(self.optimizers)

    def architecture(self) -> dict[str, Any]:
        """What the result is built from."""
        return self.config


class PreparationTraining(SpectrogramTraining[PreparationStage]):
    """Stage 1: L_rec."""

    name = "preparation"

    def __init__(self, options: PreparationStage, inputs: StageInputs) -> None:
        super().__init__(options, inputs)
        is_reference = options.speakers == "reference"
        self.config = {
            "system": "stepback",
            "part": "autoencoder",
            "feature_dim": inputs.feature_dim,
            "features": dict(inputs.features),
            "speakers": options.speakers,
            "speaker_encoder": options.speaker_encoder if is_reference else "",
            "names": [] if is_reference else list(inputs.speakers),
            **{key: getattr(options, key) for key in SIZES},
        }
        self.embeddings = SpeakerEmbeddings(self.config)
        verifier = self.embeddings.verifier
        self.config["speaker_dim"] = options.speaker_dim if verifier is None else embedding_dim(verifier)
        self.autoencoder = Autoencoder(self.config)
        self.modules = {"autoencoder": self.autoencoder, "embeddings": self.embeddings}
        self.optimizers = {"autoencoder": self.adam(self.autoencoder)}
        self.load_matching_start()

    def forward(self, batch: Batch) -> Tensor:
        """D(E(x), s), ``(B, T, M)``."""
        return self.autoencoder(batch.features, self.embeddings(batch, self.autoencoder))

    def losses(self, update: str, batch: Batch, output: Tensor, step: int) -> dict[str, Tensor]:
        """L_rec."""
        loss = F.l1_loss(output.float(), batch.features)
        return {"total": loss, "reconstruction": loss}

    def validate(self, batch: Batch) -> tuple[dict[str, Tensor], None]:
        """L_rec of one whole utterance."""
        return {"reconstruction": F.l1_loss(self.forward(batch).float(), batch.features)}, None

    @property
    def exported(self) -> nn.Module:
        """Encoder, decoder, and the table, where speakers are learned."""
        return self.autoencoder


class ClassifierTraining(SpectrogramTraining[ClassifierStage]):
    """Stage 2: L_clf on recordings, and on what stage 1 makes of them, because stage 3 asks it about such."""

    name = "classifier"

    def __init__(self, options: ClassifierStage, inputs: StageInputs) -> None:
        super().__init__(options, inputs)
        self.autoencoder, prepared = load_autoencoder(inputs.models["preparation"])
        self.embeddings = SpeakerEmbeddings(prepared)
        keys = ("system", "feature_dim", "speakers", "speaker_encoder", "names")
        self.config = {
            **{key: prepared[key] for key in keys},
            "part": "classifier",
            "outputs": len(prepared["names"]) if self.embeddings.from_table else prepared["speaker_dim"],
            "channels": options.channels,
            "dropout": options.dropout,
            "scale": options.scale,
        }
        self.classifier = build_classifier(self.config)
        self.modules = {
            "classifier": self.classifier,
            "autoencoder": self.autoencoder,
            "embeddings": self.embeddings,
        }
        self.optimizers = {"classifier": self.adam(self.classifier)}
        self.load_matching_start()

    def forward(self, batch: Batch) -> Tensor:
        """The speakers' embeddings ``(B, E)``."""
        return self.embeddings(batch, self.autoencoder)

    def losses(self, update: str, batch: Batch, output: Tensor, step: int) -> dict[str, Tensor]:
        """L_clf of recordings and of reconstructions, and the accuracy on recordings."""
        candidates = Candidates.of(batch, output, self.embeddings.from_table)
        scores = log_probabilities(self.classifier, batch.features, candidates, self.options.scale)
        losses = {"recordings": F.nll_loss(scores, candidates.labels), "accuracy": accuracy(scores, candidates.labels)}
        total, weight = losses["recordings"], self.options.reconstructed_weight
        if weight:
            with torch.no_grad():
                made = self.autoencoder(batch.features, output).float()
            scores = log_probabilities(self.classifier, made, candidates, self.options.scale)
            losses["reconstructions"] = F.nll_loss(scores, candidates.labels)
            total = total + weight * losses["reconstructions"]
        return {"total": total, **losses}

    def validate(self, batch: Batch) -> tuple[dict[str, Tensor], None]:
        """Cosine of the classifier's output to the speaker's embedding (`reference`); the largest probability (`table`)."""
        output = self.classifier(batch.features).float()
        if self.embeddings.from_table:
            return {"confidence": output.softmax(dim=1).amax(dim=1).mean()}, None
        return {"cosine": F.cosine_similarity(output, self.forward(batch)).mean()}, None

    @property
    def exported(self) -> nn.Module:
        """The classifier."""
        return self.classifier


class SharedLatent:
    """What the two updates of a step share: the speakers' embeddings ``(B, E)``, and the content z of both flows.

    z is encoded when it is first asked for: a step of robustness needs none.
    """

    def __init__(self, encoder: SpectrogramEncoder, spectrogram: Tensor, speakers: Tensor) -> None:
        self._encoder, self._spectrogram, self.speakers = encoder, spectrogram, speakers

    @cached_property
    def content(self) -> Tensor:
        """z, as the encoder gives it."""
        return self._encoder(self._spectrogram)


class DualFlowTraining(SpectrogramTraining[DualFlowStage]):
    """Stage 3: small stages in turn. The encoder moves in each, the decoder (slower) in those of the dual flow.

    The loop differentiates the losses of an update with respect to that optimizer's parameters alone; so L_amend and L_rob,
    which only the update "encoder" has, reach the encoder through a decoder that stands still. C is frozen throughout.
    """

    name = "dual_flow"

    def __init__(self, options: DualFlowStage, inputs: StageInputs) -> None:
        super().__init__(options, inputs)
        self.autoencoder, self.config = load_autoencoder(inputs.models["preparation"])
        self.config.pop("identity", None)
        if self.config["feature_dim"] != inputs.feature_dim:
            raise BowerbirdError(
                f"--models: preparation: it reads {self.config['feature_dim']} bins, the shards have "
                f"{inputs.feature_dim}; train all stages on the same features"
            )
        self.autoencoder.requires_grad_(True)
        self._load_classifier()
        self.embeddings = SpeakerEmbeddings(self.config)
        self.modules = {
            "autoencoder": self.autoencoder,
            "classifier": self.classifier,
            "embeddings": self.embeddings,
        }
        outward = nn.ModuleList([self.autoencoder.decoder])
        if self.autoencoder.table is not None:
            outward.append(self.autoencoder.table)
        self.optimizers = {"encoder": self.adam(self.autoencoder.encoder)}
        self.optimizers["decoder"] = self.adam(outward, options.decoder_rate)
        self.load_matching_start()

    def _load_classifier(self) -> None:
        """The classifier of stage 2, frozen; it must have been trained after this preparation."""
        folder = self.inputs.models["classifier"]
        config = read_model_config(folder)
        for key in ("feature_dim", "speakers", "speaker_encoder", "names"):
            if config[key] != self.config[key]:
                raise BowerbirdError(
                    f"--models: classifier: its {key} differ from the preparation's; train it after this preparation"
                )
        self.scale, self.classifier = config["scale"], build_classifier(config)
        load_weights(self.classifier, folder)
        self.classifier.eval().requires_grad_(False)

    def is_robustness(self, step: int) -> bool:
        """Whether the small stage of this step is the one of robustness."""
        every = self.options.robustness_every
        return bool(every) and step % every == 0

    def updates(self, step: int) -> tuple[str, ...]:
        """The encoder alone in a step of robustness."""
        return ("encoder",) if self.is_robustness(step) else ("encoder", "decoder")

    def ramp(self, step: int, start: int, length: int) -> float:
        """0 up to step ``start``, then rising to 1 over ``length`` steps."""
        since = step - start
        return 0.0 if since <= 0 else min(1.0, since / length) if length else 1.0

    def forward(self, batch: Batch) -> SharedLatent:
        """Embeddings ``(B, E)`` of the speakers, and z of ``(B, T, M)``."""
        return SharedLatent(self.autoencoder.encoder, batch.features, self.embeddings(batch, self.autoencoder))

    def losses(self, update: str, batch: Batch, output: SharedLatent, step: int) -> dict[str, Tensor]:
        """The losses of the small stage of this step; of the dual flow, L_amend for the encoder alone."""
        if self.is_robustness(step):
            return self._robustness(batch, output.speakers.detach())
        if update == "encoder":
            return self._dual_flow(batch, output.content, output.speakers.detach(), step)
        return self._dual_flow(batch, output.content.detach(), output.speakers, step, is_amended=False)

    def _robustness(self, batch: Batch, speakers: Tensor) -> dict[str, Tensor]:
        """L_rob: the content of a noisy spectrogram is decoded to the clean one."""
        low, high = self.options.snr_min_db, self.options.snr_max_db
        content = self.autoencoder.encoder(degrade(batch.features, low, high))
        made = self.autoencoder.decoder(content, speakers, batch.features.shape[1])
        loss = F.l1_loss(made.float(), batch.features)
        return {"total": self.options.robustness_weight * loss, "robustness": loss}

    def _dual_flow(
        self, batch: Batch, content: Tensor, speakers: Tensor, step: int, is_amended: bool = True
    ) -> dict[str, Tensor]:
        """L_rec, L_to, L_away, and L_amend where ``is_amended``, with their weights at ``step``."""
        options, x = self.options, batch.features
        other = next_other_speaker(batch.speaker)
        both = self.autoencoder.decoder(content.repeat(2, 1, 1), torch.cat([speakers, speakers[other]]), x.shape[1])
        own, converted = both.float().chunk(2)  # x_s, x_t: (B, T, M)
        losses = {"reconstruction": F.l1_loss(own, x)}
        total = options.reconstruction_weight * losses["reconstruction"]
        has_other = (batch.speaker[other] != batch.speaker).float()  # an item without another speaker has one flow only
        rise = self.ramp(step, options.conversion_from, options.conversion_ramp)
        if rise and (options.toward_weight or options.away_weight):
            candidates = Candidates.of(batch, speakers, self.embeddings.from_table)
            scores = log_probabilities(self.classifier, converted, candidates, self.scale)
            target = candidates.labels[other]
            toward = -scores.gather(1, target[:, None])[:, 0]
            away = -log_prob_of_others(scores, candidates.labels)
            losses |= {"toward": (has_other * toward).mean(), "away": (has_other * away).mean()}
            losses["classified_as_target"] = accuracy(scores, target)
            total = total + rise * (options.toward_weight * losses["toward"] + options.away_weight * losses["away"])
        distance = (converted - x).abs().mean(dim=(1, 2))
        losses["distance"] = distance.detach().mean()
        if is_amended:
            losses["amendment"] = (has_other * F.relu(options.margin - distance)).mean()
            rise = self.ramp(step, options.amendment_from, options.amendment_ramp)
            total = total + rise * options.amendment_weight * losses["amendment"]
        return {"total": total, **losses}

    def validate(self, batch: Batch) -> tuple[dict[str, Tensor], None]:
        """L_rec of one whole utterance, clean and with noise at the middle of its range."""
        speakers, x = self.embeddings(batch, self.autoencoder), batch.features
        level = (self.options.snr_min_db + self.options.snr_max_db) / 2
        return {
            "reconstruction": F.l1_loss(self.autoencoder(x, speakers).float(), x),
            "robustness": F.l1_loss(self.autoencoder(degrade(x, level, level), speakers).float(), x),
        }, None

    @property
    def exported(self) -> nn.Module:
        """Encoder, decoder, and the table, where speakers are learned."""
        return self.autoencoder


STAGES: dict[str, type[TrainingStage]] = {
    stage.name: stage for stage in (PreparationTraining, ClassifierTraining, DualFlowTraining)
}
