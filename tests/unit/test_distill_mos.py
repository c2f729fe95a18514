"""Distill-MOS against the package's own forward pass, and our rules for short, long and silent waves."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from speech import voice

from bowerbird.artifacts.files import file_sha256
from bowerbird.audio import read_audio
from bowerbird.config.sections import evaluation
from bowerbird.config.sections.evaluation import EvaluationConfig
from bowerbird.encoders.checkpoint import packaged_file
from bowerbird.errors import BowerbirdError
from bowerbird.metrics import distill_mos
from bowerbird.metrics.distill_mos import LONGEST_HOP, WEIGHTS, WINDOW, DistillMosScorer, cut_windows

WAVE = voice(140, 9.3, 0).astype(np.float32) / 32768  # three windows
RATE = 16000


@pytest.fixture(scope="module")
def scorer() -> DistillMosScorer:
    return DistillMosScorer()


def opinion(scorer: DistillMosScorer, wave: np.ndarray) -> float:
    (value,) = scorer.score(wave).values()
    return value


def test_windows_reach_from_the_first_sample_to_the_last() -> None:
    count = np.arange(4 * WINDOW, dtype=np.float32)
    for length, expected in ((WINDOW, 1), (WINDOW + 1, 2), (WINDOW + LONGEST_HOP, 2), (WINDOW + LONGEST_HOP + 1, 3)):
        windows = cut_windows(count[:length])
        assert windows.shape == (expected, WINDOW)
        assert windows[0, 0] == 0 and windows[-1, -1] == length - 1
        starts = windows[:, 0].diff()
        assert (starts > 0).all() and (starts <= LONGEST_HOP).all()


@pytest.mark.parametrize("length", [1, 7, WINDOW - 1])
def test_a_short_wave_is_repeated(length: int) -> None:
    wave = np.random.default_rng(0).normal(size=length).astype(np.float32)
    (window,) = cut_windows(wave).numpy()
    assert all(window[i] == wave[i % length] for i in (0, length - 1, length % WINDOW, WINDOW // 2, WINDOW - 1))


def test_the_score_is_that_of_the_package_where_a_window_is_full(scorer: DistillMosScorer) -> None:
    from distillmos import ConvTransformerSQAModel

    package = ConvTransformerSQAModel().eval()
    for wave in (WAVE[:WINDOW], WAVE):
        with torch.inference_mode():
            expected = float(package(torch.from_numpy(wave)[None]))
        assert opinion(scorer, wave) == pytest.approx(expected, abs=1e-4)


def test_a_score_depends_on_nothing_but_the_wave(scorer: DistillMosScorer) -> None:
    """Neither on what was scored before, nor on the scorer, nor on the memory that holds the wave, nor on a batch."""
    first = opinion(scorer, WAVE)
    opinion(scorer, WAVE[:5000])
    assert opinion(scorer, np.stack([WAVE, WAVE], axis=1)[:, 0]) == first == opinion(DistillMosScorer(), WAVE.copy())
    windows = cut_windows(WAVE)
    with torch.inference_mode():
        together = scorer.network(windows).flatten().tolist()
        alone = [float(scorer.network(window[None])) for window in windows]
    assert together == pytest.approx(alone, abs=1e-4)


def test_the_number_of_threads_does_not_change_a_score(scorer: DistillMosScorer) -> None:
    wave = WAVE[:WINDOW]
    first = opinion(scorer, wave)
    torch.set_num_threads(2)
    try:
        assert opinion(scorer, wave) == pytest.approx(first, abs=1e-5)
    finally:
        torch.set_num_threads(1)


def test_noise_lowers_the_score_and_loudness_does_not_change_it(scorer: DistillMosScorer, spoken: list) -> None:
    wave = spoken[0][0]
    noise = np.random.default_rng(0).normal(size=len(wave)).astype(np.float32)
    clean, noisy = opinion(scorer, wave), opinion(scorer, wave + 0.03 * noise)
    assert 1 <= noisy < clean - 0.5 and clean <= 5
    assert opinion(scorer, wave / 16) == pytest.approx(clean, abs=1e-3)


def test_repeated_speech_is_scored_nearer_to_the_whole_than_speech_with_zeros_behind(
    scorer: DistillMosScorer, librispeech_mini: Path
) -> None:
    """The package puts zeros there."""
    waves = map(read_audio, sorted(librispeech_mini.glob("test/**/*.flac")))
    whole = next(wave for wave in waves if len(wave) >= WINDOW)[:WINDOW]
    short = whole[RATE : 4 * RATE]
    padded = np.concatenate([short, np.zeros(WINDOW - len(short), np.float32)])
    own, zeros, reference = (opinion(scorer, wave) for wave in (short, padded, whole))
    assert abs(own - reference) < abs(zeros - reference)


@pytest.mark.parametrize("wave", [np.zeros(1000), np.zeros(2 * WINDOW), np.full(WINDOW, 9e-6)])
def test_silence_has_no_value(scorer: DistillMosScorer, wave: np.ndarray) -> None:
    assert math.isnan(opinion(scorer, wave.astype(np.float32)))


def test_no_samples_are_an_error(scorer: DistillMosScorer) -> None:
    with pytest.raises(ValueError, match="no samples"):
        scorer.score(np.zeros(0, np.float32))


def test_rows_name_the_package_and_the_weights(scorer: DistillMosScorer) -> None:
    identity = scorer.describe()
    assert identity.model.startswith("distill-mos v7 (distillmos 0.")
    assert identity.weights_sha256 == file_sha256(packaged_file("distillmos", WEIGHTS, ""))


def test_building_a_scorer_leaves_random_numbers_as_they_were(capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(3)
    before = torch.rand(1)
    torch.manual_seed(3)
    DistillMosScorer()
    assert torch.rand(1) == before
    assert capsys.readouterr().out == ""  # the package prints where the weights lie


def test_it_is_asked_for_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation.importlib.util, "find_spec", lambda module: module != "xls_r_sqa" or None)
    assert not EvaluationConfig().distill_mos and EvaluationConfig(distill_mos=True).distill_mos
    monkeypatch.setattr(evaluation.importlib.util, "find_spec", lambda module: True)
    assert EvaluationConfig().distill_mos and not EvaluationConfig(distill_mos=False).distill_mos


def test_an_absent_package_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(package: str, name: str, key: str) -> Path:
        return packaged_file(package if package == "distillmos" else "no_such_package", name, key)

    monkeypatch.setattr(distill_mos, "packaged_file", absent)
    hint = r"evaluation\.distill_mos: needs .* no_such_package, .* pip install .*, or evaluation\.distill_mos: false"
    with pytest.raises(BowerbirdError, match=hint):
        DistillMosScorer()
