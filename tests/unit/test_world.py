"""WORLD's parameters: analysis, synthesis, the vocoder that predicts them, and what retrieval does to them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from bowerbird.config.paths import bundled
from bowerbird.config.sections.features import FeaturesConfig
from bowerbird.encoders.extractors import open_extractor
from bowerbird.nn import world
from bowerbird.nn.mel import LogMel
from bowerbird.nn.world_vocoder import WorldSynthesis, WorldVocoder
from bowerbird.systems.knnvc.parameters import mean_pitch, refine, smooth, widen
from bowerbird.systems.vocoder.synthesis import load_vocoder


def sawtooth(seconds: float = 1.0, hz: float = 120.0) -> np.ndarray:
    """A harmonic tone, which WORLD finds voiced."""
    times = np.arange(int(seconds * 16_000)) / 16_000
    return (0.1 * sum(np.sin(2 * np.pi * hz * n * times) / n for n in range(1, 40))).astype(np.float32)


@pytest.mark.parametrize("samples", [400, 719, 720, 16_000, 16_080])
def test_there_are_as_many_frames_as_other_encoders_give(samples: int) -> None:
    rows = world.analyze(sawtooth(2.0)[:samples])
    assert rows.shape == ((samples - 80) // 320, 252) and rows.dtype == np.float32


def test_pitch_and_voicing_are_found() -> None:
    rows = world.analyze(sawtooth(1.0, hz=150.0))[5:-5]
    assert (rows[:, world.VOICING] == 1).all()
    assert np.exp(rows[:, world.PITCH]) == pytest.approx(np.full((len(rows), 4), 150.0), rel=0.01)


def test_the_same_wave_gives_the_same_rows_whatever_came_before() -> None:
    wave = sawtooth(0.5)
    first = world.analyze(wave)
    world.analyze(np.random.default_rng(0).normal(size=5000))
    assert np.array_equal(first, world.analyze(wave))
    played = world.synthesize(first)
    world.synthesize(world.analyze(sawtooth(0.3, 90.0)))
    assert np.array_equal(played, world.synthesize(first))


def test_silence_is_finite_and_stays_silent() -> None:
    rows = world.analyze(np.zeros(8000, np.float32))
    assert np.isfinite(rows).all()
    assert rows[:, world.PITCH] == pytest.approx(np.log(world.NO_PITCH_HZ))
    assert np.abs(world.synthesize(rows)).max() < 1e-4


def test_a_copy_is_in_step_and_as_loud() -> None:
    wave = sawtooth(1.0) * np.where(np.arange(16_000) < 8000, 1.0, 0.1)
    copy = world.synthesize(world.analyze(wave))
    assert len(copy) == 320 * ((16_000 - 80) // 320)
    for part in (slice(2000, 7000), slice(9000, 15_000)):
        assert np.std(copy[part]) == pytest.approx(np.std(wave[part]), rel=0.2)


def test_rows_survive_float16() -> None:
    wave = sawtooth(0.5)
    rows = world.analyze(wave)
    extracted = open_extractor(FeaturesConfig(encoder="world")).extract(torch.from_numpy(wave))
    assert np.array_equal(extracted.numpy(), rows.astype(np.float16).astype(np.float32))
    played, exact = (LogMel()(torch.from_numpy(world.synthesize(r))[None]) for r in (extracted.numpy(), rows))
    assert (played - exact)[:, :-1].abs().mean() < 0.1  # nepers; phases drift apart with the pitch's last bits


def test_the_bundled_vocoder_without_weights_plays_the_features() -> None:
    rows = world.analyze(sawtooth(0.5))
    vocoder = load_vocoder(Path(bundled("bundled:world")))
    assert np.array_equal(vocoder.vocode(torch.from_numpy(rows)).numpy(), world.synthesize(rows))
    assert np.array_equal(vocoder.vocode(torch.from_numpy(rows), chunk_frames=7).numpy(), world.synthesize(rows))


def test_the_network_gives_the_same_in_chunks_and_normalizes() -> None:
    torch.manual_seed(0)
    model = WorldVocoder(6, channels=8, blocks=2).eval()
    moments = (torch.full((6,), 3.0), torch.full((6,), 2.0))
    model.normalize(moments, (torch.full((252,), -1.0), torch.full((252,), 0.5)))
    features = 3 + 2 * torch.randn(1, 90, 6)
    with torch.no_grad():
        whole = model.encode(features)
        reach = model.context_frames
        part = model.encode(features[:, 30 - reach : 60 + reach])[:, reach:-reach]
        zero = model.predict(torch.full((1, 5, 6), 3.0))
        plain = WorldVocoder(6, channels=8, blocks=2)
        plain.load_state_dict({**model.state_dict(), "mean": torch.zeros(6)})
        torch.testing.assert_close(plain.predict(torch.zeros(1, 5, 6)), zero)
    torch.testing.assert_close(part, whole[:, 30:60], atol=1e-5, rtol=1e-5)
    assert ((whole[..., world.VOICING] > 0) & (whole[..., world.VOICING] < 1)).all()


def rows_of(seed: int, frames: int = 40, pitch_hz: float = 120.0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(frames, world.DIM)).astype(np.float32)
    rows[:, world.VOICING] = 1.0
    rows[:, world.PITCH] = np.log(pitch_hz) + 0.1 * rows[:, world.PITCH]
    return rows


def test_what_is_kept_is_the_sources_with_pitch_in_the_targets_register() -> None:
    found, source, target = rows_of(0, pitch_hz=300.0), rows_of(1, pitch_hz=100.0), rows_of(2, 60, pitch_hz=200.0)
    kept = refine(found, source, target, keep=("pitch", "energy", "aperiodicity"))
    assert np.array_equal(kept[:, world.LEVEL], source[:, world.LEVEL])
    assert np.array_equal(kept[:, world.APERIODICITY], source[:, world.APERIODICITY])
    assert mean_pitch(kept) == pytest.approx(mean_pitch(target), abs=1e-5)
    contour, own = kept[:, world.PITCH] - mean_pitch(kept), source[:, world.PITCH] - mean_pitch(source)
    assert contour == pytest.approx(own, abs=1e-5)
    shape = np.ones(world.DIM, bool)
    shape[world.LEVEL] = shape[world.APERIODICITY] = shape[world.VOICING] = shape[world.PITCH] = False
    assert np.array_equal(kept[:, shape], found[:, shape])
    assert np.array_equal(refine(found, source, target), found)


def test_smoothing_keeps_constants_and_narrows_the_rest() -> None:
    constant = np.full((10, 240), 2.5, np.float32)
    assert smooth(constant, 25.0) == pytest.approx(constant)
    noisy = rows_of(3, 200)[:, world.ENVELOPE]
    assert smooth(noisy, 25.0).std() < 0.7 * noisy.std()
    assert smooth(noisy, 5.0) == pytest.approx(noisy)  # one subframe


def test_the_spread_is_restored_by_its_share() -> None:
    narrow, wide = 0.5 * rows_of(4, 300)[:, world.ENVELOPE], rows_of(5, 300)[:, world.ENVELOPE]
    deviation = lambda envelopes: envelopes.reshape(-1, 60).std(axis=0)  # noqa: E731
    assert deviation(widen(narrow, wide, 1.0)) == pytest.approx(deviation(wide), rel=1e-4)
    assert deviation(widen(narrow, wide, 0.0)) == pytest.approx(deviation(narrow), rel=1e-4)
    assert widen(narrow, wide, 1.0).reshape(-1, 60).mean(0) == pytest.approx(narrow.reshape(-1, 60).mean(0), abs=1e-4)


def test_a_rendered_wave_is_close_to_worlds_and_gradients_reach_the_envelope() -> None:
    wave = sawtooth(1.0, 140.0) * np.where(np.arange(16_000) < 8000, 1.0, 0.3)
    wave = (wave + 0.002 * np.random.default_rng(0).normal(size=16_000)).astype(np.float32)
    rows = torch.from_numpy(world.analyze(wave))[None].requires_grad_(True)
    synthesis, mel = WorldSynthesis().eval(), LogMel()
    rendered = synthesis(rows)
    played = torch.from_numpy(world.synthesize(rows[0].detach().numpy()))[None]
    assert rendered.shape == played.shape
    ours, theirs = (mel(sound)[0, 2:-2] for sound in (rendered.detach(), played))
    assert float((ours - theirs).abs().mean()) < 0.35  # nepers; of noise against noise, 0.3
    assert float(rendered.std() / played.std()) == pytest.approx(1.0, abs=0.15)
    mel(rendered).mean().backward()
    assert rows.grad is not None
    assert (rows.grad[..., world.ENVELOPE].abs() > 0).float().mean() > 0.9
    assert not rows.grad[..., world.PITCH].any() and not rows.grad[..., world.VOICING].any()
