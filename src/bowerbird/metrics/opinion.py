"""Estimated opinion scores by models from local folders, without a reference: UTMOS, NISQA, and whatever is exported.

What a folder of ``evaluation.opinions`` holds decides how it is read:

* ``utmos22_strong*.pt``: UTMOS22 strong, by `bowerbird.metrics.utmos`;
* ``nisqa.tar``, ``nisqa_mos_only.tar``: NISQA, by `bowerbird.metrics.nisqa`; the first has four more metrics, named
  ``<name>_noisiness``, ``_discontinuity``, ``_coloration``, ``_loudness``;
* ``model.onnx``: one input, a float32 waveform ``(1, N)`` at 16 kHz, and one output of a single value.

    evaluation: {opinions: {utmos: models/utmos, nisqa: models/nisqa}}

The metric bears the name given there; its rows name the model, the file or folder, and the file's SHA-256. None of the
published weights was at hand: what is tested is that files of their layout are read, run and recorded as described here.

Letters: ``N`` samples.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bowerbird.config.base import ModelReference
from bowerbird.encoders.checkpoint import OPINION, ModelIdentity, find_checkpoint
from bowerbird.encoders.onnx import ExportedModel
from bowerbird.metrics.nisqa import Nisqa
from bowerbird.metrics.utmos import Utmos


class OpinionScorer:
    """One model; its ``metrics`` are ``name``, and of NISQA its dimensions as well."""

    def __init__(self, name: str, folder: str) -> None:
        option = f"evaluation.opinions.{name}"
        checkpoint = find_checkpoint(ModelReference("folder", folder), option, OPINION)
        path = checkpoint.weights[0]
        self.metrics: tuple[str, ...] = (name,)
        self._score: Callable[[np.ndarray], list[float]]
        if path.suffix == ".onnx":
            model, self._score = f"{name} {checkpoint.name}", _single_value(ExportedModel(folder, option))
        elif path.suffix == ".pt":
            utmos = Utmos(path, option)
            model, self._score = f"utmos22-strong {path.name}", lambda wave: [utmos.score(wave)]
        else:
            nisqa = Nisqa(path, option)
            self.metrics = tuple(f"{name}{dimension}" for dimension in nisqa.dimensions)
            model, self._score = f"nisqa {path.name} at {nisqa.rate} Hz", nisqa.score
        self.identity = ModelIdentity(model, checkpoint.weights_sha256)

    def score(self, wave: np.ndarray) -> dict[str, float]:
        """The opinion scores of a 16 kHz ``wave`` ``(N,)``, by metric."""
        return dict(zip(self.metrics, self._score(wave), strict=True))

    def describe(self) -> ModelIdentity:
        """The kind of model with its file or folder, and the file's SHA-256."""
        return self.identity


def _single_value(model: ExportedModel) -> Callable[[np.ndarray], list[float]]:
    """The exported model's output for a wave ``(N,)``, an error unless it is one number."""

    def score(wave: np.ndarray) -> list[float]:
        value = model(wave)
        if value.size != 1:
            raise ValueError(f"{model.path}: gives {value.size} values, an opinion score is one")
        return [float(value.reshape(()))]

    return score
