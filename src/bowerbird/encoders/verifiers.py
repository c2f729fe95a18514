"""Verifiers from local folders beside GE2E and ECAPA-TDNN: WavLM with an x-vector head, and whatever is exported.

* **WavLM-SV**: a folder (or hub id in the local cache) that ``transformers`` reads as ``WavLMForXVector``, for instance
  ``microsoft/wavlm-base-plus-sv``. A judge that is kin to every converter that works on WavLM features: its scores are
  for comparison with published ones and stand beside those of another verifier, never alone.
* **ReDimNet** and others: a folder with ``model.onnx`` that takes a wave ``(1, samples)`` and gives an embedding.
  ReDimNet's own weights were not at hand: what is tested is the loading of such files. How it is exported stands in
  ``docs/metrics/speaker.md``.
"""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bowerbird.artifacts.files import file_sha256
from bowerbird.encoders.onnx import FILE, ExportedModel
from bowerbird.errors import BowerbirdError


def is_exported(spec: str) -> bool:
    """Whether ``spec`` is a folder with an exported model."""
    return (Path(spec).expanduser() / FILE).is_file()


def is_xvector(spec: str) -> bool:
    """Whether ``spec`` is a folder, or a hub id in the local cache, whose configuration says WavLMForXVector."""
    path = Path(spec).expanduser() / "config.json"
    if not path.is_file() and spec.count("/") == 1 and not spec.startswith((".", "/", "~")):
        from huggingface_hub import try_to_load_from_cache

        path = Path(str(try_to_load_from_cache(spec, "config.json")))
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and "WavLMForXVector" in (config.get("architectures") or [])


class XVectorVerifier:
    """WavLM with an x-vector head (Chen et al. 2022; Snyder et al. 2018): one utterance at a time, never padded."""

    def __init__(self, spec: str, device: str = "cpu") -> None:
        from transformers import AutoFeatureExtractor, WavLMForXVector

        try:
            self.extractor = AutoFeatureExtractor.from_pretrained(spec)
            # safetensors where there are any; the published pytorch_model.bin is read with weights_only
            loaded: Any = WavLMForXVector.from_pretrained(spec, output_loading_info=True)
        except (OSError, ValueError, RuntimeError, pickle.UnpicklingError) as error:
            raise BowerbirdError(
                f"evaluation.verifier: {spec}: not a WavLM x-vector model ({str(error).splitlines()[0]}); it needs "
                "config.json, preprocessor_config.json and model.safetensors or pytorch_model.bin"
            ) from error
        model, report = loaded
        missing = sorted(
            set(report["missing_keys"]) - {"wavlm.masked_spec_embed", "objective.weight"}
        )  # of training only
        if missing:
            raise BowerbirdError(
                f"evaluation.verifier: {spec}: its weights lack {len(missing)} tensors, first {missing[0]}; they would be random"
            )
        self.model = model.eval().requires_grad_(False).to(device)
        self.name = f"wavlm-xvector {Path(spec).resolve().name}"

    @property
    def dim(self) -> int:
        return int(self.model.config.xvector_output_dim)

    @property
    def min_samples(self) -> int:
        """Fewest samples its time-delay layers can read: their reach in frames, of 20 ms."""
        reach = 1 + sum(d * (k - 1) for k, d in zip(self.model.config.tdnn_kernel, self.model.config.tdnn_dilation))
        return 320 * (reach + 2)

    @torch.inference_mode()
    def embed(self, waves: Sequence[np.ndarray | Tensor]) -> np.ndarray:
        """Waves ``(samples,)`` float at 16 kHz to ``(n, dim)`` float32 of unit length; short ones are repeated."""
        return np.stack([self._embed(np.asarray(w, np.float32)) for w in waves]) if waves else np.zeros((0, self.dim))

    def _embed(self, wave: np.ndarray) -> np.ndarray:
        if not len(wave):
            raise BowerbirdError("speaker embedding: a wave without samples has no voice")
        if len(wave) < self.min_samples:
            wave = np.resize(wave, self.min_samples)
        inputs = self.extractor(wave, sampling_rate=16000, return_tensors="pt")["input_values"]
        embedding = self.model(inputs.to(self.model.device)).embeddings[0]
        return torch.nn.functional.normalize(embedding.float(), dim=0).cpu().numpy()

    def weights_sha256(self) -> str:
        """Over all weights by name, whatever files they came in."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(f"{name} {tuple(tensor.shape)}".encode() + tensor.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


class ExportedVerifier:
    """A folder's ``model.onnx``: a wave in, an embedding out."""

    def __init__(self, spec: str) -> None:
        self.exported = ExportedModel(spec, "evaluation.verifier")
        self.name = f"exported {Path(spec).resolve().name}"

    def embed(self, waves: Sequence[np.ndarray | Tensor]) -> np.ndarray:
        """Waves ``(samples,)`` at 16 kHz to ``(n, dim)`` float32 of unit length."""
        embeddings = [self.exported(np.asarray(wave, np.float32)).reshape(-1).astype(np.float64) for wave in waves]
        unit = [e / max(float(np.linalg.norm(e)), 1e-12) for e in embeddings]
        return np.stack(unit).astype(np.float32) if unit else np.zeros((0, 0), np.float32)

    def weights_sha256(self) -> str:
        return file_sha256(self.exported.path)
