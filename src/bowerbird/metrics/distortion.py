"""Mel-cepstral distortion to parallel truth: the target speaking the very sentence, where the corpus has it.

``MCD = 10 / ln 10 * sqrt(2 * sum_{m=1..24} (c_m - c'_m)^2)`` in dB (Kubichek 1993), averaged over the steps of the path
that aligns both utterances in time (dynamic time warping, steps of one frame on either side or both, Euclidean cost).

* Cepstra are the cosine transform of the 80-band log-mel magnitude spectrum, one frame per 10 ms, scaled so that
  ``ln |H| = sum_m c_m cos(m w)`` over the mel axis. ``c_0``, the loudness, is left out. This is our definition: numbers
  from WORLD's or SPTK's mel-generalised cepstra are another metric and not comparable with it.
* Nothing is trimmed: silence at the ends is aligned as everything else is.

Letters: ``N`` samples, ``T`` frames.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch

from bowerbird.nn.mel import LogMel

ORDER, BANDS, CEPSTRAL_HOP = 24, 80, 160
MODEL = f"mel cepstra 1 to {ORDER} of {BANDS} bands, 10 ms, time-warped"  # what score rows of ``mcd`` name
_DECIBELS = 10 / math.log(10) * math.sqrt(2)


@functools.cache
def _basis() -> np.ndarray:
    """Cosines ``(BANDS, ORDER)``: log-mel values times this are ``c_1 .. c_24``."""
    band, order = np.arange(BANDS)[:, None] + 0.5, np.arange(1, ORDER + 1)[None]
    return np.cos(np.pi * order * band / BANDS) * 2 / BANDS


@functools.cache
def _mel() -> LogMel:
    return LogMel(hop=CEPSTRAL_HOP, bands=BANDS)


def mel_cepstra(wave: np.ndarray) -> np.ndarray:
    """Cepstra ``(T, 24)`` float64 of a 16 kHz ``wave`` ``(N,)``; shorter ones are padded to a window of 64 ms."""
    padded = np.pad(np.asarray(wave, np.float32), (0, max(0, 1024 - len(wave))))
    with torch.inference_mode():
        mel = _mel()(torch.from_numpy(padded)[None])[0].double().numpy()
    return mel @ _basis()


def align(cost: np.ndarray) -> np.ndarray:
    """The cheapest path ``(steps, 2)`` through ``cost`` ``(n, m)`` from corner to corner, found by anti-diagonals."""
    n, m = cost.shape
    total = np.full((n + 1, m + 1), np.inf)
    total[0, 0] = 0.0
    for diagonal in range(2, n + m + 1):
        i = np.arange(max(1, diagonal - m), min(n, diagonal - 1) + 1)
        j = diagonal - i
        before = np.minimum(np.minimum(total[i - 1, j - 1], total[i - 1, j]), total[i, j - 1])
        total[i, j] = cost[i - 1, j - 1] + before
    path, i, j = [], n, m
    while (i, j) != (0, 0):
        path.append((i - 1, j - 1))
        steps = ((i - 1, j - 1), (i - 1, j), (i, j - 1))
        i, j = min(steps, key=lambda step: total[step])
    return np.array(path[::-1])


def mel_cepstral_distortion(converted: np.ndarray, truth: np.ndarray) -> float:
    """MCD in dB of two waves ``(N,)`` at 16 kHz that say the same words."""
    ours, theirs = mel_cepstra(converted), mel_cepstra(truth)
    squares = (ours**2).sum(1)[:, None] + (theirs**2).sum(1)[None] - 2 * ours @ theirs.T
    cost = np.sqrt(np.maximum(squares, 0.0))
    path = align(cost)
    return float(_DECIBELS * cost[path[:, 0], path[:, 1]].mean())
