"""A trained generator, ready to synthesize.

Letters: ``T`` frames, ``D`` feature dimension, ``N`` samples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bowerbird.artifacts.models import load_weights, read_model_config
from bowerbird.audio import HOP, SAMPLE_RATE, resample
from bowerbird.encoders.checkpoint import BIGVGAN
from bowerbird.encoders.spectral import PUBLISHED_HOP, PUBLISHED_RATE
from bowerbird.errors import BowerbirdError
from bowerbird.nn.sourcefilter import SourceFilter
from bowerbird.nn.world_vocoder import WorldSynthesis
from bowerbird.systems.vocoder.network import Generator, build_generator
from bowerbird.systems.vocoder.pretrained import MEL, load_bigvgan


class Vocoder:
    """A trained generator, ready to synthesize."""

    frame_rate = SAMPLE_RATE / HOP  # of the features it reads

    def __init__(self, generator: Generator, config: Mapping[str, Any], device: torch.device) -> None:
        self.generator = generator.eval().to(device)
        self.device = device
        self.input_dim: int = config["input_dim"]
        self.features: Mapping[str, Any] = config.get("features", {})  # what it was trained on: encoder, layer ...

    @torch.inference_mode()
    def vocode(self, features: Tensor, chunk_frames: int = 1000) -> Tensor:
        """Features ``(T, D)`` to a wave ``(320 T,)`` on the CPU.

        Longer inputs go through in chunks of ``chunk_frames``. Each is generated with as much of its neighbors as the
        generator's receptive field reaches, so the result is that of no chunking at all.
        """
        if features.ndim != 2 or features.shape[1] != self.input_dim:
            raise BowerbirdError(
                f"vocoder: features of shape {tuple(features.shape)}: it was trained on (frames, {self.input_dim}); "
                "use the features it was trained on"
            )
        if not len(features):
            return torch.zeros(0)
        if isinstance(self.generator, SourceFilter | WorldSynthesis):
            # their pulses run through, so only the network is cut in chunks
            encoded = self._in_chunks(self.generator.encode, features, chunk_frames)
            return self.generator.synthesize(encoded[None].to(self.device))[0].cpu()
        return self._in_chunks(self.generator, features, chunk_frames)

    def _in_chunks(self, function: Callable[[Tensor], Tensor], features: Tensor, chunk_frames: int) -> Tensor:
        """``(T n, ...)`` of ``function``, which makes ``(1, T n, ...)`` of ``(1, T, D)``."""
        context, pieces = self.generator.context_frames, []
        for start in range(0, len(features), chunk_frames):
            end = min(start + chunk_frames, len(features))
            first, last = max(0, start - context), min(len(features), end + context)
            result = function(features[None, first:last].to(self.device, torch.float32))[0]
            per_frame = len(result) // (last - first)
            pieces.append(result[(start - first) * per_frame : (end - first) * per_frame].cpu())
        return torch.cat(pieces)


class PublishedVocoder(Vocoder):
    """NVIDIA's BigVGAN: it reads `log-mel-24k`, and what it makes at 24 kHz is resampled."""

    frame_rate = PUBLISHED_RATE / PUBLISHED_HOP

    @torch.inference_mode()
    def vocode(self, features: Tensor, chunk_frames: int = 1000) -> Tensor:
        """Mels ``(T, 100)`` to a wave ``(T * 256 * 2 / 3,)`` at 16 kHz on the CPU."""
        wave = super().vocode(features, chunk_frames)
        return torch.from_numpy(resample(wave.float().numpy(), PUBLISHED_RATE))


def load_vocoder(folder: Path, device: torch.device | str = "cpu") -> Vocoder:
    """The vocoder in a model folder (``config.json`` and ``model.safetensors``, float32 or float16), or NVIDIA's BigVGAN."""
    if BIGVGAN.is_in(folder):
        return PublishedVocoder(load_bigvgan(folder), {"input_dim": MEL["num_mels"]}, torch.device(device))
    config = read_model_config(folder)
    generator = build_generator(config["generator"], config["input_dim"])
    load_weights(generator, folder)
    return Vocoder(generator, config, torch.device(device))


def check_vocoder(vocoder: Vocoder, feature_dim: int) -> None:
    """Raises an error unless the vocoder reads the features that a system makes, of ``feature_dim`` dimensions."""
    if vocoder.input_dim != feature_dim:
        raise BowerbirdError(
            f"--models: vocoder: it reads features of {vocoder.input_dim} dimensions, these have {feature_dim}; name a "
            "vocoder that was trained on these features"
        )
