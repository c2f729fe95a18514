"""What can happen to a recording before it is converted: noise, clipping, lossy codecs.

`corrupt` does it to waves, for studies of robustness; `degrade` imitates it on log spectra, quickly, for training.

Letters: ``N`` samples, ``B`` batch, ``T`` frames, ``M`` bins or bands.
"""

from __future__ import annotations

import io

import numpy as np
import soundfile
import torch
from torch import Tensor

from bowerbird.audio import SAMPLE_RATE
from bowerbird.errors import BowerbirdError

FAINTEST = -11.6  # of log spectra: below the floor of both encoders (ln 1e-5)
CODECS = {"opus": ("OGG", "OPUS"), "mp3": ("MP3", "MPEG_LAYER_III")}  # of libsndfile


def corrupt(wave: np.ndarray, kind: str, level: float, seed: int = 0) -> np.ndarray:
    """``wave`` ``(N,)`` float32 at 16 kHz after ``kind``, as long as before and aligned with it.

    noise: white, at an SNR of ``level`` dB over the whole wave. clipping: so loud that the share ``level`` of the samples
    clips, then back at the old volume. opus, mp3: through the codec and back, quality from 0 (smallest file) to 1.
    """
    if kind == "noise":
        noise = np.random.default_rng(seed).standard_normal(len(wave)).astype(np.float32)
        return wave + noise * np.float32(np.sqrt(np.mean(np.square(wave))) * 10 ** (-level / 20))
    if kind == "clipping":
        if not 0 < level < 1:
            raise BowerbirdError(f"corruption_level: {level:g}: the share of samples that clip; between 0 and 1")
        ceiling = np.quantile(np.abs(wave), 1 - level)
        return np.clip(wave, -ceiling, ceiling)
    if kind in CODECS:
        return _through_codec(wave, *CODECS[kind], level)
    raise BowerbirdError(f"corruption: {kind!r}: unknown; known: noise, clipping, {', '.join(CODECS)}")


def _through_codec(wave: np.ndarray, container: str, codec: str, quality: float) -> np.ndarray:
    """``wave`` ``(N,)`` encoded and decoded; the codec's delay is found by cross-correlation and taken off."""
    if not 0 <= quality <= 1:
        raise BowerbirdError(f"corruption_level: {quality:g}: a codec's quality; between 0 and 1")
    memory = io.BytesIO()
    soundfile.write(memory, wave, SAMPLE_RATE, format=container, subtype=codec, compression_level=1 - quality)
    memory.seek(0)
    decoded, _ = soundfile.read(memory, dtype="float32")
    size = 2 ** int(np.ceil(np.log2(len(wave) + len(decoded))))
    correlation = np.fft.irfft(np.fft.rfft(decoded, size) * np.conj(np.fft.rfft(wave, size)))
    delay = int(np.argmax(correlation[: SAMPLE_RATE // 5]))  # no codec delays by more than 0.2 s
    aligned = np.zeros_like(wave)
    kept = decoded[delay : delay + len(wave)]
    aligned[: len(kept)] = kept
    return aligned


def degrade(x: Tensor, snr_min_db: float, snr_max_db: float) -> Tensor:
    """Log spectra ``(B, T, M)`` as if they had been recorded with noise, and half of the items through a codec.

    Powers add: 1/2 ln(e^2x + N), N exponentially distributed (that of a Gaussian's spectrum) at an SNR drawn for each item.
    The codec's part is a band limit, drawn from the upper half of the bands.
    """
    batch, _, bands = x.shape
    power = (2 * x).exp()
    snr = torch.empty(batch, 1, 1, device=x.device).uniform_(snr_min_db, snr_max_db)
    noise = -torch.rand_like(x).clamp_min(1e-6).log() * power.mean(dim=(1, 2), keepdim=True) * 10 ** (-snr / 10)
    noisy = (power + noise).log() / 2
    limit = torch.randint(bands // 2, 2 * bands - bands // 2, (batch, 1, 1), device=x.device)
    return noisy.masked_fill(torch.arange(bands, device=x.device) >= limit, FAINTEST)
