"""Stepback beside its formulae: which parts each loss moves, what bounds the amendment, which speech counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tensors import noise

from bowerbird.config.loading import parse_config
from bowerbird.config.systems.stepback import ClassifierStage, DualFlowStage, PreparationStage, StepbackExperiment
from bowerbird.errors import BowerbirdError
from bowerbird.nn.mel import LogMagnitude, griffin_lim
from bowerbird.nn.multitarget import SpectrogramDecoder, SpectrogramEncoder
from bowerbird.stages.training.distributed import Processes
from bowerbird.stages.training.updates import StageUpdater
from bowerbird.systems.base import Batch, StageInputs, Utterance
from bowerbird.systems.stepback.corruption import FAINTEST, corrupt, degrade
from bowerbird.systems.stepback.network import Autoencoder, log_prob_of_others, next_other_speaker
from bowerbird.systems.stepback.system import Stepback
from bowerbird.systems.stepback.training import ClassifierTraining, DualFlowTraining, PreparationTraining

BANDS, SPEAKERS = 12, ("ann", "bob", "cat")
SIZES = {"channels": 16, "latent": 8, "dropout": 0.0, "speaker_dim": 6, "batch_size": 4}
SIZES |= {"conv_bank_size": 2, "conv_bank_channels": 4}
TERMS = ("reconstruction", "toward", "away", "amendment", "robustness")


def batch(labels: tuple[int, ...] = (0, 1, 2, 0), frames: int = 32) -> Batch:
    count = len(labels)
    tensors = {
        "features": noise(count, frames, BANDS) * 2 - 5,
        "prompt_audio": 0.1 * noise(count, 320 * 90, seed=1),
        "prompt_frames": torch.full((count,), 90),
        "speaker": torch.tensor(labels),
    }
    return Batch(tuple(f"utterance {number}" for number in range(count)), tensors)


def save(stage: Any, folder: Path) -> Path:
    folder.mkdir(parents=True)
    save_file(stage.exported.state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(stage.architecture()))
    return folder


@pytest.fixture(params=["table", "reference"])
def prepared(request: pytest.FixtureRequest, tmp_path: Path) -> StageInputs:
    """Untrained stages 1 and 2 on disk."""
    torch.manual_seed(0)
    inputs = StageInputs(BANDS, speakers=SPEAKERS)
    first = PreparationTraining(PreparationStage(speakers=request.param, **SIZES), inputs)
    models = {"preparation": save(first, tmp_path / "preparation")}
    inputs = StageInputs(BANDS, models=models, speakers=SPEAKERS)
    second = ClassifierTraining(ClassifierStage(channels=8, dropout=0.0), inputs)
    models["classifier"] = save(second, tmp_path / "classifier")
    return inputs


def dual_flow(inputs: StageInputs, **values: Any) -> DualFlowTraining:
    options = {"batch_size": 4, "conversion_ramp": 0, "amendment_ramp": 0, "robustness_every": 2, "margin": 50.0}
    return DualFlowTraining(DualFlowStage(**{**options, **values}), inputs)


def updater(stage: DualFlowTraining) -> StageUpdater:
    return StageUpdater(stage, Processes(0, 1, torch.device("cpu")))


def moved(stage: DualFlowTraining, step: int) -> dict[str, bool]:
    """Which parts a step of the training loop changes."""
    parts = {
        "encoder": stage.autoencoder.encoder,
        "decoder": stage.autoencoder.decoder,
        "classifier": stage.classifier,
        "embeddings": stage.embeddings,
    }
    if stage.autoencoder.table is not None:
        parts["table"] = stage.autoencoder.table
    before = {name: [p.clone() for p in part.parameters()] for name, part in parts.items()}
    updater(stage).step(step, batch())
    pairs = {name: zip(before[name], part.parameters(), strict=True) for name, part in parts.items()}
    return {name: any(not torch.equal(a, b) for a, b in both) for name, both in pairs.items()}


@pytest.mark.parametrize(
    ("term", "step", "movers"),
    [
        ("reconstruction", 1, {"encoder", "decoder", "table"}),
        ("toward", 1, {"encoder", "decoder", "table"}),
        ("away", 1, {"encoder", "decoder", "table"}),
        ("amendment", 1, {"encoder"}),
        ("robustness", 2, {"encoder"}),
    ],
)
def test_each_term_moves_whom_it_should_and_nobody_else(
    prepared: StageInputs, term: str, step: int, movers: set[str]
) -> None:
    weights = {f"{name}_weight": float(name == term) for name in TERMS}
    changed = moved(dual_flow(prepared, **weights), step)
    assert {name for name, yes in changed.items() if yes} == movers & changed.keys()


def test_a_robustness_step_uses_no_other_term_and_other_steps_not_that_one(prepared: StageInputs) -> None:
    stage = dual_flow(prepared, robustness_every=3)
    assert [stage.updates(step) for step in (1, 2, 3)] == [("encoder", "decoder")] * 2 + [("encoder",)]
    with torch.no_grad():
        losses = [stage.losses("encoder", batch(), stage.forward(batch()), step) for step in (2, 3)]
    assert "robustness" not in losses[0] and losses[1].keys() == {"total", "robustness"}
    assert dual_flow(prepared, robustness_every=0).updates(8) == ("encoder", "decoder")


def test_the_decoder_learns_at_its_own_rate(prepared: StageInputs) -> None:
    stage = dual_flow(prepared, decoder_rate=0.25, learning_rate=0.01)
    updater(stage).step(1, batch())
    assert stage.optimizers["encoder"].param_groups[0]["lr"] == pytest.approx(0.01)
    assert stage.optimizers["decoder"].param_groups[0]["lr"] == pytest.approx(0.0025)
    still = dual_flow(prepared, decoder_rate=0.0)
    assert not moved(still, 1)["decoder"]


def test_the_margin_bounds_the_amendment_and_silences_it_beyond(prepared: StageInputs) -> None:
    only = {f"{name}_weight": float(name == "amendment") for name in TERMS}

    def total_and_gradient(margin: float) -> tuple[dict[str, torch.Tensor], float]:
        stage = dual_flow(prepared, margin=margin, **only)
        losses = stage.losses("encoder", batch(), stage.forward(batch()), step=1)
        losses["total"].backward()
        gradients = [p.grad for p in stage.autoencoder.encoder.parameters() if p.grad is not None]
        values = {name: loss.detach() for name, loss in losses.items()}
        return values, float(sum(g.abs().sum() for g in gradients))

    near, pushed = total_and_gradient(margin=50.0)
    assert 0 < float(near["amendment"]) <= 50.0 and pushed > 0
    assert float(near["amendment"]) == pytest.approx(50.0 - float(near["distance"]), rel=1e-4)
    far, silent = total_and_gradient(margin=0.01)
    assert float(far["distance"]) > 0.01 and float(far["amendment"]) == 0 and silent == 0


@pytest.mark.slow
def test_the_amendment_moves_the_conversion_away_from_its_source(prepared: StageInputs) -> None:
    """Alone, it widens the distance until the margin, and stops there."""
    only = {f"{name}_weight": float(name == "amendment") for name in TERMS}
    stage = dual_flow(prepared, margin=3.0, learning_rate=3e-3, robustness_every=0, **only)
    steps = updater(stage)
    distances = [steps.step(step, batch())["encoder/distance"] for step in range(1, 61)]
    assert distances[0] < 2.7 < 2.9 < distances[-1] < 3.6, (distances[0], distances[-1])


def test_ramps(prepared: StageInputs) -> None:
    stage = dual_flow(prepared, conversion_from=2, conversion_ramp=4)
    assert [stage.ramp(step, 2, 4) for step in (1, 2, 3, 4, 6, 9)] == [0, 0, 0.25, 0.5, 1, 1]
    assert stage.ramp(1, 0, 0) == 1
    latent = stage.forward(batch())
    early, later = (stage.losses("encoder", batch(), latent, step) for step in (1, 3))
    assert "toward" not in early and float(later["toward"].detach()) > 0


def test_the_other_speaker_is_the_next_one_in_the_batch() -> None:
    assert next_other_speaker(torch.tensor([0, 0, 1, 0])).tolist() == [2, 2, 3, 2]
    assert next_other_speaker(torch.tensor([4, 4])).tolist() == [0, 1]


def test_the_log_of_the_probability_of_others() -> None:
    scores = noise(5, 4, seed=3).log_softmax(dim=1)
    labels = torch.tensor([0, 1, 2, 3, 0])
    expected = (1 - scores.exp().gather(1, labels[:, None])[:, 0]).log()
    assert torch.allclose(log_prob_of_others(scores, labels), expected, atol=1e-4)
    alone = log_prob_of_others(torch.zeros(1, 1), torch.zeros(1, dtype=torch.long))
    assert torch.isfinite(alone).all()


def test_a_batch_of_one_speaker_has_one_flow(prepared: StageInputs) -> None:
    stage = dual_flow(prepared)
    losses = stage.losses("encoder", batch((1, 1, 1, 1)), stage.forward(batch((1, 1, 1, 1))), step=1)
    assert float(losses["toward"]) == float(losses["away"]) == float(losses["amendment"]) == 0
    assert float(losses["reconstruction"]) > 0


@pytest.mark.parametrize("frames", [1, 7, 31, 64, 101])
def test_any_length_goes_in_and_comes_out(frames: int) -> None:
    encoder, decoder = SpectrogramEncoder(BANDS, 16, 8, 2, 4, 2, 0.0), SpectrogramDecoder(BANDS, 16, 8, 2, 6)
    content = encoder(noise(2, frames, BANDS))
    assert content.shape == (2, max(8, -(-frames // 4)), 8)
    assert decoder(content, noise(2, 6), frames).shape == (2, frames, BANDS)


def test_noise_only_adds_power_and_the_band_limit_is_in_the_upper_half() -> None:
    x = noise(64, 40, BANDS) - 4
    torch.manual_seed(0)
    worse, limited = degrade(x, 10.0, 10.0), None
    limited = (worse == torch.tensor(FAINTEST)).all(dim=1)  # (batch, bands)
    assert 16 < int(limited.any(dim=1).sum()) < 48 and not limited[:, : BANDS // 2].any()
    heard = ~limited[:, None, :].expand_as(x)
    assert (worse[heard] >= x[heard] - 1e-5).all()
    full = ~limited.any(dim=1)
    power, added = (2 * x[full]).exp().mean(), ((2 * worse[full]).exp() - (2 * x[full]).exp()).mean()
    assert float(10 * (power / added).log10()) == pytest.approx(10.0, abs=1.0)


def test_the_classifier_learns_on_reconstructions_without_moving_the_autoencoder(prepared: StageInputs) -> None:
    stage = ClassifierTraining(ClassifierStage(channels=8, dropout=0.0), prepared)
    losses = stage.losses("classifier", batch(), stage.forward(batch()), 1)
    losses["total"].backward()
    assert {"recordings", "reconstructions"} < losses.keys()
    assert all(p.grad is None for p in stage.autoencoder.parameters())
    assert all(p.grad is not None for p in stage.classifier.parameters())


def test_full_size() -> None:
    """Of the published sizes where known; the counts are ours, and kept."""
    config = {**PreparationStage(speakers="table").model_dump(), "feature_dim": 80, "names": list(SPEAKERS)}
    with torch.device("meta"):
        autoencoder = Autoencoder(config)
    counts = [sum(p.numel() for p in part.parameters()) for part in (autoencoder.encoder, autoencoder.decoder)]
    assert [round(count / 1e6, 2) for count in counts] == [8.12, 8.46]


class Echo:
    """A vocoder that answers its input."""

    input_dim = BANDS

    def vocode(self, features: torch.Tensor) -> torch.Tensor:
        return features.flatten()


def system(kind: str, **values: Any) -> Stepback:
    torch.manual_seed(0)
    stage = PreparationTraining(PreparationStage(speakers=kind, **SIZES), StageInputs(BANDS, speakers=SPEAKERS))
    return Stepback(stage.autoencoder.eval().requires_grad_(False), stage.architecture(), Echo(), **values)


def utterance(name: str, seed: int, seconds: float = 1.0) -> Utterance:
    samples = int(16000 * seconds)
    return Utterance(name, 0.1 * noise(samples, seed=seed), noise(samples // 320, BANDS, seed=seed) - 5)


def test_a_table_converts_to_its_speakers_by_name_and_to_nobody_else() -> None:
    converter, source = system("table"), utterance("s", 1)
    ann, bob = (converter.convert(source, [], {"target_speaker": name}).features for name in ("ann", "bob"))
    assert ann.shape == source.features.shape and not torch.allclose(ann, bob)
    for trial in ({"target_speaker": "zoe"}, None):
        with pytest.raises(BowerbirdError, match=r"not among the 3 that this model learned.*trials\.split"):
            converter.convert(source, [], trial)


def test_a_reference_counts_and_the_name_does_not() -> None:
    converter, source = system("reference"), utterance("s", 1)
    one = converter.convert(source, [utterance("r", 2, 2.0)], {"target_speaker": "zoe"})
    same = converter.convert(source, [utterance("r", 2, 2.0)], None)
    tone = Utterance("t", 0.1 * torch.sin(torch.arange(32000) * 0.05), None)
    other = converter.convert(source, [tone], None)
    assert torch.equal(one.features, same.features)
    assert not torch.allclose(one.features, other.features, atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "level", "least", "most"),
    [("noise", 20.0, 19.0, 21.0), ("clipping", 0.1, 5.0, 40.0), ("opus", 1.0, 3.0, 80.0), ("mp3", 1.0, 3.0, 80.0)],
)
def test_corruption_keeps_length_and_alignment(kind: str, level: float, least: float, most: float) -> None:
    time = np.arange(16001) / 16000
    wave = (0.3 * np.sin(2 * np.pi * (200 + 400 * time) * time) * np.hanning(len(time))).astype(np.float32)
    worse = corrupt(wave, kind, level)
    assert worse.shape == wave.shape and worse.dtype == np.float32
    snr = 10 * np.log10(np.square(wave).sum() / np.square(worse - wave).sum())
    assert least < snr < most, snr


def test_corruption_names_wrong_levels() -> None:
    with pytest.raises(BowerbirdError, match=r"corruption_level: 1\.5: the share of samples"):
        corrupt(np.ones(100, np.float32), "clipping", 1.5)
    with pytest.raises(BowerbirdError, match="corruption_level: 2: a codec's quality"):
        corrupt(np.ones(100, np.float32), "opus", 2)


def test_griffin_lim_gives_back_the_spectrogram() -> None:
    time = torch.arange(16000) / 16000
    wave = 0.2 * torch.sin(2 * torch.pi * (300 + 200 * time) * time) + 0.01 * noise(16000)
    spectrogram = LogMagnitude()(wave[None])[0]
    again = griffin_lim(spectrogram)
    assert again.shape == wave.shape
    heard = LogMagnitude()(again[None])[0].exp()
    convergence = (heard - spectrogram.exp()).norm() / spectrogram.exp().norm()
    assert float(convergence) < 0.15


def test_mistakes_are_told_in_the_configs_words(tmp_path: Path) -> None:
    study = {"features": {"mel": {"encoder": "log-mel", "layer": 0}}}
    stepback = {"system": "stepback", "vocoder": "v", "dual_flow": {"snr_min_db": 20, "snr_max_db": 10}}
    with pytest.raises(BowerbirdError, match=r"dual_flow.snr_max_db: 10: below snr_min_db = 20"):
        parse_config({**study, "experiments": {"s": stepback}})
    experiment = StepbackExperiment(synthesis="griffin-lim")
    torch.manual_seed(0)
    stage = PreparationTraining(PreparationStage(speakers="table", **SIZES), StageInputs(BANDS, speakers=SPEAKERS))
    folder = save(stage, tmp_path / "model")
    with pytest.raises(BowerbirdError, match="griffin-lim: needs features of 513 bins"):
        Stepback.load(experiment, {"dual_flow": folder}, torch.device("cpu"))
