"""DNSMOS: estimated opinion scores of P.835 (OVRL, SIG, BAK) and P.808 (Reddy et al. 2021, 2022), without a reference.

The networks and their calibration come with the package ``speechmos``: windows of 9.01 s every second, averaged; shorter
speech is repeated until it fills one window. They are trained on noisy speech of call applications: a relative measure here.

Letters: ``N`` samples.
"""

from __future__ import annotations

import hashlib
import importlib.metadata

import numpy as np

from bowerbird.audio import SAMPLE_RATE
from bowerbird.encoders.checkpoint import ModelIdentity, packaged_file

OUTPUTS = {"dnsmos_ovrl": "ovrl_mos", "dnsmos_sig": "sig_mos", "dnsmos_bak": "bak_mos", "dnsmos_p808": "p808_mos"}


class DnsmosScorer:
    """DNSMOS on one thread, so that the same audio always gets the same score."""

    def __init__(self) -> None:
        import onnxruntime  # a slow library, as the next one
        from speechmos.dnsmos import DNSMOS

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        names = ("sig_bak_ovr.onnx", "model_v8.onnx")
        primary, p808 = (packaged_file("speechmos", f"dnsmos_models/{name}", "evaluation.quality") for name in names)
        self.weights = primary, p808
        self.dnsmos = DNSMOS.__new__(DNSMOS)  # its own constructor takes all cores
        self.dnsmos.primary_model_path = str(primary)
        for attribute, path in (("onnx_sess", primary), ("p808_onnx_sess", p808)):
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            setattr(self.dnsmos, attribute, session)

    def score(self, wave: np.ndarray) -> dict[str, float]:
        """The four scores (1 to 5) of a 16 kHz ``wave`` ``(N,)``, by metric; a wave without samples is an error."""
        if wave.size == 0:
            raise ValueError("no samples to score")
        result = self.dnsmos(np.clip(wave, -1.0, 1.0), SAMPLE_RATE, False)
        return {name: float(result[key]) for name, key in OUTPUTS.items()}

    def describe(self) -> ModelIdentity:
        """The networks by name, and the SHA-256 over both."""
        digest = hashlib.sha256()
        for path in self.weights:
            digest.update(path.read_bytes())
        version = importlib.metadata.version("speechmos")
        return ModelIdentity(f"dnsmos sig_bak_ovr + model_v8 (speechmos {version})", digest.hexdigest())
