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
from bowerbird.errors import BowerbirdError
from bowerbird.systems.base import Conversion, System, Utterance
from bowerbird.systems.qrvc.network import Disentangler
from bowerbird.systems.vocoder.network import build_generator
from bowerbird.systems.vocoder.synthesis import Vocoder


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


SYSTEM = QrVC
