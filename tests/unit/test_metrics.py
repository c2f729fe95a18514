"""Metrics against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bowerbird.metrics.intelligibility import count_errors, load_normalizer
from bowerbird.metrics.prosody import MIN_VOICED, PitchDetector, PitchTrack, prosody_scores
from bowerbird.metrics.quality import OUTPUTS, DnsmosScorer
from bowerbird.metrics.score import Score
from bowerbird.metrics.speaker import cosine, mean_embedding, similarity_scores
from bowerbird.metrics.statistics import (
    Resampling,
    cluster_weights,
    estimate,
    estimate_difference,
    estimate_mean,
    replicate,
)

RATE = 16000


def test_a_nan_needs_a_reason() -> None:
    with pytest.raises(ValueError, match="without a note"):
        Score("wer", math.nan, "wer@1")


def test_word_errors_are_counts() -> None:
    counts = count_errors("the cat sat on the mat", "the cat sat mat on it now")
    assert counts.length == 6
    assert counts.hits + counts.substitutions + counts.insertions == 7
    exact = count_errors("one two three four", "one too four five")
    assert (exact.hits, exact.substitutions, exact.deletions, exact.insertions) in {(2, 1, 1, 1), (1, 3, 0, 0)}
    assert exact.errors == 3
    assert exact.rate == 3 / 4


def test_an_empty_hypothesis_is_all_words_deleted_and_empty_references_have_no_rate() -> None:
    assert count_errors("a b c", "").deletions == 3
    assert count_errors("a b c", "", "char").deletions == 5
    with pytest.raises(ValueError, match="empty reference"):
        count_errors("", "a")


def test_a_rate_may_exceed_one() -> None:
    assert count_errors("yes", "no no no").rate == 3.0


def test_pooled_rate_is_no_mean_of_rates() -> None:
    """One word all wrong and nine words all right: 1/10 pooled, 1/2 as a mean of rates."""
    pairs = [("yes", "no"), ("a b c d e f g h i", "a b c d e f g h i")]
    counts = [count_errors(*pair) for pair in pairs]
    assert sum(c.errors for c in counts) / sum(c.length for c in counts) == pytest.approx(0.1)
    assert np.mean([c.rate for c in counts]) == pytest.approx(0.5)


def test_normalizers_differ_and_unknown_ones_are_named() -> None:
    assert load_normalizer("whisper-english")("Mr. Smith's colour, it's 20%") == "mister smith is color it is 20%"
    assert load_normalizer("whisper-basic")("Ça, c'est ÉTÉ!") == "ça c est été"
    with pytest.raises(Exception, match="whisper-english"):
        load_normalizer("upper")


def test_cosines_and_margin() -> None:
    east, north = np.array([1.0, 0.0]), np.array([0.0, 2.0])
    assert cosine(east, north) == 0.0
    assert cosine(east, 5 * east) == pytest.approx(1.0)
    assert cosine(east, np.zeros(2)) == 0.0
    scores = similarity_scores(converted=east + north / 2, heldout=east, references=[east, 9 * east], source=north)
    assert scores["secs"] == scores["secs_prompt"] == pytest.approx(math.sqrt(0.5))
    assert scores["margin"] == pytest.approx(0.0)
    assert similarity_scores(east, east, [east], north)["nearer_target"] == 1.0


def test_a_loud_reference_does_not_outweigh_others() -> None:
    assert mean_embedding([np.array([1.0, 0.0]), np.array([0.0, 9.0])]) == pytest.approx([0.5, 0.5])


def track(hertz: np.ndarray, voiced: np.ndarray | None = None) -> PitchTrack:
    return PitchTrack(hertz, np.ones(len(hertz), bool) if voiced is None else voiced)


def melody(frames: int = 100) -> np.ndarray:
    return 120 * 2 ** (np.sin(np.arange(frames) / 8) / 4)


def test_another_register_is_no_prosody_error() -> None:
    scores, note = prosody_scores(track(melody() * 1.7), track(melody()))
    assert scores["f0_pcc"] == pytest.approx(1.0)
    assert scores["f0_rmse_centred"] == pytest.approx(0.0, abs=1e-9)
    assert scores["vuv_f1"] == 1.0
    assert note == ""


def test_f0_rmse_is_in_semitones() -> None:
    """A track with twice the excursion in semitones differs by the excursion's RMS."""
    wide = 120 * 2 ** (np.sin(np.arange(100) / 8) / 2)
    excursion = 12 * np.log2(melody() / 120)
    expected = (excursion - excursion.mean()).std()
    assert prosody_scores(track(wide), track(melody()))[0]["f0_rmse_centred"] == pytest.approx(expected)


def test_flat_pitch_has_no_correlation_and_inverted_pitch_a_negative_one() -> None:
    assert prosody_scores(track(np.full(100, 130.0)), track(melody()))[0]["f0_pcc"] == 0.0
    assert prosody_scores(track(120**2 / melody()), track(melody()))[0]["f0_pcc"] == pytest.approx(-1.0)


def test_too_few_voiced_frames_have_no_value_but_a_reason() -> None:
    voiced = np.arange(100) < MIN_VOICED - 1
    scores, note = prosody_scores(track(melody(), voiced), track(melody()))
    assert math.isnan(scores["f0_pcc"]) and math.isnan(scores["f0_rmse_centred"])
    assert scores["vuv_f1"] == pytest.approx(2 * 9 / 109)
    assert "9 frames voiced in both" in note


def test_tracks_are_cut_to_the_shorter() -> None:
    scores, _ = prosody_scores(track(melody(80)), track(melody(100)))
    assert scores["f0_pcc"] == pytest.approx(1.0)


def test_detector_follows_a_glide_and_finds_no_pitch_in_silence() -> None:
    time = np.arange(2 * RATE) / RATE
    phase = 2 * np.pi * np.cumsum(120 + 40 * time) / RATE
    tone = sum(np.sin(n * phase) / n for n in range(1, 8)).astype(np.float32) / 4
    detector = PitchDetector()
    found = detector.track(tone)
    middle = slice(20, 100)
    expected = 120 + 40 * (np.arange(len(found.hertz)) * 256 / RATE)
    assert found.voiced[middle].all()
    assert np.abs(found.hertz[middle] / expected[middle] - 1).max() < 0.03
    assert not detector.track(np.zeros(RATE, np.float32)).voiced.any()


@pytest.mark.slow
def test_dnsmos_scores_noise_lower_and_repeats_itself(spoken: list[tuple[np.ndarray, str]]) -> None:
    wave = np.resize(spoken[0][0], int(9.01 * RATE))  # one window
    noisy = wave + (np.random.default_rng(0).normal(size=len(wave)) * 0.03).astype(np.float32)
    scorer = DnsmosScorer()
    clean, again, bad = (scorer.score(w) for w in (wave, wave, noisy))
    assert set(clean) == set(OUTPUTS) and clean == again
    assert all(clean[name] > bad[name] for name in OUTPUTS)
    assert len(scorer.describe().weights_sha256) == 64


def speakers(sources: int, targets: int) -> tuple[list[str], list[str]]:
    grid = [(f"s{i}", f"t{j}") for i in range(sources) for j in range(targets)]
    return [a for a, _ in grid], [b for _, b in grid]


def test_weights_are_products_of_draws() -> None:
    source, target = speakers(5, 4)
    weights = cluster_weights(tuple(source), tuple(target), Resampling(50)).reshape(50, 5, 4)
    assert (weights.sum(axis=(1, 2)) == 20).all()  # 5 draws of sources times 4 of targets
    assert all(np.linalg.matrix_rank(w) == 1 for w in weights)


def test_intervals_are_seeded_and_do_not_depend_on_the_order_of_trials() -> None:
    source, target = speakers(6, 5)
    values = np.random.default_rng(1).normal(size=30)
    order = np.random.default_rng(2).permutation(30)
    first = estimate_mean(values, source, target, Resampling(200))
    again = estimate_mean(values[order], [source[i] for i in order], [target[i] for i in order], Resampling(200))
    other = estimate_mean(values, source, target, Resampling(200, seed=1))
    assert (first.low, first.high) == pytest.approx((again.low, again.high), abs=1e-12)
    assert first.low != other.low


def test_a_constant_has_no_width_and_a_ratio_is_pooled() -> None:
    source, target = speakers(3, 3)
    constant = estimate_mean(np.full(9, 2.5), source, target, Resampling(100))
    assert constant.low == constant.high == constant.value == pytest.approx(2.5)
    errors, words = np.arange(9.0), np.arange(1.0, 10.0)
    ratio = estimate((errors, words), source, target, Resampling(100))
    assert ratio.value == pytest.approx(errors.sum() / words.sum())
    assert ratio.low < ratio.value < ratio.high


def test_few_speakers_are_said_to_be_few() -> None:
    few, enough = speakers(7, 9), speakers(8, 9)
    assert "descriptive only: 7" in estimate_mean(np.ones(63), *few, Resampling(100)).note
    assert estimate_mean(np.ones(72), *enough, Resampling(100)).note == ""


def test_paired_difference_sees_what_two_intervals_hide() -> None:
    """A difference of 0.1 under speaker effects of 1: the intervals overlap, the paired difference does not touch 0."""
    source, target = speakers(10, 10)
    rng = np.random.default_rng(3)
    effect = (rng.normal(size=10)[:, None] + rng.normal(size=10)[None]).ravel()
    one, two = effect + 0.1, effect + rng.normal(size=100) * 0.05
    ones, resampling = np.ones(100), Resampling(400)
    first, second = (replicate((values, ones), source, target, resampling) for values in (one, two))
    difference = estimate_difference(first, second)
    assert estimate_mean(one, source, target, resampling).low < estimate_mean(two, source, target, resampling).high
    assert difference.low > 0 and difference.p_value < 0.05
    same = estimate_difference(first, first)
    assert same.value == 0.0 and same.p_value == 1.0


def test_clustered_intervals_cover_where_naive_ones_do_not() -> None:
    """Simulated studies with speaker effects: the interval holds the truth about as often as it says."""
    source, target = speakers(12, 12)
    rng = np.random.default_rng(4)
    clustered = naive = 0
    for study in range(60):
        values = (rng.normal(size=12)[:, None] + rng.normal(size=12)[None] + rng.normal(size=(12, 12))).ravel()
        found = estimate_mean(values, source, target, Resampling(200, seed=study))
        clustered += found.low <= 0 <= found.high
        naive += abs(values.mean()) <= 1.96 * values.std() / 12
    assert clustered >= 50
    assert naive <= 40
