"""The recipe that Stepback comes from (Chou et al. 2018, stage 1), as a training stage on the same networks.

A classifier reads the speaker off the content z, and encoder and decoder are trained against it. Of each six steps the classifier
takes five (the authors' setting), encoder and decoder one, with L_rec - 0.01 L_clf. The GAN stage of that paper is left out.

Letters: ``B`` batch, ``L`` latent frames, ``Z`` latent dimension, ``S`` speakers.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from bowerbird.config.systems.stepback import DualFlowStage
from bowerbird.nn.multitarget import LOG_MEAN, LOG_SCALE, SpectrogramClassifier
from bowerbird.systems.base import Batch, StageInputs
from bowerbird.systems.stepback.network import load_autoencoder
from bowerbird.systems.stepback.training import SpectrogramTraining

CLASSIFIER_STEPS = 5  # for each one of encoder and decoder
CLASSIFIER_WEIGHT = 0.01


class ContentClassifier(nn.Module):
    """The speaker of z: the classifier of spectra, on z moved to where it expects spectra."""

    def __init__(self, latent: int, channels: int, speakers: int) -> None:
        super().__init__()
        self.inner = SpectrogramClassifier(latent, channels, speakers, 0.0)

    def forward(self, content: Tensor) -> Tensor:
        """Contents ``(B, L, Z)`` to scores ``(B, S)``."""
        return self.inner(content * LOG_SCALE + LOG_MEAN)


class AdversarialTraining(SpectrogramTraining[DualFlowStage]):
    """The joint stage; with ``is_alone`` set only the classifier is trained, as in its preparation."""

    name = "adversarial"

    def __init__(self, options: DualFlowStage, inputs: StageInputs, ramp_steps: int) -> None:
        """The weight of the classifier's loss rises over ``ramp_steps``."""
        super().__init__(options, inputs)
        self.ramp_steps, self.is_alone = ramp_steps, True
        self.autoencoder, self.config = load_autoencoder(inputs.models["preparation"])
        self.autoencoder.requires_grad_(True)
        speakers = len(self.config["names"])
        self.classifier = ContentClassifier(self.config["latent"], self.config["channels"], speakers)
        self.modules = {"autoencoder": self.autoencoder, "classifier": self.classifier}
        self.optimizers = {"classifier": self.adam(self.classifier), "autoencoder": self.adam(self.autoencoder)}

    def updates(self, step: int) -> tuple[str, ...]:
        """The classifier, and at every sixth step of the joint training encoder and decoder."""
        is_theirs = step % (CLASSIFIER_STEPS + 1) == 0 and not self.is_alone
        return ("autoencoder",) if is_theirs else ("classifier",)

    def forward(self, batch: Batch) -> None:
        """Nothing: a step has one update only."""

    def losses(self, update: str, batch: Batch, output: None, step: int) -> dict[str, Tensor]:
        """L_clf for the classifier, L_rec less its weighted part for encoder and decoder."""
        content = self.autoencoder.encoder(batch.features)
        classification = F.cross_entropy(self.classifier(content), batch.speaker)
        if update == "classifier":
            return {"total": classification}
        speakers = self.autoencoder.table(batch.speaker)
        made = self.autoencoder.decoder(content, speakers, batch.features.shape[1])
        weight = CLASSIFIER_WEIGHT * min(1.0, step / self.ramp_steps)
        return {"total": F.l1_loss(made, batch.features) - weight * classification}

    def validate(self, batch: Batch) -> tuple[dict[str, Tensor], None]:
        """The losses of both updates; no audio."""
        return {name: self.losses(name, batch, None, 0)["total"] for name in ("classifier", "autoencoder")}, None

    @property
    def exported(self) -> nn.Module:
        """Encoder and decoder with the table of speakers."""
        return self.autoencoder
