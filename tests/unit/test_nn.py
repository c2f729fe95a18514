"""Vocoder parts against their papers: sizes, lengths, receptive fields, spectrograms, losses."""

from __future__ import annotations

import pytest
import torch
import torchaudio
from tensors import millions
from torch import nn

from bowerbird.nn.discriminators import (
    PeriodDiscriminator,
    ScaleDiscriminator,
    hifigan_discriminators,
    nano_discriminators,
)
from bowerbird.nn.hifigan import HifiGan
from bowerbird.nn.losses import (
    RESOLUTIONS,
    MultiResolutionStftLoss,
    discriminator_loss,
    feature_matching_loss,
    generator_loss,
)
from bowerbird.nn.mel import LogMel
from bowerbird.nn.sourcefilter import (
    PITCHES,
    Controls,
    SourceFilter,
    minimum_phase,
    pitch_loss,
    pulse_train,
    track_pitch,
)
from bowerbird.nn.vocos import InverseStftHead, Vocos
from bowerbird.systems.vocoder.network import build_generator
from bowerbird.systems.vocoder.synthesis import Vocoder


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_hifigan_has_the_size_of_knnvc() -> None:
    """16.53 M parameters (Baas et al. 2023), the linear layer before the generator included."""
    with torch.device("meta"):
        generator = HifiGan()
    assert millions(generator) == pytest.approx(16.53, abs=0.01)
    assert millions(generator.lin_pre) == pytest.approx((1024 + 1) * 512 / 1e6)


def test_nano_generators_are_small() -> None:
    with torch.device("meta"):
        assert millions(build_generator("hifigan-nano", 256)) <= 1.5
        assert millions(build_generator("vocos-nano", 1024)) * 2 < 15  # MB in float16
    assert millions(build_generator("sourcefilter-nano", 1024)) * 2 < 15


@pytest.mark.parametrize("name", ["hifigan-nano", "vocos-nano", "sourcefilter-nano"])
@pytest.mark.parametrize("frames", [1, 2, 7])
def test_a_frame_gives_320_samples(name: str, frames: int) -> None:
    torch.manual_seed(0)
    wave = build_generator(name, 12)(noise(2, frames, 12))
    assert wave.shape == (2, 320 * frames)
    assert torch.isfinite(wave).all()


@pytest.mark.parametrize(
    "generator",
    [
        pytest.param(lambda: HifiGan(6, linear_dim=8, channels=16), id="hifigan"),
        pytest.param(lambda: Vocos(6, dim=8, hidden=8, slow=3, fast=2), id="vocos"),
    ],
)
def test_context_covers_the_receptive_field(generator) -> None:
    """Changing one frame changes nothing further away than ``context_frames``, and something at a third of it."""
    torch.manual_seed(0)
    model = generator()
    context, middle = model.context_frames, 2 * model.context_frames
    features = noise(1, 2 * middle, 6)
    changed = features.clone()
    changed[0, middle] += 1
    with torch.no_grad():
        differs = (model(features) != model(changed))[0].view(-1, 320).any(dim=1).nonzero()[:, 0]
    assert middle - context <= differs.min() <= middle - context // 3
    assert middle + context // 3 <= differs.max() <= middle + context


def test_inverse_stft_head_inverts_a_spectrogram() -> None:
    """Given the STFT of a wave (windows of four hops, "same" padding), the head gives the wave back."""
    head = InverseStftHead(dim=642, hop=160)
    head.project = nn.Identity()
    wave = noise(2, 160 * 9)
    frames = nn.functional.pad(wave, (240, 240)).unfold(1, 640, 160) * head.window
    spectrum = torch.fft.rfft(frames)
    wave_again = head(torch.cat([spectrum.abs().log(), spectrum.angle()], dim=-1))
    torch.testing.assert_close(wave_again, wave, atol=1e-5, rtol=0)


def harmonics(hz: float, samples: int) -> torch.Tensor:
    """A wave of twenty harmonics that fall by 1/k, ``(1, samples)``."""
    time = torch.arange(samples) / 16000
    return 0.1 * sum(torch.sin(2 * torch.pi * k * hz * time) / k for k in range(1, 20))[None]


@pytest.mark.parametrize("hz", [75.0, 121.0, 220.0, 390.0])
def test_pitch_is_tracked(hz: float) -> None:
    wave = torch.cat([harmonics(hz, 8000), 0.001 * noise(1, 8000)], dim=1)
    pitch, voiced = track_pitch(wave)
    assert pitch.shape == voiced.shape == (1, 50)
    torch.testing.assert_close(pitch[0, 2:22], torch.full((20,), hz), rtol=0.005, atol=0)
    assert voiced[0, 2:22].all() and not voiced[0, 28:].any()


def test_pulse_train_has_its_pitch_and_unit_power() -> None:
    pulses = pulse_train(torch.full((1, 50), 100.0), torch.ones(1, 50))
    assert pulses.shape == (1, 16000)
    assert pulses.square().mean().item() == pytest.approx(1, rel=0.02)
    spectrum = torch.fft.rfft(pulses[0]).abs()  # bins of 1 Hz
    assert spectrum.topk(80).indices.remainder(100).eq(0).all()
    assert pulse_train(torch.full((1, 5), 100.0), torch.zeros(1, 5)).abs().max() == 0


def test_a_flat_filter_changes_nothing() -> None:
    """Log magnitude 0 in every band: the filters' overlapping windows add up to the source."""
    model, source = SourceFilter(4, dim=8, hidden=8, blocks=1), noise(2, 320 * 12)
    torch.testing.assert_close(model.filter_source(source, torch.zeros(2, 12, 80)), source, atol=1e-5, rtol=0)


def test_filters_have_their_magnitude_and_minimum_phase() -> None:
    model = SourceFilter(4, dim=8, hidden=8, blocks=1)
    log_magnitude = noise(1, 80) @ model.spread
    response = minimum_phase(log_magnitude, model.fold)
    torch.testing.assert_close(response.abs().log(), log_magnitude, atol=1e-4, rtol=0)
    energy = torch.fft.irfft(response).square().cumsum(-1)
    assert energy[0, 64] > 0.95 * energy[0, -1]  # energy comes first


def test_pitch_classes_decode_to_what_they_were_trained_on() -> None:
    pitch, voiced = torch.tensor([[80.0, 150.0, 333.0]]), torch.ones(1, 3)
    logits = torch.zeros(1, 3, PITCHES + 1 + 160, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.5)
    for _ in range(60):
        optimizer.zero_grad()
        pitch_loss(Controls.of(logits), pitch, voiced).backward()
        optimizer.step()
    torch.testing.assert_close(Controls.of(logits.detach()).pitch, pitch, rtol=0.01, atol=0)


def test_source_filter_in_chunks_is_the_whole() -> None:
    """Pulses run through the seams, and the noise is the same at every call."""
    torch.manual_seed(0)
    vocoder = Vocoder(build_generator("sourcefilter-nano", 6), {"input_dim": 6}, torch.device("cpu"))
    features = 10 * noise(90, 6)
    whole = vocoder.vocode(features)
    torch.testing.assert_close(vocoder.vocode(features, chunk_frames=25), whole, atol=1e-4, rtol=0)
    assert torch.equal(vocoder.vocode(features), whole)


def test_discriminators_have_the_published_size() -> None:
    """HiFi-GAN v1's: 41.10 M in the multi-period one, 29.62 M in the multi-scale one."""
    with torch.device("meta"):
        members = hifigan_discriminators().members
    periods = [m for m in members if isinstance(m, PeriodDiscriminator)]
    scales = [m for m in members if isinstance(m, ScaleDiscriminator)]
    assert [p.period for p in periods] == [2, 3, 5, 7, 11]
    assert sum(map(millions, periods)) == pytest.approx(41.10, abs=0.01)
    assert sum(map(millions, scales)) == pytest.approx(29.62, abs=0.01)


def test_nano_discriminators_score_any_length() -> None:
    discriminators = nano_discriminators()
    scores, layers = discriminators(noise(3, 2561))
    assert [len(score) for score in scores] == [3] * len(discriminators.members)
    assert all(len(inner) >= 5 for inner in layers)


def test_log_mel_is_that_of_knnvc() -> None:
    wave = noise(2, 3200)
    reference = torchaudio.transforms.MelSpectrogram(
        16000, 1024, 1024, 320, 0, 8000, n_mels=80, power=1.0, norm="slaney", mel_scale="slaney", center=False
    )
    expected = reference(nn.functional.pad(wave, (352, 352), mode="reflect")).clamp(min=1e-5).log()
    mel = LogMel()(wave)
    assert mel.shape == (2, 10, 80)
    torch.testing.assert_close(mel, expected.transpose(1, 2), atol=1e-4, rtol=1e-4)


def test_multi_resolution_stft_loss_is_the_formula() -> None:
    """Spectral convergence and log-magnitude L1, each resolution written out."""
    wave, generated = noise(1, 4000), noise(1, 4000, seed=1)
    total = 0.0
    for n_fft, hop, win in RESOLUTIONS:
        window = torch.hann_window(win)
        real, fake = (
            torch.stft(x, n_fft, hop, win, window, return_complex=True).abs().clamp_min(1e-4) for x in (wave, generated)
        )
        total += torch.linalg.norm(real - fake) / torch.linalg.norm(real) + (real.log() - fake.log()).abs().mean()
    loss = MultiResolutionStftLoss()
    assert loss(generated, wave).item() == pytest.approx(total.item() / 3, rel=1e-5)
    assert loss(wave, wave).item() == 0


def test_losses_are_means_over_items() -> None:
    """So a batch may be split over processes: the loss of the whole is the mean of the halves' losses."""
    wave, generated = noise(4, 4000) * torch.tensor([[0.1], [1], [3], [9]]), noise(4, 4000, seed=1)
    loss, discriminators = MultiResolutionStftLoss(), nano_discriminators()

    def losses(rows: slice) -> torch.Tensor:
        (real, layers_real), (fake, layers_fake) = discriminators(wave[rows]), discriminators(generated[rows])
        return torch.stack(
            [
                loss(generated[rows], wave[rows]),
                discriminator_loss(real, fake),
                generator_loss(fake),
                feature_matching_loss(layers_real, layers_fake),
            ]
        )

    with torch.no_grad():
        halves = (losses(slice(0, 2)) + losses(slice(2, 4))) / 2
        torch.testing.assert_close(losses(slice(0, 4)), halves, rtol=1e-5, atol=1e-6)


def test_least_squares_losses() -> None:
    ones, zeros = [torch.ones(2, 3)], [torch.zeros(2, 3)]
    assert discriminator_loss(ones, zeros) == 0
    assert discriminator_loss(zeros, ones) == 2
    assert generator_loss(ones) == 0
    assert generator_loss(zeros) == 1
