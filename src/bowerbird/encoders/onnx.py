"""Models exported to ONNX, from a local folder: they run without the code that made them, and nothing is unpickled."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bowerbird.errors import BowerbirdError

FILE = "model.onnx"


class ExportedModel:
    """``model.onnx`` of a folder: one input ``(1, samples)`` float32 at 16 kHz; its first output is what is wanted.

    It runs on one thread, so that the same wave always gives the same bytes. ``option`` names the key of the
    configuration in errors.
    """

    def __init__(self, folder: str, option: str) -> None:
        self.path = Path(folder).expanduser() / FILE
        if not self.path.is_file():
            raise BowerbirdError(f"{option}: {folder}: has no {FILE}; export the model to that file, or leave it out")
        try:
            import onnxruntime
        except ImportError as error:
            raise BowerbirdError(f"{option}: {folder}: needs the package onnxruntime; install it") from error
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = settings.inter_op_num_threads = 1
        settings.log_severity_level = 3
        try:
            self.session = onnxruntime.InferenceSession(str(self.path), settings, providers=["CPUExecutionProvider"])
        except Exception as error:  # its errors share no type
            reason = " ".join(str(error).split())[:200]
            raise BowerbirdError(f"{option}: {self.path}: not a model that can be run ({reason})") from None
        inputs = self.session.get_inputs()
        if len(inputs) != 1 or inputs[0].type != "tensor(float)" or len(inputs[0].shape) != 2:
            found = ", ".join(f"{item.name} {item.type} {item.shape}" for item in inputs)
            raise BowerbirdError(f"{option}: {self.path}: takes {found}; it must take one float wave (1, samples)")
        if isinstance(length := inputs[0].shape[1], int):
            raise BowerbirdError(
                f"{option}: {self.path}: takes {length} samples and no other number; export it with a free length "
                "(docs/metrics/speaker.md)"
            )

    def __call__(self, wave: np.ndarray) -> np.ndarray:
        """Its first output for a wave ``(samples,)`` at 16 kHz."""
        name = self.session.get_inputs()[0].name
        return np.asarray(self.session.run(None, {name: np.asarray(wave, np.float32)[None]})[0])
