"""DNSMOS: estimated opinion scores of P.835 (OVRL, SIG, BAK) and P.808 (Reddy et al. 2021, 2022), without a reference.

The networks and their calibration come with the package ``speechmos``: windows of 9.01 s each second, averaged; shorter
speech is repeated until it fills one window. Trained on noisy speech of call applications: a relative measure here.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

import numpy as np

from bowerbird.errors import BowerbirdError

METRICS = {"dnsmos_ovrl": "ovrl_mos", "dnsmos_sig": "sig_mos", "dnsmos_bak": "bak_mos", "dnsmos_p808": "p808_mos"}


_RATE = 16000


class QualityJudge:
    """DNSMOS on one thread, so that the same audio always gets the same score."""

    def __init__(self) -> None:
        import onnxruntime
        from speechmos.dnsmos import DNSMOS

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        primary, p808 = _weights()
        self.dnsmos = DNSMOS.__new__(DNSMOS)  # its own constructor takes all cores
        self.dnsmos.primary_model_path = str(primary)
        for attribute, path in (("onnx_sess", primary), ("p808_onnx_sess", p808)):
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            setattr(self.dnsmos, attribute, session)

    def score(self, wave: np.ndarray) -> dict[str, float]:
        """The four scores (1 to 5) of a 16 kHz mono ``wave`` ``(samples,)``; it must not be empty."""
        if wave.size == 0:
            raise ValueError("no samples to judge")
        result = self.dnsmos(np.clip(wave, -1.0, 1.0), _RATE, False)
        return {name: float(result[key]) for name, key in METRICS.items()}


@functools.cache
def judge_identity() -> tuple[str, str]:
    """(model id, SHA-256 over both networks)."""
    import importlib.metadata

    digest = hashlib.sha256()
    for path in _weights():
        digest.update(path.read_bytes())
    return f"dnsmos sig_bak_ovr + model_v8 (speechmos {importlib.metadata.version('speechmos')})", digest.hexdigest()


def _weights() -> tuple[Path, Path]:
    import importlib.util

    spec = importlib.util.find_spec("speechmos")  # importing it loads librosa, which takes seconds
    if spec is None or not spec.submodule_search_locations:
        raise BowerbirdError("evaluation.quality: true: needs the package speechmos; install it or set quality: false")
    folder = Path(spec.submodule_search_locations[0]) / "dnsmos_models"
    return folder / "sig_bak_ovr.onnx", folder / "model_v8.onnx"
