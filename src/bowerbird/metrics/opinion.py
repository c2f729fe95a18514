"""Estimated opinion scores by models from local folders: UTMOS, NISQA and their kin, as far as they are exported.

A folder holds ``model.onnx``: one input, a float32 waveform ``(1, samples)`` at 16 kHz, and one output of a single value,
the opinion score. Their authors publish weights in formats that run code when read, and under licences that forbid
shipping them; export them once where they run, and name the folder in ``evaluation.opinions``:

    evaluation: {opinions: {utmos: models/utmos}}

The metric bears the name given there, the row the folder's name and the file's SHA-256. None of them was run on this
project's machines: what is tested is that such a file is read, fed and recorded as said here.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bowerbird.artifacts import file_sha256
from bowerbird.encoders.exported import ExportedModel


class OpinionJudge:
    """One exported model."""

    def __init__(self, name: str, folder: str) -> None:
        self.name = name
        self.exported = ExportedModel(folder, f"evaluation.opinions.{name}")
        self.model = f"{name} {Path(folder).resolve().name}"
        self.weights_sha256 = file_sha256(self.exported.path)

    def score(self, wave: np.ndarray) -> float:
        """The opinion score of a 16 kHz mono ``wave`` ``(samples,)``."""
        value = self.exported(wave)
        if value.size != 1:
            raise ValueError(f"{self.exported.path}: gives {value.size} values, an opinion score is one")
        return float(value.reshape(()))
