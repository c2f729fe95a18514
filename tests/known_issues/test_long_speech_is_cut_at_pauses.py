"""Speech beyond a recognizer's window was cut after every 30 s, through words."""

from __future__ import annotations

import numpy as np
import pytest

from bowerbird.encoders.recognizer_base import cut_at_pauses

RATE = 16000


def words(seconds: float, pause_s: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise in words of half a second to one, with pauses; and which samples are of a word."""
    rng = np.random.default_rng(seed)
    wave, spoken = [], []
    while sum(map(len, wave)) < seconds * RATE:
        word = rng.normal(scale=0.1, size=int(RATE * rng.uniform(0.5, 1.0)))
        pause = rng.normal(scale=0.001, size=int(RATE * pause_s))
        wave += [word, pause]
        spoken += [np.ones(len(word), bool), np.zeros(len(pause), bool)]
    return np.concatenate(wave).astype(np.float32), np.concatenate(spoken)


@pytest.mark.parametrize(("seconds", "pause_s"), [(35, 0.25), (31, 0.5), (100, 0.2)])
def test_no_cut_is_in_a_word_and_nothing_is_lost(seconds: float, pause_s: float) -> None:
    wave, spoken = words(seconds, pause_s, seed=int(seconds))
    pieces = cut_at_pauses(wave, 30 * RATE)
    assert np.array_equal(np.concatenate(pieces), wave)
    assert all(15 * RATE <= len(piece) <= 30 * RATE for piece in pieces[:-1]) and len(pieces) >= 2
    cuts = np.cumsum([len(piece) for piece in pieces])[:-1]
    assert not spoken[cuts].any()


def test_short_speech_stays_whole() -> None:
    wave = np.ones(30 * RATE, np.float32)
    assert [len(piece) for piece in cut_at_pauses(wave, 30 * RATE)] == [30 * RATE]
    assert [len(piece) for piece in cut_at_pauses(wave[:0], 30 * RATE)] == [0]


def test_speech_without_a_pause_is_cut_all_the_same() -> None:
    pieces = cut_at_pauses(np.ones(70 * RATE, np.float32), 30 * RATE)
    assert sum(map(len, pieces)) == 70 * RATE and max(map(len, pieces)) <= 30 * RATE
