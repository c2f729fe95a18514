"""Mel-cepstral distortion, energy correlation and the compatibility column against what they must and must not see."""

from __future__ import annotations

import math

import numpy as np
import pytest
from speech import voice

from bowerbird.metrics.distortion import ORDER, align, mel_cepstra, mel_cepstral_distortion
from bowerbird.metrics.prosody import PitchTrack, energy_correlation, energy_track, prosody_scores
from bowerbird.nn.mel import LogMel


def wave(pitch: float = 120, seconds: float = 1.0, seed: int = 0) -> np.ndarray:
    return voice(pitch, seconds, seed).astype(np.float32) / 32768


def test_the_same_utterance_has_no_distortion_and_loudness_is_none() -> None:
    assert mel_cepstral_distortion(wave(), wave()) == pytest.approx(0.0, abs=1e-4)
    # not zero: the floor of the log-mel spectrum is absolute
    assert mel_cepstral_distortion(0.5 * wave(), wave()) < 0.15 * mel_cepstral_distortion(wave(200), wave())


def test_tempo_is_aligned_and_another_spectrum_is_not() -> None:
    noise = np.random.default_rng(0).normal(size=16000).astype(np.float32) * 0.05
    slower = np.repeat(wave().reshape(-1, 160), 2, axis=0)[: 2 * 100]  # each 10 ms twice
    assert mel_cepstral_distortion(slower.reshape(-1), wave()) < mel_cepstral_distortion(noise, wave()) / 2


def test_cepstra_are_those_of_the_log_spectrum() -> None:
    """All 80 coefficients give the log-mel spectrum back; the 24 kept are its smooth part without the level."""
    import torch

    mel = LogMel(hop=160)(torch.from_numpy(wave())[None])[0].double().numpy()
    kept = mel_cepstra(wave())
    assert kept.shape == (len(mel), ORDER)
    order, band = np.arange(1, 80)[:, None], (np.arange(80)[None] + 0.5) / 80
    cosines = np.cos(np.pi * order * band)
    assert (mel @ cosines.T * 2 / 80) @ cosines == pytest.approx(mel - mel.mean(axis=1, keepdims=True), abs=1e-9)
    assert kept == pytest.approx((mel @ cosines.T * 2 / 80)[:, :ORDER])


def test_a_known_difference_of_cepstra_is_the_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    tracks = {1: np.zeros((5, ORDER)), 2: np.full((5, ORDER), 0.1)}
    monkeypatch.setattr("bowerbird.metrics.distortion.mel_cepstra", lambda w: tracks[len(w)])
    expected = 10 / math.log(10) * math.sqrt(2 * ORDER * 0.1**2)
    assert mel_cepstral_distortion(np.zeros(1), np.zeros(2)) == pytest.approx(expected)


def test_the_path_is_the_cheapest_by_brute_force() -> None:
    cost = np.random.default_rng(1).uniform(size=(5, 4))

    def cheapest(i: int, j: int) -> float:
        if (i, j) == (0, 0):
            return cost[0, 0]
        before = [(i - 1, j - 1), (i - 1, j), (i, j - 1)]
        return cost[i, j] + min(cheapest(*step) for step in before if min(step) >= 0)

    path = align(cost)
    assert path[0].tolist() == [0, 0] and path[-1].tolist() == [4, 3]
    assert (np.diff(path, axis=0).max(axis=1) == 1).all() and (np.diff(path, axis=0) >= 0).all()
    assert cost[path[:, 0], path[:, 1]].sum() == pytest.approx(cheapest(4, 3))


def test_energy_follows_the_words_and_not_the_loudness() -> None:
    track = energy_track(wave())
    assert len(track) == 16000 // 256 + 1
    assert energy_correlation(energy_track(0.1 * wave()), track) == pytest.approx(1.0)
    assert energy_correlation(energy_track(wave(200)), track) > 0.9  # the same pauses in another voice
    assert abs(energy_correlation(energy_track(np.roll(wave(), 5333)), track)) < 0.7
    assert energy_correlation(np.zeros(60), track) == 0.0
    assert energy_correlation(track[:40], track) == pytest.approx(1.0)


def test_energy_is_in_decibels() -> None:
    tone = np.sin(np.arange(16000) * 0.3)
    assert energy_track(tone)[30] == pytest.approx(10 * math.log10(0.5), abs=0.05)
    assert energy_track(0.1 * tone)[30] == pytest.approx(10 * math.log10(0.005), abs=0.05)


def test_the_compatibility_column_is_blind_to_flat_pitch() -> None:
    """Zeros where unvoiced: voicing alone gives a high correlation, which ours does not grant."""
    voiced = np.arange(200) % 50 < 30
    melody = 120 * 2 ** (np.sin(np.arange(200) / 9) / 6)
    scores, _ = prosody_scores(PitchTrack(np.full(200, 120.0), voiced), PitchTrack(melody, voiced))
    assert scores["f0_pcc_zeros"] > 0.9 and scores["f0_pcc"] == 0.0


def test_empty_tracks_have_no_value_but_a_reason() -> None:
    none = PitchTrack(np.zeros(0), np.zeros(0, bool))
    scores, note = prosody_scores(none, none)
    assert all(math.isnan(value) for value in scores.values()) and "no frame" in note
