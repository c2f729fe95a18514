"""QR-VC, ready to convert."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from safetensors.torch import load_file
from torch import nn

from bowerbird.artifacts.models import load_weights, read_model_config
from bowerbird.config.systems.qrvc import QrvcExperiment
from bowerbird.systems.base import Conversion, System, Utterance, check_models, features_of
from bowerbird.systems.qrvc.network import Disentangler
from bowerbird.systems.vocoder.network import build_generator
from bowerbird.systems.vocoder.synthesis import Vocoder


class QrVC(System[QrvcExperiment]):
    """Content and variation of the source, the mean residual of the target."""

    def __init__(self, disentangler: Disentangler, vocoder: Vocoder) -> None:
        self.disentangler, self.vocoder = disentangler.eval(), vocoder

    @classmethod
    def load(cls, experiment: QrvcExperiment, models: Mapping[str, Path], device: torch.device) -> Self:
        """The model of stage `resynthesis`; it holds its centroids."""
        check_models(models, ("resynthesis",), "QR-VC")
        folder = models["resynthesis"]
        config = read_model_config(folder)
        generator = build_generator(config["generator"], config["input_dim"])
        centroids = load_file(folder / "model.safetensors")["disentangler.quantizer.centroids"]
        disentangler = Disentangler(centroids, config["variation_dim"], config["assignment"])
        load_weights(nn.ModuleDict({"disentangler": disentangler, "generator": generator}), folder)
        return cls(disentangler.to(device), Vocoder(generator, config, device))

    def convert(
        self, source: Utterance, references: list[Utterance], trial: Mapping[str, Any] | None = None
    ) -> Conversion:
        """H(Q_source, R_source, s_target), vocoded; ``details`` holds the seconds of each step."""
        started = time.perf_counter()
        quantized, residual = self.disentangler.split(features_of(source, "QR-VC")[None])
        target = torch.cat([features_of(reference, "QR-VC") for reference in references])
        _, target_residual = self.disentangler.split(target[None])
        hidden = self.disentangler.combine(quantized, residual, target_residual.mean(dim=1))[0]
        done = time.perf_counter()
        wave = self.vocoder.vocode(hidden)
        seconds = {"disentangler": done - started, "vocoding": time.perf_counter() - done}
        return Conversion(wave, hidden, {"seconds": seconds})


SYSTEM = QrVC
