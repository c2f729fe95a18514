"""The vocoder that predicts WORLD's parameters: trained on real parameters, it plays what it was given."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from shards_fixture import CPU
from speech import Study, make_study

from bowerbird.artifacts.shards import Shards
from bowerbird.config.sections.features import FeaturesConfig
from bowerbird.config.sections.training import TrainingConfig
from bowerbird.config.systems.world import WorldExperiment
from bowerbird.errors import BowerbirdError
from bowerbird.nn import world
from bowerbird.stages.conversion.trials import convert_trials
from bowerbird.stages.features.extract import extract_features
from bowerbird.stages.training.train import train_stage
from bowerbird.systems.vocoder.synthesis import load_vocoder

STAGE = {
    "steps": 40,
    "batch_size": 4,
    "segment_frames": 20,
    "lr_warmup": 5,
    "ema": 0.8,
    "valid_every": 40,
    "learning_rate": 3e-3,
}
EXPERIMENT = WorldExperiment(vocoder=STAGE)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return make_study(tmp_path_factory.mktemp("study"), split="train")


@pytest.fixture(scope="module")
def features(study: Study) -> dict[str, list[Path]]:
    """Mels and WORLD's parameters of the study."""
    paths = {}
    for name, encoder in (("mel", "log-mel"), ("world", "world")):
        path = study.root / "features" / name / "shard-0000.npy"
        extract_features(study.audio[0], path, FeaturesConfig(encoder=encoder), CPU)
        paths[name] = [path]
    return paths


def train(study: Study, features: dict[str, list[Path]], folder: Path, **more: object) -> Path:
    train_stage(
        output=folder / "model.safetensors",
        stage="vocoder",
        experiment=EXPERIMENT,
        manifest=study.manifest,
        training=TrainingConfig(checkpoint_every=100, log_every=10, audio_samples=0),
        runtime=CPU,
        **{"features": features["mel"], "world": features["world"], **more},
    )
    return folder


@pytest.fixture(scope="module")
def model(study: Study, features: dict[str, list[Path]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(study, features, tmp_path_factory.mktemp("model"))


def test_the_loss_falls_and_the_moments_are_those_of_the_speech(
    study: Study, features: dict[str, list[Path]], model: Path
) -> None:
    lines = [json.loads(line) for line in (model / "metrics.jsonl").read_text().splitlines()]
    totals = [line["model/total"] for line in lines if "model/total" in line]
    assert totals[-1] < 0.75 * totals[0]
    shards, vocoder = Shards(features["world"]), load_vocoder(model)
    everything = np.concatenate([shards[utt_id] for utt_id in shards]).astype(np.float64)
    np.testing.assert_allclose(vocoder.generator.target_mean, everything.mean(0), rtol=1e-4, atol=1e-4)
    assert vocoder.features["weights_sha256"] and vocoder.input_dim == 80


def test_it_predicts_better_than_the_mean(study: Study, features: dict[str, list[Path]], model: Path) -> None:
    mels, parameters, vocoder = Shards(features["mel"]), Shards(features["world"]), load_vocoder(model)
    utt_id = next(iter(mels))
    given, wanted = mels[utt_id].astype(np.float32), parameters[utt_id].astype(np.float32)
    with torch.no_grad():
        found = vocoder.generator.encode(torch.from_numpy(given)[None])[0].numpy()[: len(wanted)]
    error, spread = (np.abs(rows - wanted)[:, world.ENVELOPE].mean() for rows in (found, wanted.mean(0)))
    assert error < 0.7 * spread


def test_its_conversion_is_the_source_again(study: Study, features: dict[str, list[Path]], model: Path) -> None:
    output = study.root / "conversion" / "trials.parquet"
    models = [f"vocoder={model}"]
    convert_trials(
        study.manifest,
        study.trials,
        study.audio,
        output,
        EXPERIMENT,
        features=features["mel"],
        models=models,
        runtime=CPU,
    )
    assert len(list(output.parent.glob("*.flac"))) == 3


def test_parameters_must_be_given(study: Study, features: dict[str, list[Path]], tmp_path: Path) -> None:
    with pytest.raises(BowerbirdError, match="--world: missing"):
        train(study, features, tmp_path, world=[])
