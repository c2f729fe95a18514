"""Distill-MOS: estimated opinion of speech without a reference (Stahl and Gamper 2025), a second opinion beside DNSMOS.

A convolutional transformer that was distilled from a far larger model on features of XLS-R; network and weights come with the
packages ``distillmos`` and ``xls-r-sqa``. As in the package, windows of 7.68 s that lie at most one second apart are scaled to
their peaks, scored, and averaged. Two rules are ours:

* Speech shorter than one window is repeated until it fills one, as for DNSMOS. The package fills the window with zeros, and
  the network counts these against the speech (``benchmarks/quality.py`` measures it).
* A wave below `SILENCE_RMS` has no value: scaling to the peak would make speech of its rounding errors.

Windows are scored one by one, so a score depends on nothing but the wave.

Letters: ``N`` samples, ``S`` samples of a window, ``W`` windows.
"""

from __future__ import annotations

import importlib.metadata
import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bowerbird.artifacts.files import file_sha256
from bowerbird.audio import SAMPLE_RATE, rms
from bowerbird.encoders.checkpoint import ModelIdentity, packaged_file
from bowerbird.errors import BowerbirdError

OPTION = "evaluation.distill_mos"
WEIGHTS = "weights/distill_mos_v7.pt"
WINDOW = 122880  # samples that the network reads, S: 7.68 s
LONGEST_HOP = SAMPLE_RATE  # samples between the starts of two windows, at most
SILENCE_RMS = 1e-5  # -100 dB of full scale


class DistillMosScorer:
    """The network with its weights, on the CPU; the interface is that of `bowerbird.metrics.opinion.OpinionScorer`."""

    metrics: tuple[str, ...] = ("distill_mos",)

    def __init__(self) -> None:
        weights = _packaged("distillmos", WEIGHTS)
        _packaged("xls_r_sqa", "sqa_model.py")  # that distillmos imports
        from distillmos import ConvTransformerSQAModel

        with torch.random.fork_rng(devices=[]):
            self.network = ConvTransformerSQAModel(load_weights=False, segmenting_in_forward=False)
        self.network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True)["model"])
        self.network.eval().requires_grad_(False)
        version = importlib.metadata.version("distillmos")
        name = f"distill-mos v7 (distillmos {version}), short speech repeated"
        self.identity = ModelIdentity(name, file_sha256(weights))

    @torch.inference_mode()
    def score(self, wave: np.ndarray) -> dict[str, float]:
        """The opinion score (1 to 5) of a 16 kHz ``wave`` ``(N,)``; NaN for silence; a wave without samples is an error."""
        if wave.size == 0:
            raise ValueError("no samples to score")
        if rms(wave) < SILENCE_RMS:
            return {"distill_mos": math.nan}
        opinions = [float(self.network(window[None])) for window in cut_windows(wave)]
        return {"distill_mos": sum(opinions) / len(opinions)}

    def describe(self) -> ModelIdentity:
        """The network with the package's version and our rule for short speech, and the SHA-256 of the weights."""
        return self.identity


def cut_windows(wave: np.ndarray) -> Tensor:
    """Windows ``(W, S)`` of a wave ``(N,)``, evenly from its first sample to its last; a shorter wave is repeated."""
    samples = torch.from_numpy(np.resize(wave, max(len(wave), WINDOW)).astype(np.float32))
    beyond = len(samples) - WINDOW
    places = np.linspace(0, 1, math.ceil(beyond / LONGEST_HOP) + 1)
    starts = [int(place * beyond) for place in places]
    return torch.stack([samples[start : start + WINDOW] for start in starts])


def _packaged(package: str, name: str) -> Path:
    """Path of a file inside one of the two packages; an error says how to install it, and how to do without."""
    try:
        return packaged_file(package, name, OPTION)
    except BowerbirdError as error:
        raise BowerbirdError(f"{error}, or {OPTION}: false") from None
