"""Encoder, decoder, classifier, and the speakers' vectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bowerbird.artifacts.models import load_weights, read_model_config
from bowerbird.audio import HOP
from bowerbird.encoders.speaker import embed_speakers, load_speaker_network
from bowerbird.nn.multitarget import Classifier, Decoder, Encoder
from bowerbird.systems.base import Batch

FRAMES_PER_SECOND = 50


BINS = 513  # of log-magnitude spectra


SIZES = ("channels", "latent", "conv_bank_size", "conv_bank_channels", "num_downsamplings", "dropout")


class Autoencoder(nn.Module):
    """E and D, and the speakers' vectors where they are learned."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        bands, channels, latent, halvings = (
            config[k] for k in ("feature_dim", "channels", "latent", "num_downsamplings")
        )
        bank = (config["conv_bank_size"], config["conv_bank_channels"])
        self.encoder = Encoder(bands, channels, latent, *bank, halvings, config["dropout"])
        self.decoder = Decoder(bands, channels, latent, halvings, config["speaker_dim"])
        names = config["names"]
        self.table = nn.Embedding(len(names), config["speaker_dim"]) if names else None

    def forward(self, spectrogram: Tensor, voice: Tensor) -> Tensor:
        """D(E(x), s): ``(batch, frames, bands)`` and ``(batch, speaker_dim)`` to ``(batch, frames, bands)``."""
        return self.decoder(self.encoder(spectrogram), voice, spectrogram.shape[1])


def load_autoencoder(folder: Path) -> tuple[Autoencoder, dict[str, Any]]:
    """A trained encoder and decoder, frozen, and their config."""
    config = read_model_config(folder)
    autoencoder = Autoencoder(config)
    load_weights(autoencoder, folder)
    return autoencoder.eval().requires_grad_(False), config


class Voices(nn.Module):
    """Who a batch is spoken by, as vectors ``(batch, speaker_dim)``: learned ones, or what a frozen verifier hears.

    A table answers the mean of its vectors for speakers that it does not know (validation).
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.reference = config["speakers"] == "reference"
        if self.reference:
            self.verifier = load_speaker_network(config["speaker_encoder"]).requires_grad_(False)

    def forward(self, batch: Batch, autoencoder: Autoencoder) -> Tensor:
        if self.reference:
            waves = [w[: HOP * int(n)] for w, n in zip(batch.prompt_audio, batch.prompt_frames, strict=True)]
            return embed_speakers(self.verifier, waves)
        known = (batch.speaker >= 0)[:, None]
        learned = autoencoder.table(batch.speaker.clamp_min(0))
        return torch.where(known, learned, autoencoder.table.weight.mean(dim=0))


@dataclass(frozen=True)
class Candidates:
    """Whom the classifier chooses from, and who it is."""

    labels: Tensor  # (batch,) int64: the right candidate of each item
    prototypes: Tensor | None  # (candidates, speaker_dim) of unit length: a voice each; None: the table's speakers

    @classmethod
    def of(cls, batch: Batch, voices: Tensor, reference: bool) -> Candidates:
        """The speakers of the batch, each the mean of what is known of their voice; or all those of the table."""
        if not reference:
            return cls(batch.speaker, None)
        names, labels = batch.speaker.unique(return_inverse=True)
        sums = torch.zeros(len(names), voices.shape[1], device=voices.device).index_add(0, labels, voices.float())
        return cls(labels, F.normalize(sums, dim=1))


def log_probabilities(classifier: Classifier, x: Tensor, candidates: Candidates, scale: float) -> Tensor:
    """log p(. | x) ``(batch, candidates)``; with prototypes, of ``scale`` times the cosines to them."""
    scores = classifier(x).float()
    if candidates.prototypes is not None:
        scores = scale * F.normalize(scores, dim=1) @ candidates.prototypes.T
    return scores.log_softmax(dim=1)


def build_classifier(config: Mapping[str, Any]) -> Classifier:
    """The classifier that its stage's ``config.json`` describes."""
    return Classifier(config["feature_dim"], config["channels"], config["outputs"], config["dropout"])


def voice_dim(verifier: nn.Module) -> int:
    """Dimensions of a verifier's embedding."""
    return int(embed_speakers(verifier, [torch.zeros(32000)]).shape[1])
