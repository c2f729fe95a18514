"""Encoder, decoder, classifier, and the speakers' embeddings.

Letters: ``B`` batch, ``T`` frames, ``M`` bins of the spectrogram, ``S`` candidate speakers, ``E`` dimension of an embedding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bowerbird.artifacts.models import load_weights, read_model_config
from bowerbird.encoders.speaker import SpeakerNetwork, embed_speakers, load_speaker_network
from bowerbird.nn.multitarget import SpectrogramClassifier, SpectrogramDecoder, SpectrogramEncoder
from bowerbird.systems.base import Batch, prompt_waves

BINS = 513  # of log-magnitude spectra
SIZES = ("channels", "latent", "conv_bank_size", "conv_bank_channels", "num_downsamplings", "dropout")


class Autoencoder(nn.Module):
    """E and D, and the table of speakers' embeddings where they are learned."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        bins, channels, latent = (config[key] for key in ("feature_dim", "channels", "latent"))
        bank, num_downsamplings = (config["conv_bank_size"], config["conv_bank_channels"]), config["num_downsamplings"]
        self.encoder = SpectrogramEncoder(bins, channels, latent, *bank, num_downsamplings, config["dropout"])
        self.decoder = SpectrogramDecoder(bins, channels, latent, num_downsamplings, config["speaker_dim"])
        names = config["names"]
        self.table = nn.Embedding(len(names), config["speaker_dim"]) if names else None

    def forward(self, spectrogram: Tensor, speaker: Tensor) -> Tensor:
        """D(E(x), s): ``(B, T, M)`` and ``(B, E)`` to ``(B, T, M)``."""
        return self.decoder(self.encoder(spectrogram), speaker, spectrogram.shape[1])


def load_autoencoder(folder: Path) -> tuple[Autoencoder, dict[str, Any]]:
    """A trained encoder and decoder, frozen, and their config."""
    config = read_model_config(folder)
    autoencoder = Autoencoder(config)
    load_weights(autoencoder, folder)
    return autoencoder.eval().requires_grad_(False), config


class SpeakerEmbeddings(nn.Module):
    """The speakers of a batch as vectors: learned ones from a table, or a frozen verifier's embeddings of the prompts.

    The table gives the mean of its vectors for speakers that it does not know (validation).
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.verifier: SpeakerNetwork | None = None  # None: they come from a table
        if config["speakers"] == "reference":
            self.verifier = load_speaker_network(config["speaker_encoder"]).requires_grad_(False)

    @property
    def from_table(self) -> bool:
        """Whether the embeddings are learned."""
        return self.verifier is None

    def forward(self, batch: Batch, autoencoder: Autoencoder) -> Tensor:
        """The embeddings ``(B, E)`` of the items' speakers; ``autoencoder`` holds the table."""
        if self.verifier is not None:
            return embed_speakers(self.verifier, prompt_waves(batch))
        assert autoencoder.table is not None
        is_known = (batch.speaker >= 0)[:, None]
        learned = autoencoder.table(batch.speaker.clamp_min(0))
        return torch.where(is_known, learned, autoencoder.table.weight.mean(dim=0))


@dataclass(frozen=True)
class Candidates:
    """The speakers that the classifier chooses from, and the right one of each item."""

    labels: Tensor  # (B,) int64: the right candidate of each item
    prototypes: Tensor | None  # (S, E) of unit length: an embedding per candidate; None: the table's speakers

    @classmethod
    def of(cls, batch: Batch, speakers: Tensor, from_table: bool) -> Candidates:
        """All speakers of the table; or those of the batch, each the mean of its items' embeddings ``speakers`` ``(B, E)``."""
        if from_table:
            return cls(batch.speaker, None)
        names, labels = batch.speaker.unique(return_inverse=True)
        sums = torch.zeros(len(names), speakers.shape[1], device=speakers.device).index_add(0, labels, speakers.float())
        return cls(labels, F.normalize(sums, dim=1))


def log_probabilities(classifier: SpectrogramClassifier, x: Tensor, candidates: Candidates, scale: float) -> Tensor:
    """log p(. | x) ``(B, S)`` of ``x`` ``(B, T, M)``; with prototypes, of ``scale`` times the cosines to them."""
    scores = classifier(x).float()
    if candidates.prototypes is not None:
        scores = scale * F.normalize(scores, dim=1) @ candidates.prototypes.T
    return scores.log_softmax(dim=1)


def next_other_speaker(speaker: Tensor) -> Tensor:
    """For each item of ``speaker`` ``(B,)`` the position of the next one of another speaker; its own where there is none."""
    count = len(speaker)
    positions = torch.arange(count, device=speaker.device)
    following = (positions[:, None] + positions) % count  # row i: i, i + 1, ...
    differs = speaker[following] != speaker[:, None]
    return following[positions, differs.int().argmax(dim=1)]


def accuracy(log_probability: Tensor, labels: Tensor) -> Tensor:
    """Share of items whose most probable candidate in ``(B, S)`` is ``labels`` ``(B,)``."""
    return (log_probability.argmax(dim=1) == labels).float().mean()


def log_prob_of_others(log_probability: Tensor, labels: Tensor) -> Tensor:
    """log (1 - p(label)) ``(B,)`` of ``(B, S)``: the others' probabilities, summed; a lone candidate gives log 1e-6."""
    hidden = log_probability.scatter(1, labels[:, None], float("-inf"))
    lowest = torch.full_like(log_probability[:, :1], -13.8)
    return torch.cat([hidden, lowest], dim=1).logsumexp(dim=1)


def build_classifier(config: Mapping[str, Any]) -> SpectrogramClassifier:
    """The classifier that its stage's ``config.json`` describes."""
    return SpectrogramClassifier(config["feature_dim"], config["channels"], config["outputs"], config["dropout"])


def embedding_dim(verifier: SpeakerNetwork) -> int:
    """Dimensions of a verifier's embedding."""
    return int(embed_speakers(verifier, [torch.zeros(32000)]).shape[1])
