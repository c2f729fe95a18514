"""Training stage `resynthesis`.

Letters: ``B`` batch, ``C`` frames of context, ``D`` feature dimension.
"""

from __future__ import annotations

import logging
from typing import Any

from safetensors.torch import load_file
from torch import Tensor, nn

from bowerbird.artifacts.models import check_architecture, read_model_config, weights_of_part
from bowerbird.config.systems.qrvc import ResynthesisStage
from bowerbird.errors import BowerbirdError
from bowerbird.systems.base import Batch, BatchSpec, StageInputs, TrainingStage, crop_in_context
from bowerbird.systems.qrvc.network import Disentangler
from bowerbird.systems.vocoder.training import VocoderTraining

logger = logging.getLogger(__name__)


class ResynthesisTraining(VocoderTraining[ResynthesisStage]):
    """Disentangler and generator end to end, on crops long enough for the residual's mean to be the speaker.

    The losses are those of the vocoder, ``VocoderTraining.losses``, with the weights ``qrvc`` of ``loss_weights``.
    """

    name = "resynthesis"

    def __init__(self, options: ResynthesisStage, inputs: StageInputs) -> None:
        self.trained_disentangler: dict[str, Tensor] | None = None  # of the model that this one starts from
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
    def batch_spec(cls, options: ResynthesisStage) -> BatchSpec:
        """Features and audio of `context_frames`; the generator learns on `segment_frames` inside them."""
        roles = frozenset({"features", "frames", "audio", "uniform"})
        return BatchSpec(roles, options.context_frames, options.segment_frames)

    def load_generator(self) -> None:
        """A vocoder's generator, or that of another QR-VC; the latter's disentangler too, if it has the same parts."""
        folder = self.start_folder
        if folder is None or read_model_config(folder).get("system") != "qrvc":
            super().load_generator()
            return
        ours = self.architecture()
        check_architecture(folder, ours, ("generator", "input_dim"), f"{self.name}.start_from")
        weights, theirs = load_file(folder / "model.safetensors"), read_model_config(folder)
        self.generator.load_state_dict(weights_of_part(weights, "generator."))
        differ = [key for key in ("variation_dim", "assignment") if theirs.get(key) != ours[key]]
        if differ:
            logger.warning(
                "start_from: %s: its %s differs: only its generator is taken", folder.name, " and ".join(differ)
            )
        else:
            self.trained_disentangler = weights_of_part(weights, "disentangler.")

    def _start_disentangler(self) -> None:
        """From trained weights with this study's codebook; otherwise near identity, where the generator is trained."""
        if self.trained_disentangler is not None:
            centroids = {"quantizer.centroids": self.disentangler.quantizer.centroids}
            self.disentangler.load_state_dict(self.trained_disentangler | centroids)
        elif self.options.start_from:
            self.disentangler.start_near_identity()

    def prepare(self, batch: Batch) -> Batch:
        """H ``(B, C, D)`` in the place of S; in training a crop of it and of the audio."""
        return crop_in_context(batch, self.disentangler(batch.features, batch.frames), self.options.segment_frames)

    @property
    def exported(self) -> nn.Module:
        """Disentangler and generator."""
        return nn.ModuleDict({"disentangler": self.disentangler, "generator": self.generator})

    def architecture(self) -> dict[str, Any]:
        """The generator's, and the parts of the disentangler."""
        options = self.options
        return super().architecture() | {
            "system": "qrvc",
            "variation_dim": options.variation_dim,
            "assignment": options.assignment,
        }


STAGES: dict[str, type[TrainingStage]] = {ResynthesisTraining.name: ResynthesisTraining}
