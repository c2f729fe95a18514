"""Verifiers of any kind, for evaluation: those that only measure stand here, beside GE2E and ECAPA-TDNN of `speaker`.

* **WavLM-SV**: a folder or hub id that ``transformers`` reads as ``WavLMForXVector``, for instance
  ``microsoft/wavlm-base-plus-sv``. It shares a model with every converter that works on WavLM features, and favors them:
  its scores are for comparison with published ones and stand beside those of another verifier, never alone.
* **ReDimNet** and others: a folder with ``model.onnx`` that takes a wave ``(1, N)`` and gives an embedding. ReDimNet's own
  weights were not at hand: what is tested is the loading of such files. How it is exported stands in
  ``docs/metrics/speaker.md``.

Shapes: ``B`` number of waves, ``N`` samples, ``E`` embedding dimension.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from bowerbird.audio import HOP, SAMPLE_RATE
from bowerbird.config.base import parse_model
from bowerbird.encoders.checkpoint import (
    EXPORTED,
    XVECTOR,
    ModelIdentity,
    find_checkpoint,
    peek_config,
    state_sha256,
)
from bowerbird.encoders.onnx import ExportedModel
from bowerbird.encoders.speaker import load_speaker_encoder
from bowerbird.encoders.transformers_models import TRAINING_ONLY, load_model
from bowerbird.errors import BowerbirdError


class SpeakerVerifier(Protocol):
    """What every verifier has."""

    def embed(self, waves: Sequence[np.ndarray | Tensor]) -> np.ndarray:
        """Waves ``(N,)`` float at 16 kHz to unit vectors ``(B, E)`` float32."""

    def describe(self) -> ModelIdentity:
        """The model's name and the SHA-256 of its weights."""


class XVectorVerifier:
    """WavLM with an x-vector head (Chen et al. 2022; Snyder et al. 2018): one utterance at a time, never padded."""

    def __init__(self, spec: str, key: str, device: str = "cpu") -> None:
        from transformers import AutoFeatureExtractor, WavLMForXVector

        checkpoint = find_checkpoint(spec, key, XVECTOR)
        where = f"{key}: {checkpoint.name}"
        try:
            self.extractor = AutoFeatureExtractor.from_pretrained(checkpoint.folder)
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise BowerbirdError(f"{where}: its preprocessor_config.json cannot be read ({reason})") from None
        model = load_model(WavLMForXVector, checkpoint, where, (*TRAINING_ONLY, "objective.weight"))
        self.model = model.to(device)
        name = f"wavlm-xvector {Path(checkpoint.name).name}"  # of a hub id without its owner
        self.identity = ModelIdentity(name, state_sha256(model, with_dtypes=False))

    @property
    def dim(self) -> int:
        """Dimensions of an embedding."""
        return int(self.model.config.xvector_output_dim)

    @property
    def min_samples(self) -> int:
        """Fewest samples that its time-delay layers can read: their reach in frames of 20 ms."""
        reach = 1 + sum(d * (k - 1) for k, d in zip(self.model.config.tdnn_kernel, self.model.config.tdnn_dilation))
        return HOP * (reach + 2)

    @torch.inference_mode()
    def embed(self, waves: Sequence[np.ndarray | Tensor]) -> np.ndarray:
        """Waves ``(N,)`` float at 16 kHz to unit vectors ``(B, E)`` float32; short waves are repeated."""
        embeddings = [self._embed(np.asarray(wave, np.float32)) for wave in waves]
        return np.stack(embeddings) if embeddings else np.zeros((0, self.dim), np.float32)

    def _embed(self, wave: np.ndarray) -> np.ndarray:
        """One wave ``(N,)`` to a unit vector ``(E,)``."""
        if not len(wave):
            raise BowerbirdError("speaker embedding: a wave without samples cannot be embedded")
        if len(wave) < self.min_samples:
            wave = np.resize(wave, self.min_samples)
        inputs = self.extractor(wave, sampling_rate=SAMPLE_RATE, return_tensors="pt")["input_values"]
        embedding = self.model(inputs.to(self.model.device)).embeddings[0]
        return torch.nn.functional.normalize(embedding.float(), dim=0).cpu().numpy()

    def describe(self) -> ModelIdentity:
        """The model's name and the SHA-256 of its weights."""
        return self.identity


class ExportedVerifier:
    """A folder's ``model.onnx``: a wave in, an embedding out."""

    def __init__(self, folder: str, key: str) -> None:
        self.exported = ExportedModel(folder, key)

    def embed(self, waves: Sequence[np.ndarray | Tensor]) -> np.ndarray:
        """Waves ``(N,)`` at 16 kHz to unit vectors ``(B, E)`` float32."""
        embeddings = [self.exported(np.asarray(wave, np.float32)).reshape(-1).astype(np.float64) for wave in waves]
        unit = [e / max(float(np.linalg.norm(e)), 1e-12) for e in embeddings]
        return np.stack(unit).astype(np.float32) if unit else np.zeros((0, 0), np.float32)

    def describe(self) -> ModelIdentity:
        """The folder's name and the SHA-256 of the file."""
        checkpoint = self.exported.checkpoint
        return ModelIdentity(f"exported {checkpoint.name}", checkpoint.weights_sha256)


@functools.cache
def load_verifier(spec: str, key: str = "evaluation.verifier") -> SpeakerVerifier:
    """The verifier that ``spec`` names: resemblyzer, or a folder or hub id of WavLM-SV or ECAPA-TDNN, or an exported model.

    ``key`` is the option that names it, for errors.
    """
    if EXPORTED.is_in(Path(spec).expanduser()):
        return ExportedVerifier(spec, key)
    if "WavLMForXVector" in (peek_config(parse_model(spec)).get("architectures") or []):
        return XVectorVerifier(spec, key)
    return load_speaker_encoder(spec, key)
