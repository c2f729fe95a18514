"""Speaker encoders: the speaker of an utterance as a unit vector, differentiably.

``ge2e`` (also called ``resemblyzer``) is the GE2E model whose weights ship inside the package of that name (Wan et al. 2018;
trained on LibriSpeech-other, VoxCeleb 1 and 2). Only the weights are read: the package itself imports a voice activity
detector that no longer installs. Its trimming of silence is therefore left out; everything else is computed as it does,
differentiably, so that the embedding can be part of a training loss. Anything else names ECAPA-TDNN weights in speechbrain's
format: a folder, or a hub id such as ``speechbrain/spkrec-ecapa-voxceleb``.

Shapes: ``B`` batch, ``N`` samples, ``T`` frames of 10 ms, ``P`` partial utterances, ``E`` embedding dimension.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import torchaudio
from safetensors.torch import load_file
from torch import Tensor, nn

from bowerbird.artifacts.files import file_sha256
from bowerbird.audio import SAMPLE_RATE
from bowerbird.config.base import ModelReference
from bowerbird.config.sections.features import GE2E
from bowerbird.encoders.checkpoint import ECAPA, Checkpoint, ModelIdentity, find_checkpoint, packaged_file
from bowerbird.errors import BowerbirdError
from bowerbird.nn.ecapa import EcapaTdnn, from_speechbrain

GE2E_NAMES = (GE2E, "resemblyzer")
PARTIAL_FRAMES, FRAME_SAMPLES = 160, 160  # a partial utterance is 1.6 s: 160 frames of 10 ms
PARTIALS_PER_SECOND, MIN_COVERAGE = 1.3, 0.75
TARGET_RMS = 10 ** (-30.0 / 20)  # -30 dBFS


class Ge2e(nn.Module):
    """Three-layer LSTM over 40 mel bands, last hidden state projected to 256 (Wan et al. 2018, section 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(40, 256, 3, batch_first=True)
        self.linear = nn.Linear(256, 256)
        self.mel = torchaudio.transforms.MelSpectrogram(
            SAMPLE_RATE, 400, 400, FRAME_SAMPLES, n_mels=40, norm="slaney", mel_scale="slaney", pad_mode="constant"
        )

    def forward(self, mels: Tensor) -> Tensor:
        """Mel spectrograms ``(B, T, 40)`` (power, no logarithm) to unit vectors ``(B, 256)``."""
        self.lstm.train()  # cuDNN gives gradients only then; without dropout it computes the same
        _, (hidden, _) = self.lstm(mels)
        return F.normalize(F.relu(self.linear(hidden[-1])), dim=1)

    def embed(self, wave: Tensor) -> Tensor:
        """One wave ``(N,)`` at 16 kHz to a unit vector ``(256,)``; differentiable in the wave."""
        if not len(wave):
            raise BowerbirdError("speaker embedding: a wave without samples cannot be embedded")
        return F.normalize(self(self.partials(wave)).mean(dim=0), dim=0)

    def partials(self, wave: Tensor) -> Tensor:
        """Mel spectrograms ``(P, 160, 40)`` of the partial utterances of a wave ``(N,)``, whose volume is raised first."""
        starts = partial_starts(len(wave))
        wave = raise_volume(wave)
        wave = F.pad(wave, (0, max(0, (starts[-1] + PARTIAL_FRAMES) * FRAME_SAMPLES - len(wave))))
        mel = self.mel(wave).T  # (T, 40)
        return torch.stack([mel[s : s + PARTIAL_FRAMES] for s in starts])

    def embed_with_maps(self, waves: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Waves ``(B, N)`` to unit vectors ``(B, 256)`` and one hidden map ``(B, 256, 160 P)``.

        The map is the top layer's output, partial after partial. Differentiable in the waves.
        """
        embeddings, maps = [], []
        for wave in waves:
            partials = self.partials(wave)
            self.lstm.train()
            outputs, (hidden, _) = self.lstm(partials)
            embedding = F.normalize(F.relu(self.linear(hidden[-1])), dim=1).mean(dim=0)
            embeddings.append(F.normalize(embedding, dim=0))
            maps.append(outputs.flatten(0, 1).T)
        return torch.stack(embeddings), [torch.stack(maps)]


def raise_volume(wave: Tensor) -> Tensor:
    """Scale a wave ``(N,)`` of quiet speech up to -30 dBFS; louder speech stays."""
    level = wave.square().mean().clamp_min(1e-16).sqrt()
    return wave * (TARGET_RMS / level).clamp_min(1.0)


def partial_starts(num_samples: int) -> list[int]:
    """First frames of the partial utterances: 1.3 per second, the last one only if speech covers three quarters of it."""
    step = round(SAMPLE_RATE / PARTIALS_PER_SECOND / FRAME_SAMPLES)
    frames = math.ceil((num_samples + 1) / FRAME_SAMPLES)
    starts = list(range(0, max(1, frames - PARTIAL_FRAMES + step + 1), step))
    covered = (num_samples - starts[-1] * FRAME_SAMPLES) / (PARTIAL_FRAMES * FRAME_SAMPLES)
    return starts[:-1] if covered < MIN_COVERAGE and len(starts) > 1 else starts


SpeakerNetwork = Ge2e | EcapaTdnn  # both have ``embed_with_maps``


def embed_speakers(network: SpeakerNetwork, waves: Sequence[Tensor]) -> Tensor:
    """Waves ``(N,)`` to unit vectors ``(B, E)`` of a frozen speaker network, without gradients.

    GE2E computes the partial utterances of all waves in one batch.
    """
    with torch.no_grad(), torch.autocast(waves[0].device.type, enabled=False):
        if not isinstance(network, Ge2e):
            return F.normalize(torch.cat([network.embed_with_maps(wave[None].float())[0] for wave in waves]), dim=1)
        partials = [network.partials(wave.float()) for wave in waves]
        embeddings = network(torch.cat(partials)).split([len(p) for p in partials])
        return F.normalize(torch.stack([e.mean(dim=0) for e in embeddings]), dim=1)


class SpeakerEncoder:
    """GE2E or ECAPA-TDNN with the name and the weights' hash of the model."""

    def __init__(self, model: SpeakerNetwork, identity: ModelIdentity) -> None:
        self.model, self.identity = model, identity

    @property
    def dim(self) -> int:
        """Dimensions of an embedding: 256 of GE2E, 192 of ECAPA-TDNN."""
        return self.model.linear.out_features if isinstance(self.model, Ge2e) else self.model.fc.out_channels

    @torch.inference_mode()
    def embed(self, waves: Sequence[np.ndarray | Tensor]) -> np.ndarray:
        """Waves ``(N,)`` float at 16 kHz to unit vectors ``(B, E)`` float32."""
        device = next(self.model.parameters()).device
        embeddings = [self._embed(torch.as_tensor(w, dtype=torch.float32, device=device)) for w in waves]
        return torch.stack(embeddings).cpu().numpy() if embeddings else np.zeros((0, self.dim), np.float32)

    def _embed(self, wave: Tensor) -> Tensor:
        """One wave ``(N,)`` to a unit vector ``(E,)``."""
        if isinstance(self.model, Ge2e):
            return self.model.embed(wave)
        return F.normalize(self.model.embed_with_maps(wave[None])[0][0], dim=0)

    def describe(self) -> ModelIdentity:
        """The model's name and the SHA-256 of its weights."""
        return self.identity


def load_speaker_encoder(reference: ModelReference | str, key: str = "speaker_encoder") -> SpeakerEncoder:
    """GE2E or ECAPA-TDNN, frozen; the same object for the same weights. ``key`` is the option that names it, for errors."""
    if str(reference) in GE2E_NAMES:
        return _load_ge2e(packaged_file("resemblyzer", "pretrained.pt", key))
    return _load_shared_ecapa(find_checkpoint(reference, key, ECAPA))


def load_speaker_network(reference: ModelReference | str, key: str = "speaker_encoder") -> SpeakerNetwork:
    """A frozen network for speaker losses: ``embed_with_maps(waves)`` gives embeddings and hidden maps, differentiably.

    Random numbers are left as they were: the weights drawn before the real ones are read must not change those of a model
    that is built next.
    """
    with torch.random.fork_rng(devices=[]):
        is_ge2e = str(reference) in GE2E_NAMES
        return load_speaker_encoder(reference, key).model if is_ge2e else load_ecapa(reference, key)


def load_ecapa(reference: ModelReference | str, key: str = "speaker_encoder") -> EcapaTdnn:
    """speechbrain's ECAPA-TDNN, frozen, from a folder or a hub id."""
    return _build_ecapa(find_checkpoint(reference, key, ECAPA))


@functools.cache
def _load_ge2e(path: Path) -> SpeakerEncoder:
    model = Ge2e()
    state = torch.load(path, map_location="cpu", weights_only=True)["model_state"]
    model.load_state_dict({k: v for k, v in state.items() if k.startswith(("lstm.", "linear."))}, strict=False)
    return SpeakerEncoder(model.eval().requires_grad_(False), ModelIdentity("resemblyzer", file_sha256(path)))


@functools.cache
def _load_shared_ecapa(checkpoint: Checkpoint) -> SpeakerEncoder:
    return SpeakerEncoder(_build_ecapa(checkpoint), ModelIdentity("ecapa-tdnn", checkpoint.weights_sha256))


def _build_ecapa(checkpoint: Checkpoint) -> EcapaTdnn:
    model, path = EcapaTdnn(), checkpoint.weights[0]
    try:
        is_safe = checkpoint.is_safetensors
        state = load_file(path) if is_safe else torch.load(path, map_location="cpu", weights_only=True)
        model.load_state_dict(from_speechbrain(state))
    except Exception as error:  # whatever a broken or foreign file raises, it names no file
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise BowerbirdError(f"ECAPA-TDNN: {path}: not speechbrain's weights: {' '.join(reason[:2])[:200]}") from None
    return model.eval().requires_grad_(False)
