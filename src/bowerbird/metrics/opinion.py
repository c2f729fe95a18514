"""Estimated opinion scores by models from local folders, without a reference: UTMOS, NISQA, and whatever is exported.

What a folder of ``evaluation.opinions`` holds decides how it is read:

* ``utmos22_strong*.pt``: UTMOS22 strong, by `bowerbird.metrics.utmos`;
* ``nisqa.tar``, ``nisqa_mos_only.tar``: NISQA, by `bowerbird.metrics.nisqa`; the first has four more metrics, named
  ``<name>_noisiness``, ``_discontinuity``, ``_coloration``, ``_loudness``;
* ``model.onnx``: one input, a float32 waveform ``(1, samples)`` at 16 kHz, and one output of a single value.

    evaluation: {opinions: {utmos: models/utmos, nisqa: models/nisqa}}

The metric bears the name given there, the row what read it, the file's or folder's name and the file's SHA-256. None of
the published weights was at hand: what is tested is that files of their layout are read, run and recorded as said here.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from bowerbird.artifacts.files import file_sha256
from bowerbird.encoders.onnx import FILE, ExportedModel
from bowerbird.errors import BowerbirdError

PATTERNS = (FILE, "utmos22_strong*.pt", "nisqa.tar", "nisqa_mos_only.tar")


class OpinionJudge:
    """One model; its ``metrics`` are ``name``, and of NISQA its dimensions as well."""

    def __init__(self, name: str, folder: str) -> None:
        option = f"evaluation.opinions.{name}"
        path = find_weights(Path(folder).expanduser(), option)
        self.metrics: tuple[str, ...] = (name,)
        self.weights_sha256 = file_sha256(path)
        if path.name == FILE:
            self.model = f"{name} {path.parent.resolve().name}"
            self._judge: Callable[[np.ndarray], list[float]] = _exported(ExportedModel(str(path.parent), option))
        elif path.suffix == ".pt":
            from bowerbird.metrics.utmos import Utmos

            utmos = Utmos(path, option)
            self.model, self._judge = f"utmos22-strong {path.name}", lambda wave: [utmos.score(wave)]
        else:
            from bowerbird.metrics.nisqa import Nisqa

            nisqa = Nisqa(path, option)
            self.metrics = tuple(f"{name}{dimension}" for dimension in nisqa.dimensions)
            self.model, self._judge = f"nisqa {path.name} at {nisqa.rate} Hz", nisqa.score

    def score(self, wave: np.ndarray) -> dict[str, float]:
        """The opinion scores of a 16 kHz mono ``wave`` ``(samples,)`` by metric."""
        return dict(zip(self.metrics, self._judge(wave), strict=True))


def find_weights(folder: Path, option: str) -> Path:
    """The file in ``folder`` that is read; an error if there is none, or more than one."""
    found = sorted({path for pattern in PATTERNS for path in folder.glob(pattern) if path.is_file()})
    if not found:
        raise BowerbirdError(
            f"{option}: {folder}: has no {', '.join(PATTERNS[:-1])} or {PATTERNS[-1]}; put the weights there, or leave it out"
        )
    if len(found) > 1:
        raise BowerbirdError(
            f"{option}: {folder}: has {found[0].name} and {found[1].name}; which is meant? One file a folder"
        )
    return found[0]


def _exported(model: ExportedModel) -> Callable[[np.ndarray], list[float]]:
    def judge(wave: np.ndarray) -> list[float]:
        value = model(wave)
        if value.size != 1:
            raise ValueError(f"{model.path}: gives {value.size} values, an opinion score is one")
        return [float(value.reshape(()))]

    return judge
