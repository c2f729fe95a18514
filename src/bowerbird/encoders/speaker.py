"""Speaker encoders: a voice as a unit vector.

``resemblyzer`` is the GE2E model whose weights ship inside the package of that name (Wan et al. 2018; trained on
LibriSpeech-other, VoxCeleb 1 and 2). Only the weights are read: the package itself imports a voice activity detector
that no longer installs. Its trimming of silence is therefore left out; everything else is computed as it does,
differentiably, so that the embedding can be part of a training loss.
"""

from __future__ import annotations

import functools
import importlib.util
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import torchaudio
from safetensors.torch import load_file
from torch import Tensor, nn

from bowerbird.artifacts.files import file_sha256
from bowerbird.encoders.verifiers import ExportedVerifier, XVectorVerifier, is_exported, is_xvector
from bowerbird.config.sections.features import GE2E
from bowerbird.errors import BowerbirdError
from bowerbird.nn.ecapa import EcapaTdnn, from_speechbrain

PARTIAL_FRAMES, FRAME_SAMPLES = 160, 160  # a partial utterance is 1.6 s: 160 frames of 10 ms


PARTIALS_PER_SECOND, MIN_COVERAGE = 1.3, 0.75


TARGET_RMS = 10 ** (-30.0 / 20)  # -30 dBFS


@dataclass(frozen=True)
class VerifierIdentity:
    """Which model judged."""

    model: str
    weights_sha256: str


class Ge2e(nn.Module):
    """Three-layer LSTM over 40 mel bands, last hidden state projected to 256 (Wan et al. 2018, section 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(40, 256, 3, batch_first=True)
        self.linear = nn.Linear(256, 256)
        self.mel = torchaudio.transforms.MelSpectrogram(
            16000, 400, 400, FRAME_SAMPLES, n_mels=40, norm="slaney", mel_scale="slaney", pad_mode="constant"
        )

    def forward(self, mels: Tensor) -> Tensor:
        """Mel spectrograms ``(batch, frames, 40)`` (power, no logarithm) to unit vectors ``(batch, 256)``."""
        self.lstm.train()  # cuDNN gives gradients only then; without dropout it computes the same
        _, (hidden, _) = self.lstm(mels)
        return F.normalize(F.relu(self.linear(hidden[-1])), dim=1)

    def embed(self, wave: Tensor) -> Tensor:
        """One wave ``(samples,)`` at 16 kHz to a unit vector ``(256,)``; differentiable in the wave."""
        if not len(wave):
            raise BowerbirdError("speaker embedding: a wave without samples has no voice")
        return F.normalize(self(self._partials(raise_volume(wave))).mean(dim=0), dim=0)

    def _partials(self, wave: Tensor) -> Tensor:
        """Mel spectrograms ``(partials, 160, 40)`` of the wave's partial utterances."""
        starts = partial_starts(len(wave))
        wave = F.pad(wave, (0, max(0, (starts[-1] + PARTIAL_FRAMES) * FRAME_SAMPLES - len(wave))))
        mel = self.mel(wave).T  # (frames, 40)
        return torch.stack([mel[s : s + PARTIAL_FRAMES] for s in starts])

    def embed_with_maps(self, waves: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Waves ``(batch, samples)`` to unit vectors ``(batch, 256)`` and hidden maps ``[(batch, 256, frames)]``.

        The map is the top layer's output, partial after partial. Differentiable in the waves.
        """
        embeddings, maps = [], []
        for wave in waves:
            partials = self._partials(raise_volume(wave))
            self.lstm.train()
            outputs, (hidden, _) = self.lstm(partials)
            embedding = F.normalize(F.relu(self.linear(hidden[-1])), dim=1).mean(dim=0)
            embeddings.append(F.normalize(embedding, dim=0))
            maps.append(outputs.flatten(0, 1).T)
        return torch.stack(embeddings), [torch.stack(maps)]


def embed_speakers(judge: nn.Module, waves: Sequence[Tensor]) -> Tensor:
    """Waves ``(samples,)`` to unit vectors ``(n, dim)`` of a frozen verifier, without gradients; partials in one batch."""
    with torch.no_grad(), torch.autocast(waves[0].device.type, enabled=False):
        if not isinstance(judge, Ge2e):
            return F.normalize(torch.cat([judge.embed_with_maps(wave[None].float())[0] for wave in waves]), dim=1)
        partials = [judge._partials(raise_volume(wave.float())) for wave in waves]
        embeddings = judge(torch.cat(partials)).split([len(p) for p in partials])
        return F.normalize(torch.stack([e.mean(dim=0) for e in embeddings]), dim=1)


def raise_volume(wave: Tensor) -> Tensor:
    """Scale quiet speech up to -30 dBFS; louder speech stays."""
    level = wave.square().mean().clamp_min(1e-16).sqrt()
    return wave * (TARGET_RMS / level).clamp_min(1.0)


def partial_starts(num_samples: int) -> list[int]:
    """First frames of the partial utterances: 1.3 a second, the last one only if speech covers three quarters of it."""
    step = round(16000 / PARTIALS_PER_SECOND / FRAME_SAMPLES)
    frames = math.ceil((num_samples + 1) / FRAME_SAMPLES)
    starts = list(range(0, max(1, frames - PARTIAL_FRAMES + step + 1), step))
    covered = (num_samples - starts[-1] * FRAME_SAMPLES) / (PARTIAL_FRAMES * FRAME_SAMPLES)
    return starts[:-1] if covered < MIN_COVERAGE and len(starts) > 1 else starts


class SpeakerEncoder:
    """A verifier: waves in, unit vectors out, with the name and the weights' hash of the model."""

    def __init__(self, model: Ge2e | EcapaTdnn, identity: VerifierIdentity) -> None:
        self.model, self.identity = model, identity

    @property
    def dim(self) -> int:
        """Dimensions of an embedding: 256 of GE2E, 192 of ECAPA-TDNN."""
        return self.model.linear.out_features if isinstance(self.model, Ge2e) else self.model.fc.out_channels

    @torch.inference_mode()
    def embed(self, waves: Sequence[np.ndarray | Tensor]) -> np.ndarray:
        """Waves ``(samples,)`` float at 16 kHz to ``(n, dim)`` float32 of unit length."""
        device = next(self.model.parameters()).device
        embeddings = [self._embed(torch.as_tensor(w, dtype=torch.float32, device=device)) for w in waves]
        return torch.stack(embeddings).cpu().numpy() if embeddings else np.zeros((0, self.dim), np.float32)

    def _embed(self, wave: Tensor) -> Tensor:
        if isinstance(self.model, Ge2e):
            return self.model.embed(wave)
        return F.normalize(self.model.embed(wave[None])[0][0], dim=0)

    def describe(self) -> VerifierIdentity:
        return self.identity


class LocalVerifier:
    """A verifier of `verifiers` behind the face of `SpeakerEncoder`."""

    def __init__(self, model: XVectorVerifier | ExportedVerifier) -> None:
        self.model, self.identity = model, VerifierIdentity(model.name, model.weights_sha256())

    def embed(self, waves: Sequence[np.ndarray | Tensor]) -> np.ndarray:
        """Waves ``(samples,)`` float at 16 kHz to ``(n, dim)`` float32 of unit length."""
        return self.model.embed(waves)

    def describe(self) -> VerifierIdentity:
        return self.identity


@functools.cache
def load_verifier(spec: str) -> SpeakerEncoder | LocalVerifier:
    """The verifier that `evaluation.verifier` names, of any kind: resemblyzer, or a folder of WavLM-SV, of an exported
    model, or of ECAPA-TDNN."""
    if is_exported(spec):
        return LocalVerifier(ExportedVerifier(spec))
    if is_xvector(spec):
        return LocalVerifier(XVectorVerifier(spec))
    return load_speaker_encoder(spec)


@functools.cache
def load_speaker_encoder(spec: str) -> SpeakerEncoder:
    """GE2E (``ge2e`` or ``resemblyzer``: the weights inside that package), or ECAPA-TDNN in a folder or on a hub."""
    if spec not in (GE2E, "resemblyzer"):
        weights = file_sha256(ecapa_weights(spec))
        return SpeakerEncoder(load_ecapa(spec), VerifierIdentity("ecapa-tdnn", weights))
    path = resemblyzer_weights()
    model = Ge2e()
    state = torch.load(path, map_location="cpu", weights_only=True)["model_state"]
    model.load_state_dict({k: v for k, v in state.items() if k.startswith(("lstm.", "linear."))}, strict=False)
    return SpeakerEncoder(model.eval().requires_grad_(False), VerifierIdentity("resemblyzer", file_sha256(path)))


def load_speaker_network(spec: str) -> nn.Module:
    """A frozen verifier for speaker losses: ``judge(waves)`` gives embeddings and hidden maps, differentiably.

    ``ge2e`` is the model inside the resemblyzer package; anything else is a folder or hub id of ECAPA-TDNN weights in
    speechbrain's format. Random numbers are left as they were: the weights drawn before the real ones are read must not
    change those of a model that is built next.
    """
    with torch.random.fork_rng(devices=[]):
        return load_speaker_encoder(spec).model if spec in (GE2E, "resemblyzer") else load_ecapa(spec)


def resemblyzer_weights() -> Path:
    """``pretrained.pt`` inside the installed package, found without importing it."""
    spec = importlib.util.find_spec("resemblyzer")
    path = Path(spec.origin).with_name("pretrained.pt") if spec and spec.origin else None
    if path is None or not path.exists():
        raise BowerbirdError(
            "evaluation.verifier: resemblyzer: its package is not installed; pip install --no-deps resemblyzer"
        )
    return path


ECAPA_WEIGHTS = ("embedding_model.safetensors", "model.safetensors", "embedding_model.ckpt")


def load_ecapa(spec: str) -> EcapaTdnn:
    """speechbrain's ECAPA-TDNN, frozen, from a directory or a hub id such as ``speechbrain/spkrec-ecapa-voxceleb``."""
    path = ecapa_weights(spec)
    model = EcapaTdnn()
    try:
        safe = path.suffix == ".safetensors"
        state = load_file(path) if safe else torch.load(path, map_location="cpu", weights_only=True)
        model.load_state_dict(from_speechbrain(state))
    except Exception as error:  # whatever a broken or foreign file raises, it names no file
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise BowerbirdError(f"ECAPA-TDNN: {path}: not speechbrain's weights: {' '.join(reason[:2])[:200]}") from None
    return model.eval().requires_grad_(False)


def ecapa_weights(spec: str) -> Path:
    """The weights' file in the directory ``spec``, or that of the hub id ``spec`` in the local cache."""
    folder = Path(spec).expanduser()
    if folder.is_dir():
        for name in ECAPA_WEIGHTS:
            if (folder / name).is_file():
                return folder / name
        raise BowerbirdError(f"ECAPA-TDNN: {spec}: none of {', '.join(ECAPA_WEIGHTS)} is in it")
    if spec.startswith((".", "/", "~")) or spec.count("/") != 1:
        raise BowerbirdError(f"ECAPA-TDNN: {spec}: no such directory")
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(spec, "embedding_model.ckpt"))
    except (OSError, ValueError) as error:
        raise BowerbirdError(
            f"ECAPA-TDNN: {spec}: no such directory here, and the hub did not give it "
            f"({str(error).strip().splitlines()[0]}); download its embedding_model.ckpt to a folder and name that"
        ) from None
