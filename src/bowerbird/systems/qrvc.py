"""QR-VC: voice conversion by the quantization residual (Sim, Yoon and Suh, arXiv 2411.16147).

    S                         features of a self-supervised encoder, (T, 1024): WavLM-Large, layer 6
    Q = codebook(S)           content: the nearest K-means centroid of each frame (by cosine), frozen
    R = S - Q                 what quantization lost: the speaker, and how it was spoken
    s = mean_t R              speaker: a constant of the utterance
    v = conv1x1(R - s)        speaking variation: 8 channels, too narrow for the speaker
    c = conv3(Q)              content, 1016 channels
    H = [c; v] + conv1x1(s)   (T, 1024), HiFi-GAN's input

    training     resynthesis of one utterance from its own Q, v and s; LSGAN + 2 feature matching + 20 mel
    conversion   Q and v of the source, s of the target

All between S, Q and the vocoder is linear (affine: the convolutions have biases), which a test proves. Sizes as
published: 58.74 M parameters with the generator (HiFi-GAN of 1024 channels whose first layer is the disentangler's
output itself: without that choice the published number does not come out), 46.75 M in the discriminators (VITS's).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from bowerbird.artifacts import BowerbirdError
from bowerbird.audio import HOP
from bowerbird.experiments import ResynthesisStage
from bowerbird.nn.quantizer import Quantizer
from bowerbird.systems.base import Batch, Conversion, DataNeeds, StageInputs, System, Utterance
from bowerbird.systems.vocoder import Vocoder, VocoderTraining, build_generator, load_weights, read_model_config

log = logging.getLogger(__name__)


# --------------------------------------------------------------------------------------------------------- disentangler
class Disentangler(nn.Module):
    """S to H by way of Q, v and s; see the top of this file.

    ``variation_dim`` is the width of the bottleneck (8; 0: no compensation of speaking variation).
    """

    def __init__(self, centroids: Tensor, variation_dim: int = 8, assignment: str = "cosine") -> None:
        super().__init__()
        dim = centroids.shape[1]
        self.quantizer = Quantizer(centroids, assignment)
        self.content = nn.Conv1d(dim, dim - variation_dim, 3, padding=1)
        self.variation = nn.Conv1d(dim, variation_dim, 1) if variation_dim else None
        self.speaker = nn.Conv1d(dim, dim, 1)

    def start_near_identity(self) -> None:
        """Start with H = Q + s, but for the bottleneck's channels: right where the generator was trained on S already."""
        dim = self.content.in_channels
        with torch.no_grad():
            for layer in (self.content, self.speaker):
                layer.weight.mul_(0.02)
                nn.init.zeros_(layer.bias)
            rows = torch.arange(self.content.out_channels)
            self.content.weight[rows, rows, 1] += 1.0
            self.speaker.weight[torch.arange(dim), torch.arange(dim), 0] += 1.0

    def split(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """S ``(batch, T, dim)`` to Q and R, the same shape."""
        quantized, _ = self.quantizer(features)
        return quantized, features - quantized

    def combine(self, quantized: Tensor, residual: Tensor, speaker: Tensor) -> Tensor:
        """Q and R ``(batch, T, dim)`` of the source, s ``(batch, dim)`` of whom it shall sound like, to H ``(batch, T, dim)``.

        Linear in its three arguments together, up to the biases.
        """
        hidden = self.content(quantized.transpose(1, 2))  # (batch, dim - variation_dim, T)
        if self.variation is not None:
            variation = self.variation((residual - residual.mean(dim=1, keepdim=True)).transpose(1, 2))
            hidden = torch.cat([hidden, variation], dim=1)
        return (hidden + self.speaker(speaker.unsqueeze(-1))).transpose(1, 2)

    def forward(self, features: Tensor) -> Tensor:
        """Resynthesis: everything from one utterance."""
        quantized, residual = self.split(features)
        return self.combine(quantized, residual, residual.mean(dim=1))


# ------------------------------------------------------------------------------------------------------------- training
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
            log.warning(
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


def part(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The float32 weights of one module out of those of several."""
    return {name.removeprefix(prefix): tensor.float() for name, tensor in weights.items() if name.startswith(prefix)}


STAGES = {"resynthesis": ResynthesisTraining}


# ----------------------------------------------------------------------------------------------------------- conversion
class QrVC(System):
    """Content and variation of the source, the mean residual of the target."""

    def __init__(self, disentangler: Disentangler, vocoder: Vocoder) -> None:
        self.disentangler, self.vocoder = disentangler.eval(), vocoder

    @classmethod
    def load(cls, experiment: Any, models: Mapping[str, Path], device: torch.device) -> Self:
        if "resynthesis" not in models:
            raise BowerbirdError("--models: QR-VC needs resynthesis=FOLDER")
        folder = models["resynthesis"]
        config = read_model_config(folder)
        generator = build_generator(config["generator"], config["input_dim"])
        codes = load_file(Path(folder) / "model.safetensors")["disentangler.quantizer.centroids"]
        disentangler = Disentangler(codes, config["variation_dim"], config["assignment"])
        load_weights(nn.ModuleDict({"disentangler": disentangler, "generator": generator}), Path(folder))
        return cls(disentangler.to(device), Vocoder(generator, config, device))

    def convert(
        self, source: Utterance, references: list[Utterance], trial: Mapping[str, Any] | None = None
    ) -> Conversion:
        """H(Q_source, R_source, s_target), vocoded; ``details`` hold the seconds of each step."""
        started = time.perf_counter()
        for utterance in (source, *references):
            if utterance.features is None or not len(utterance.features):
                raise BowerbirdError(f"{utterance.utt_id}: has no features; QR-VC needs them")
        quantized, residual = self.disentangler.split(source.features.float()[None])
        target = torch.cat([reference.features for reference in references]).float()
        _, target_residual = self.disentangler.split(target[None])
        hidden = self.disentangler.combine(quantized, residual, target_residual.mean(dim=1))[0]
        done = time.perf_counter()
        wave = self.vocoder.vocode(hidden)
        seconds = {"disentangler": done - started, "vocoding": time.perf_counter() - done}
        return Conversion(wave, hidden, {"seconds": seconds})
