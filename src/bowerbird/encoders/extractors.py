"""What a variant of `features` names, opened: frames of an encoder, or one voice print an utterance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bowerbird.artifacts import BowerbirdError
from bowerbird.audio import SAMPLE_RATE
from bowerbird.config import VOICE_PRINT, FeaturesConfig

from .selfsupervised import FeatureExtractor, to_float16
from .speaker import load_voice_encoder


class VoicePrintExtractor:
    """A speaker encoder as features: one row an utterance, of its first `max_window_s` seconds."""

    shortest = 1

    def __init__(self, options: FeaturesConfig, device: str | torch.device = "cpu", key: str = "features") -> None:
        self.options, self.device, self.key = options, torch.device(device), key
        self.spec = options.encoder.removeprefix(VOICE_PRINT)
        self.encoder = load_voice_encoder(self.spec)
        self.encoder.model.to(self.device)

    @property
    def dim(self) -> int:
        return self.encoder.dim

    def describe(self) -> dict[str, Any]:
        """What runs, for reports and run records."""
        identity = self.encoder.identity
        return {
            "encoder": VOICE_PRINT + identity.model,
            "revision": "",
            "layer": 0,
            "weights_sha256": identity.weights_sha256,
        }

    def identity_params(self) -> dict[str, Any]:
        """What determines a voice print."""
        options = self.options.model_dump(exclude={"encoder", "revision"})
        return {**options, "weights_sha256": self.encoder.identity.weights_sha256}

    def extract(self, wave: np.ndarray | Tensor) -> Tensor:
        """``(1, dim)`` float32 of a wave ``(samples,)``, rounded to float16 as on disk."""
        return torch.from_numpy(self.extract_batch([torch.as_tensor(wave)])[0].astype(np.float32))

    def extract_batch(self, waves: Sequence[Tensor], names: Sequence[str] = ()) -> list[np.ndarray]:
        """Voice prints float16 ``(1, dim)`` of each wave ``(samples,)``; errors call them by ``names``."""
        names = names or [f"wave {number}" for number in range(len(waves))]
        prints = []
        for name, wave in zip(names, waves, strict=True):
            if not len(wave):
                raise BowerbirdError(f"{name}: a wave without samples has no voice")
            heard = wave[: int(self.options.max_window_s * SAMPLE_RATE)]
            prints.append(to_float16(torch.from_numpy(self.encoder.embed([heard])), name, self.key))
        return prints


def open_extractor(
    options: FeaturesConfig, device: str | torch.device = "cpu", key: str = "features", batch_s: float = 60.0
) -> FeatureExtractor | VoicePrintExtractor:
    """The extractor of a variant of `features`."""
    if options.encoder.startswith(VOICE_PRINT):
        return VoicePrintExtractor(options, device, key)
    return FeatureExtractor(options, device, key, batch_s)
