"""Stage `resynthesis`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from bowerbird.artifacts.models import part, read_model_config
from bowerbird.audio import HOP
from bowerbird.config.systems.qrvc import ResynthesisStage
from bowerbird.errors import BowerbirdError
from bowerbird.systems.base import Batch, DataNeeds, StageInputs
from bowerbird.systems.qrvc.network import Disentangler
from bowerbird.systems.vocoder.training import VocoderTraining

logger = logging.getLogger(__name__)


class ResynthesisTraining(VocoderTraining):
    """The one stage: disentangler and HiFi-GAN end to end, on crops long enough to know the speaker.

    Q, R and s come from `context_frames`; the generator learns on `segment_frames` (28) inside them.
    """

    _trained: dict[str, Tensor] | None = None  # the disentangler that this one starts from

    def __init__(self, options: ResynthesisStage, inputs: StageInputs) -> None:
        super().__init__(options, inputs)
        if inputs.codebook is None:
            raise BowerbirdError("--codebook: missing: QR-VC quantizes with a codebook fitted on its features")
        centroids = load_file(inputs.codebook)["centroids"]
        if centroids.shape[1] != inputs.feature_dim:
            raise BowerbirdError(
                f"{inputs.codebook}: centroids of {centroids.shape[1]} dimensions, features of {inputs.feature_dim}; "
                "name a codebook that was fitted on these features"
            )
        self.disentangler = Disentangler(centroids, options.variation_dim, options.assignment)
        self._start_disentangler()
        self.modules["disentangler"] = self.disentangler
        self.optimizers["generator"].add_param_group({"params": list(self.disentangler.parameters())})

    @classmethod
    def data_needs(cls, options: ResynthesisStage) -> DataNeeds:
        return DataNeeds(options.context_frames, audio=True)

    def _start_from(self, folder: Path) -> None:
        """A vocoder's generator, or that of another QR-VC; the latter's disentangler too, if it has the same parts."""
        if read_model_config(folder).get("system") != "qrvc":
            super()._start_from(folder)
            return
        self._must_match(folder, ("generator", "input_dim"))
        weights = load_file(folder / "model.safetensors")
        self.generator.load_state_dict(part(weights, "generator."))
        theirs, ours = read_model_config(folder), self.architecture()
        differ = [key for key in ("variation_dim", "assignment") if theirs.get(key) != ours[key]]
        if differ:
            logger.warning(
                "start_from: %s: its %s differs: only its generator is taken", folder.name, " and ".join(differ)
            )
        else:
            self._trained = part(weights, "disentangler.")

    def _start_disentangler(self) -> None:
        """From trained weights with this study's codebook; without such near identity, where the generator is trained."""
        if self._trained is not None:
            centroids = {"quantizer.centroids": self.disentangler.quantizer.centroids}
            self.disentangler.load_state_dict(self._trained | centroids)
        elif self.options.start_from:
            self.disentangler.start_near_identity()

    def prepare(self, batch: Batch) -> Batch:
        """H in the place of S; while training a crop of it, and of the audio."""
        hidden = self.disentangler(batch.features)
        if batch.chance is None:  # validation: whole utterances
            return Batch(batch.utt_ids, hidden, batch.audio)
        length = self.options.segment_frames
        starts = (batch.chance * (hidden.shape[1] - length + 1)).long().tolist()
        crops = torch.stack([h[s : s + length] for h, s in zip(hidden, starts, strict=True)])
        audio = torch.stack([a[HOP * s : HOP * (s + length)] for a, s in zip(batch.audio, starts, strict=True)])
        return Batch(batch.utt_ids, crops, audio)

    @property
    def exported(self) -> nn.Module:
        return nn.ModuleDict({"disentangler": self.disentangler, "generator": self.generator})

    def architecture(self) -> dict[str, Any]:
        options = self.options
        return super().architecture() | {
            "system": "qrvc",
            "variation_dim": options.variation_dim,
            "assignment": options.assignment,
        }


STAGES = {"resynthesis": ResynthesisTraining}
