"""Models exported to ONNX, from a local folder: they run without the code that made them, and nothing is unpickled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bowerbird.config.base import ModelReference
from bowerbird.encoders.checkpoint import EXPORTED, find_checkpoint
from bowerbird.errors import BowerbirdError


def load_session(path: Path, where: str, threads: int = 1) -> Any:
    """An ONNX Runtime session of the model in the file ``path``, on the CPU; ``where`` begins an error."""
    try:
        import onnxruntime
    except ImportError as error:
        raise BowerbirdError(f"{where}: {path}: needs the package onnxruntime; install it") from error
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads, settings.inter_op_num_threads = threads, 1
    settings.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors share no type
        reason = " ".join(str(error).split())[:200]
        raise BowerbirdError(f"{where}: {path}: not a model that can be run ({reason})") from None


class ExportedModel:
    """``model.onnx`` of a folder: one input ``(1, N)`` float32, N samples at 16 kHz; its first output is what is wanted.

    It runs on one thread, so that the same wave always gives the same bytes. ``key`` names the option in errors.
    """

    def __init__(self, folder: str | Path, key: str) -> None:
        self.checkpoint = find_checkpoint(ModelReference("folder", str(folder)), key, EXPORTED)
        self.path = self.checkpoint.weights[0]
        self.session = load_session(self.path, key)
        self._check_input(f"{key}: {self.path}")

    def _check_input(self, where: str) -> None:
        """Refuse a model that takes anything but one wave of any length."""
        inputs = self.session.get_inputs()
        if len(inputs) != 1 or inputs[0].type != "tensor(float)" or len(inputs[0].shape) != 2:
            found = ", ".join(f"{item.name} {item.type} {item.shape}" for item in inputs)
            raise BowerbirdError(f"{where}: takes {found}; it must take one float wave (1, samples)")
        if isinstance(length := inputs[0].shape[1], int):
            raise BowerbirdError(
                f"{where}: takes {length} samples and no other number; export it with a free length "
                "(docs/metrics/speaker.md)"
            )

    def __call__(self, wave: np.ndarray) -> np.ndarray:
        """The model's first output, of any shape, for a wave ``(N,)`` at 16 kHz."""
        name = self.session.get_inputs()[0].name
        return np.asarray(self.session.run(None, {name: np.asarray(wave, np.float32)[None]})[0])
