"""Speech as the parameters of WORLD (Morise, Yokomori and Ozawa 2016): spectral envelope, aperiodicity, voicing and pitch.

    rows = analyze(wave)            (T, 252), four subframes of 5 ms in each frame of 20 ms
    wave = synthesize(rows)         (320 T,)

Frame i holds the values around samples 320 i + 80, 160, 240 and 320, whose mean is 320 i + 200, where a frame of WavLM is
centered. Columns of a frame, each part subframe by subframe:

    ENVELOPE       240    60 values of the log envelope each: a cosine transform over the mel scale (WORLD's own coding); the first
                          is the level, the mean of the log spectrum
    APERIODICITY   4      of the band around 3 kHz, in dB: 0 is noise, -60 a clean tone
    VOICING        4      1 voiced, 0 unvoiced (a network gives a probability)
    PITCH          4      natural logarithm of F0 in Hz; a straight line between voiced stretches

Letters: ``N`` samples, ``T`` frames.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bowerbird.audio import HOP, SAMPLE_RATE
from bowerbird.errors import BowerbirdError

SUBFRAMES = 4
CODED = 60  # values of an envelope
ENVELOPE = slice(0, SUBFRAMES * CODED)
APERIODICITY = slice(ENVELOPE.stop, ENVELOPE.stop + SUBFRAMES)
VOICING = slice(APERIODICITY.stop, APERIODICITY.stop + SUBFRAMES)
PITCH = slice(VOICING.stop, VOICING.stop + SUBFRAMES)
DIM = PITCH.stop  # 252
LEVEL = slice(0, ENVELOPE.stop, CODED)  # the first value of each envelope

SUBHOP = HOP // SUBFRAMES  # samples
PERIOD_MS = 1000 * SUBHOP / SAMPLE_RATE
LOWEST_HZ, HIGHEST_HZ = 60.0, 450.0  # of the pitch that is looked for
NO_PITCH_HZ = 120.0  # of speech in which nothing is voiced
HIGHEST_PITCH_HZ = 1000.0  # of the pitch that is played


def _program() -> Any:
    """The package pyworld, which is imported when it is needed."""
    try:
        import pyworld
    except ImportError as error:
        raise BowerbirdError(f"WORLD: pyworld cannot be imported ({error}); pip install pyworld-prebuilt") from None
    return pyworld


def num_frames(num_samples: int) -> int:
    """Frames of ``num_samples``: as many as a self-supervised encoder gives."""
    return max(0, (num_samples - SUBHOP) // HOP)


def analyze(wave: np.ndarray) -> np.ndarray:
    """Rows ``(T, 252)`` float32 of a wave ``(N,)`` at 16 kHz, of 400 samples at least.

    Pitch by DIO and StoneMask between 60 and 450 Hz, the envelope by CheapTrick, aperiodicity by D4C. The same wave gives the
    same rows, whatever was analyzed before.
    """
    pyworld = _program()
    wave = np.ascontiguousarray(wave, dtype=np.float64)
    f0, times = pyworld.dio(wave, SAMPLE_RATE, f0_floor=LOWEST_HZ, f0_ceil=HIGHEST_HZ, frame_period=PERIOD_MS)
    f0 = pyworld.stonemask(wave, f0, times, SAMPLE_RATE)
    envelope = pyworld.code_spectral_envelope(pyworld.cheaptrick(wave, f0, times, SAMPLE_RATE), SAMPLE_RATE, CODED)
    aperiodicity = pyworld.code_aperiodicity(pyworld.d4c(wave, f0, times, SAMPLE_RATE), SAMPLE_RATE)
    frames = num_frames(len(wave))
    used = slice(1, 1 + SUBFRAMES * frames)  # the value at sample 0 belongs to no frame
    columns = (envelope, aperiodicity, (f0 > 0)[:, None], continuous_pitch(f0)[:, None])
    return np.concatenate([part[used].reshape(frames, -1) for part in columns], axis=1).astype(np.float32)


def continuous_pitch(f0: np.ndarray) -> np.ndarray:
    """Natural logarithms ``(n,)`` of ``f0 (n,)`` in Hz, 0 where unvoiced: there, a straight line between its neighbors."""
    voiced = np.flatnonzero(f0 > 0)
    if not len(voiced):
        return np.full(len(f0), np.log(NO_PITCH_HZ))
    return np.interp(np.arange(len(f0)), voiced, np.log(f0[voiced]))


def synthesize(rows: np.ndarray) -> np.ndarray:
    """The wave ``(320 T,)`` float32 that ``rows (T, 252)`` describe; the same rows give the same wave."""
    pyworld = _program()
    if not len(rows):
        return np.zeros(0, np.float32)
    envelope, aperiodicity, voicing, pitch = (
        subframes(rows, part).astype(np.float64) for part in (ENVELOPE, APERIODICITY, VOICING, PITCH)
    )
    f0 = np.where(voicing[:, 0] > 0.5, np.exp(pitch[:, 0]).clip(LOWEST_HZ / 2, HIGHEST_PITCH_HZ), 0.0)
    size = pyworld.get_cheaptrick_fft_size(SAMPLE_RATE)
    spectrum = pyworld.decode_spectral_envelope(np.ascontiguousarray(envelope), SAMPLE_RATE, size)
    noise = pyworld.decode_aperiodicity(np.ascontiguousarray(aperiodicity.clip(-60.0, 0.0)), SAMPLE_RATE, size)
    # the values at sample 0 are those of the first subframe
    f0, spectrum, noise = (np.concatenate([part[:1], part]) for part in (f0, spectrum, noise))
    wave = pyworld.synthesize(f0, spectrum, noise, SAMPLE_RATE, PERIOD_MS)
    return wave[: HOP * len(rows)].astype(np.float32)


def envelope_decoding() -> np.ndarray:
    """The matrix ``(60, 513)`` that coded envelopes are multiplied by to give logarithms of power: WORLD's decoding is linear."""
    pyworld = _program()
    size = pyworld.get_cheaptrick_fft_size(SAMPLE_RATE)
    return np.asarray(np.log(pyworld.decode_spectral_envelope(np.eye(CODED), SAMPLE_RATE, size)))


def subframes(rows: np.ndarray, part: slice) -> np.ndarray:
    """The values of one part by subframe, ``(4 T, n)``, of ``rows (T, 252)``."""
    return rows[:, part].reshape(SUBFRAMES * len(rows), -1)
