"""The trained systems through the real stages on three small voices: they learn, resume bit for bit, and convert."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from published_fixture import write_published
from safetensors.numpy import load_file
from speech import Study, make_study, make_vocoder

from bowerbird.artifacts.identity import Identity, RunRecord
from bowerbird.artifacts.pairs import PairShards
from bowerbird.artifacts.shards import Shards, ShardWriter
from bowerbird.artifacts.tables import MANIFEST, read_table, write_table
from bowerbird.config.base import Variant
from bowerbird.config.sections.codebook import CodebookConfig
from bowerbird.config.sections.conversion import ConversionConfig
from bowerbird.config.sections.features import FeaturesConfig
from bowerbird.config.sections.pairs import PairsConfig
from bowerbird.config.sections.runtime import RuntimeConfig
from bowerbird.config.sections.training import TrainingConfig
from bowerbird.config.shard_names import distances_path
from bowerbird.config.systems.base import ExperimentBase
from bowerbird.config.systems.palindromic import PalindromicExperiment
from bowerbird.config.systems.qrvc import QrvcExperiment
from bowerbird.config.systems.stepback import StepbackExperiment
from bowerbird.config.systems.takin import TakinExperiment
from bowerbird.config.systems.vocoder import VocoderExperiment
from bowerbird.config.systems.world import WorldExperiment
from bowerbird.errors import BowerbirdError
from bowerbird.stages.codebook.fit import fit_codebook
from bowerbird.stages.conversion.trials import convert_trials
from bowerbird.stages.features.extract import extract_features
from bowerbird.stages.pairs.search import search_pairs
from bowerbird.stages.training.data import shards_needed, shards_used
from bowerbird.stages.training.train import stage_class, train_stage

CPU = RuntimeConfig(device="cpu")
LENGTHS = {"steps": 4, "batch_size": 2, "valid_every": 2}
CONVERTER = {
    **LENGTHS,
    "layers": 1,
    "heads": 2,
    "width": 16,
    "feedforward": 16,
    "segment_frames": 20,
    "prompt_min_s": 0.2,
    "prompt_max_s": 0.8,
    "speaker_encoder": "ge2e",
    "speaker_from": 0,
    "speaker_warmup": 2,
    "lr_warmup": 0,
}
REVOCODER = {
    **LENGTHS,
    "generator": "vocos-nano",
    "segment_frames": 10,
    "context_frames": 20,
    "prompt_min_s": 0.2,
    "prompt_max_s": 0.8,
}
RESYNTHESIS = {**LENGTHS, "generator": "vocos-nano", "segment_frames": 10, "context_frames": 20, "variation_dim": 2}


EXPERIMENTS = (
    VocoderExperiment(pairs="own"),
    WorldExperiment(pairs="own"),
    PalindromicExperiment(),
    QrvcExperiment(),
    TakinExperiment(recognizer="trained"),
    StepbackExperiment(),
)


@pytest.mark.parametrize(
    ("experiment", "stage"),
    [pytest.param(e, stage, id=f"{e.system_name}-{stage}") for e in EXPERIMENTS for stage in e.stages],
)
def test_batches_are_read_from_what_the_configuration_declares(experiment: ExperimentBase, stage: str) -> None:
    kind = stage_class(experiment, stage)
    spec = kind.batch_spec(experiment.stage_options(stage))
    sources = experiment.training_inputs(stage).items()
    declared = {role for role, source in sources if isinstance(source, Variant) and role != "codebook"}
    assert shards_needed(spec) <= declared == shards_used(spec)
    assert kind.name == stage


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    made = make_study(tmp_path_factory.mktemp("study"), split="train")
    options = PairsConfig(min_pool_s=0.1, donors_per_utterance=2)
    search_pairs(made.manifest, made.features, made.root / "pairs" / "shard-0000.npy", 0, options, CPU)
    codebook = CodebookConfig(num_codes=8, sample_frames=200, iterations=3)
    fit_codebook(made.manifest, made.features, made.root / "codebook" / "centroids.safetensors", codebook, CPU)
    return made


def train(study: Study, experiment: Any, stage: str, output: Path, every: int = 100, **inputs: Any) -> Path:
    train_stage(
        output=output / "model.safetensors",
        stage=stage,
        experiment=experiment,
        manifest=study.manifest,
        training=TrainingConfig(checkpoint_every=every, log_every=1, audio_samples=0),
        runtime=CPU,
        **{"features": study.features, "audio": study.audio, **inputs},
    )
    return output


def pairs(study: Study) -> list[Path]:
    return [study.root / "pairs" / "shard-0000.npy"]


def losses(folder: Path, name: str) -> list[float]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [line[name] for line in lines if name in line]


@pytest.fixture(scope="module")
def palindromic(study: Study, tmp_path_factory: pytest.TempPathFactory) -> tuple[PalindromicExperiment, Path]:
    experiment = PalindromicExperiment(converter=CONVERTER, revocoder=REVOCODER)
    folder = tmp_path_factory.mktemp("palindromic")
    train(study, experiment, "converter", folder / "converter", pairs=pairs(study), models=study.models)
    models = [f"converter={folder / 'converter'}"]
    train(study, experiment, "revocoder", folder / "revocoder", pairs=pairs(study), models=models)
    return experiment, folder


def convert(study: Study, experiment: Any, output: Path, models: list[str], **inputs: Any) -> list[str]:
    convert_trials(
        study.manifest,
        study.trials,
        study.audio,
        output,
        experiment,
        study.features,
        models=models,
        options=ConversionConfig(),
        runtime=CPU,
        **inputs,
    )
    table = read_table(output)
    assert set(table["status"]) == {"ok"}, list(table["error"])
    return list(table["sha256"])


def test_palindromic_trains_both_stages_and_converts(
    study: Study, palindromic: tuple[PalindromicExperiment, Path], tmp_path: Path
) -> None:
    experiment, folder = palindromic
    assert len(losses(folder / "converter", "converter/speaker")) > 0
    models = [*study.models, *(f"{stage}={folder / stage}" for stage in experiment.stages)]
    third = convert(study, experiment, tmp_path / "three" / "trials.parquet", models)
    first = convert(
        study, experiment.model_copy(update={"synthesis": "stage1"}), tmp_path / "one" / "trials.parquet", models
    )
    assert not set(third) & set(first)  # the two stages' vocoders are different ones
    short = experiment.model_copy(update={"prompt_s": 0.2})
    assert not set(third) & set(convert(study, short, tmp_path / "short" / "trials.parquet", models))


@pytest.mark.parametrize("stage", ["converter", "revocoder"])
def test_palindromic_resumes_bit_for_bit(
    study: Study, palindromic: tuple[PalindromicExperiment, Path], tmp_path: Path, stage: str
) -> None:
    """Two steps, then up to four, as the four of one go."""
    experiment, folder = palindromic
    options = getattr(experiment, stage)
    half = experiment.model_copy(update={stage: options.model_copy(update={"steps": 2})})
    models = study.models if stage == "converter" else [f"converter={folder / 'converter'}"]
    for step in (half, experiment):
        train(study, step, stage, tmp_path / stage, pairs=pairs(study), models=models)
    for name in ("model.safetensors", "config.json"):
        again, before = (tmp_path / stage / name).read_bytes(), (folder / stage / name).read_bytes()
        assert again == before, name


def write_pairs(path: Path, every: PairShards, rows: pd.DataFrame) -> list[Path]:
    """Some of the pairs of a shard, as a shard."""
    with ShardWriter(path, "int32", (every.k,)) as writer:
        for number, row in rows.drop(columns=["start", "frames", "file"]).iterrows():
            writer.add(array=every.indices(number), **row)
        np.save(distances_path(path), np.concatenate([every.distances(number) for number in rows.index]))
        writer.close(Identity("fixture", 1, {}), RunRecord())
    return [path]


def test_the_converter_overfits_eight_pairs(study: Study, tmp_path: Path) -> None:
    """The features' L1 falls below a fifth of what it starts from (noise: each frame must be learnt by heart)."""
    table = read_table(study.manifest)
    table.loc[table["utt_id"] == "c2", "split"] = "valid"
    write_table(tmp_path / "manifest.parquet", table, Identity("fixture", 1, {}), MANIFEST)
    every = PairShards(pairs(study))
    eight = every.index[(every.index["variant"] == 0) & (every.index["utt_id"] != "c2")]
    assert len(eight) == 8
    chosen = write_pairs(tmp_path / "pairs" / "shard-0000.npy", every, eight)
    options = {
        **CONVERTER,
        "width": 128,
        "layers": 2,
        "feedforward": 256,
        "steps": 300,
        "batch_size": 8,
        "learning_rate": 3e-3,
        "dropout": 0.0,
        "speaker_weight": 0.0,
        "segment_frames": 56,
        "valid_every": 1000,
        "lr_decay": 0.8,
        "lr_decay_steps": 50,
        "prompt_min_s": 0.3,
        "prompt_max_s": 0.3,
    }
    experiment = PalindromicExperiment(converter=options)
    small = dataclasses.replace(study, manifest=tmp_path / "manifest.parquet")
    folder = train(small, experiment, "converter", tmp_path / "model", pairs=chosen, models=study.models)
    path = losses(folder, "converter/features")
    assert np.mean(path[-5:]) < 0.2 * path[0], (path[0], path[-5:])


def test_palindromic_says_what_is_missing(study: Study, tmp_path: Path) -> None:
    experiment = PalindromicExperiment(converter=CONVERTER)
    with pytest.raises(BowerbirdError, match="--pairs: missing"):
        train(study, experiment, "converter", tmp_path, models=study.models)


def test_qrvc_trains_resumes_and_converts(study: Study, tmp_path: Path) -> None:
    codebook = study.root / "codebook" / "centroids.safetensors"
    experiment = QrvcExperiment(resynthesis=RESYNTHESIS)
    folder = train(study, experiment, "resynthesis", tmp_path / "straight", codebook=codebook)
    half = experiment.model_copy(update={"resynthesis": experiment.resynthesis.model_copy(update={"steps": 2})})
    for step in (half, experiment):
        again = train(study, step, "resynthesis", tmp_path / "again", codebook=codebook)
    assert (again / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    converted = convert(study, experiment, tmp_path / "out" / "trials.parquet", [f"resynthesis={folder}"])
    assert len(set(converted)) == 3
    with pytest.raises(BowerbirdError, match="--codebook: missing"):
        train(study, experiment, "resynthesis", tmp_path / "none")


def test_a_converter_can_start_from_another_of_its_kind_only(
    study: Study, palindromic: tuple[PalindromicExperiment, Path], tmp_path: Path
) -> None:
    _, folder = palindromic
    start = str(folder / "converter")
    one = PalindromicExperiment(converter={**CONVERTER, "steps": 1, "learning_rate": 1e-12, "start_from": start})
    train(study, one, "converter", tmp_path / "warm", pairs=pairs(study), models=study.models)
    ours, theirs = (load_file(path / "model.safetensors") for path in (tmp_path / "warm", folder / "converter"))
    assert all(np.allclose(ours[name], theirs[name], atol=1e-6) for name in theirs)
    other = PalindromicExperiment(converter={**CONVERTER, "width": 32, "start_from": start})
    with pytest.raises(BowerbirdError, match=r"converter\.start_from: .*: its width is 16, this stage's is 32"):
        train(study, other, "converter", tmp_path / "other", pairs=pairs(study), models=study.models)


SPECTROGRAM = {**LENGTHS, "segment_frames": 32, "reference_s": 0.5}
PREPARATION = {**SPECTROGRAM, "channels": 16, "latent": 8, "speaker_dim": 8}
PREPARATION |= {"conv_bank_size": 2, "conv_bank_channels": 4}
STEPBACK_STAGES = StepbackExperiment().stages
DUAL_FLOW = {**SPECTROGRAM, "robustness_every": 2, "conversion_ramp": 1, "amendment_ramp": 1}


CONTENT = {
    **LENGTHS,
    "codes": 8,
    "code_dim": 8,
    "content_dim": 12,
    "generator": "vocos-nano",
    "segment_frames": 20,
    "adversarial_from": 2,
}
FLOW = {
    **LENGTHS,
    "codes": 8,
    "code_dim": 8,
    "content_dim": 12,
    "context_layers": 1,
    "context_width": 16,
    "heads": 2,
    "memory_layers": 1,
    "memory_width": 16,
    "width": 16,
    "layers": 4,
    "blocks": 1,
    "segment_frames": 20,
    "prompt_min_s": 0.2,
    "prompt_max_s": 0.8,
    "lr_warmup": 0,
}


@pytest.fixture(scope="module")
def streams(study: Study, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """What Takin-VC reads besides: mels and speaker embeddings by the real stage, random phones that are a frame short."""
    root = tmp_path_factory.mktemp("streams")
    paths = {role: [root / role / "shard-0000.npy"] for role in ("mels", "phones", "speaker_embeddings")}
    encoders = {
        "mels": FeaturesConfig(encoder="log-mel", layer=0),
        "speaker_embeddings": FeaturesConfig(kind="speaker", encoder="ge2e", layer=0),
    }
    for role, options in encoders.items():
        extract_features(study.audio[0], paths[role][0], options, CPU)
    rng = np.random.default_rng(1)
    with ShardWriter(paths["phones"][0], "float16", (5,)) as writer:
        for utt_id, frames in Shards(study.features).lengths().items():
            writer.add(utt_id, rng.random((frames - 1, 5)).astype(np.float16))
        writer.close(Identity("fixture", 1, {}), RunRecord())
    return paths


@pytest.fixture(scope="module")
def takin(
    study: Study, streams: dict[str, list[Path]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[TakinExperiment, Path]:
    experiment = TakinExperiment(content=CONTENT, flow=FLOW, sampling_steps=2, speaker_encoder="ge2e")
    folder = tmp_path_factory.mktemp("takin")
    auxiliary = {role: streams[role] for role in ("phones", "speaker_embeddings")}
    train(study, experiment, "content", folder / "content", **auxiliary)
    train(study, experiment, "flow", folder / "flow", **streams, audio=[], models=[f"content={folder / 'content'}"])
    return experiment, folder


def test_takin_trains_both_stages_and_converts(
    study: Study, takin: tuple[TakinExperiment, Path], streams: dict[str, list[Path]], tmp_path: Path
) -> None:
    experiment, folder = takin
    assert len(losses(folder / "content", "generator/adversarial")) > 0
    assert len(losses(folder / "flow", "model/commitment")) > 0
    models = [f"flow={folder / 'flow'}", f"vocoder={make_vocoder(tmp_path / 'mels', 80)}"]
    results = {}
    for name, values in {
        "plain": {},
        "again": {},
        "steps": {"sampling_steps": 4},
        "midpoint": {"sampler": "midpoint"},
        "no guidance": {"guidance": 0.0},
        "reference": {"reference_s": 0.5},
        "seed": {"seed": 1},
    }.items():
        changed = experiment.model_copy(update=values)
        output = tmp_path / name / "trials.parquet"
        results[name] = convert(study, changed, output, models, phones=streams["phones"])
    assert results.pop("again") == results["plain"]
    assert len({sha for one in results.values() for sha in one}) == 3 * len(results)


def test_takin_has_no_use_for_a_vocoder_of_other_features(
    study: Study, takin: tuple[TakinExperiment, Path], streams: dict[str, list[Path]], tmp_path: Path
) -> None:
    experiment, folder = takin
    with pytest.raises(BowerbirdError, match="it reads features of 16 dimensions, the flow makes mels of 80 bands"):
        convert(
            study,
            experiment,
            tmp_path / "t.parquet",
            [f"flow={folder / 'flow'}", *study.models],
            phones=streams["phones"],
        )


@pytest.mark.parametrize("stage", ["content", "flow"])
def test_takin_resumes_bit_for_bit(
    study: Study, takin: tuple[TakinExperiment, Path], streams: dict[str, list[Path]], tmp_path: Path, stage: str
) -> None:
    """Two steps, then up to four, as the four of one go; the codebook's averages go on too."""
    experiment, folder = takin
    half = experiment.model_copy(update={stage: getattr(experiment, stage).model_copy(update={"steps": 2})})
    inputs = streams | ({"audio": []} if stage == "flow" else {"mels": []})
    models = [f"content={folder / 'content'}"] if stage == "flow" else []
    for step in (half, experiment):
        train(study, step, stage, tmp_path / stage, **inputs, models=models)
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / stage / name).read_bytes() == (folder / stage / name).read_bytes(), name


def test_takin_joint_training_starts_from_another_of_its_kind_only(
    study: Study, takin: tuple[TakinExperiment, Path], streams: dict[str, list[Path]], tmp_path: Path
) -> None:
    start = str(takin[1] / "flow")
    one = {**FLOW, "steps": 1, "learning_rate": 1e-12, "start_from": start}
    joint = TakinExperiment(content_training="joint", flow=one)
    train(study, joint, "flow", tmp_path / "warm", **streams, audio=[])
    ours, theirs = (load_file(path / "model.safetensors") for path in (tmp_path / "warm", takin[1] / "flow"))
    moving = ("usage", "sums", "centroids")
    assert all(np.allclose(ours[n], theirs[n], atol=1e-6) for n in theirs if not n.endswith(moving))
    other = TakinExperiment(content_training="joint", speaker_embeddings="", flow=one)
    features = {"audio": [], "phones": streams["phones"]}
    with pytest.raises(BowerbirdError, match=r"flow.start_from: .*: its speaker_dim is 256, this stage's is 0"):
        train(study, other, "flow", tmp_path / "other", mels=streams["mels"], **features)
    with pytest.raises(BowerbirdError, match="--mels: missing: this stage trains on it"):
        train(study, joint, "flow", tmp_path / "none", **features)


def test_takin_learns_the_mels_of_a_published_vocoder_and_converts_through_it(
    study: Study, takin: tuple[TakinExperiment, Path], streams: dict[str, list[Path]], tmp_path: Path
) -> None:
    mels = [tmp_path / "mels" / "shard-0000.npy"]
    extract_features(study.audio[0], mels[0], FeaturesConfig(encoder="log-mel-24k", layer=0), CPU)
    published = f"vocoder={write_published(tmp_path / 'published')}"
    experiment, folder = takin
    train(
        study,
        experiment,
        "flow",
        tmp_path / "flow",
        **{**streams, "mels": mels, "audio": []},
        models=[f"content={folder / 'content'}"],
    )
    config = json.loads((tmp_path / "flow/config.json").read_text())
    assert config["bands"] == 100 and config["mels"]["dim"] == 100
    models = [f"flow={tmp_path / 'flow'}", published]
    assert len(set(convert(study, experiment, tmp_path / "out/trials.parquet", models, phones=streams["phones"]))) == 3
    made = read_table(tmp_path / "out/trials.parquet")
    spoken = Shards(study.audio, "num_samples").lengths()
    for row in made.to_dict("records"):
        assert row["status"] == "ok" and abs(row["num_samples"] - spoken[row["source_utt"]]) < 400
    wrong = "it reads mels at 24 kHz of 100 dimensions, the flow makes mels of 80 bands, 50 frames per second"
    with pytest.raises(BowerbirdError, match=wrong):
        convert(
            study, experiment, tmp_path / "w.parquet", [f"flow={folder / 'flow'}", published], phones=streams["phones"]
        )
    copy = VocoderExperiment(pretrained="published", features="mel-24k")
    through = dataclasses.replace(study, features=mels)
    assert len(set(convert(through, copy, tmp_path / "copy/trials.parquet", [published]))) == 3


PPG = {
    **LENGTHS,
    "symbols": "words",
    "layers": 2,
    "width": 16,
    "heads": 2,
    "feedforward": 16,
    "channels": 2,
    "lr_warmup": 0,
}


def train_recognizer(study: Study, output: Path, manifest: Path | None = None, **options: Any) -> Path:
    train_stage(
        output=output / "model.safetensors",
        stage="ppg",
        experiment=TakinExperiment(recognizer="trained", ppg={**PPG, **options}),
        manifest=manifest or study.manifest,
        training=TrainingConfig(checkpoint_every=2, log_every=1),
        runtime=CPU,
        audio=study.audio,
    )
    return output


def test_a_recognizer_trains_on_transcripts_resumes_and_makes_features(
    study: Study, streams: dict[str, list[Path]], tmp_path: Path
) -> None:
    whole = train_recognizer(study, tmp_path / "whole")
    config = json.loads((whole / "config.json").read_text())
    said = sorted({word for text in read_table(study.manifest)["text"] for word in text.split()})
    assert config["symbols"] == said and config["model"] == "conformer-ctc"
    assert len(losses(whole, "model/total")) == 4
    train_recognizer(study, tmp_path / "half", steps=2)
    train_recognizer(study, tmp_path / "half")
    assert (tmp_path / "half/model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    for layer, dim in ((0, len(said) + 1), (1, 16)):
        path = tmp_path / f"layer-{layer}" / "shard-0000.npy"
        extract_features(study.audio[0], path, FeaturesConfig(kind="phonetic", encoder=str(whole), layer=layer), CPU)
        made = Shards([path])
        assert made.row_shape == (dim,)
        for utt_id, samples in Shards(study.audio, "num_samples").lengths().items():
            assert len(made[utt_id]) == (samples - 80) // 320
            assert layer or np.allclose(made[utt_id].astype(np.float32).sum(1), 1, atol=0.01)
    with pytest.raises(BowerbirdError, match=r"whole: layer 3: has blocks 1 to 2; 0: posteriors"):
        extract_features(study.audio[0], path, FeaturesConfig(kind="phonetic", encoder=str(whole), layer=3), CPU)
    experiment = TakinExperiment(recognizer="trained", content_training="joint", speaker_embeddings="", flow=FLOW)
    phones = [tmp_path / "layer-0/shard-0000.npy"]
    train(study, experiment, "flow", tmp_path / "flow", mels=streams["mels"], phones=phones, audio=[])
    assert json.loads((tmp_path / "flow/config.json").read_text())["phones_dim"] == len(said) + 1


def test_a_recognizer_can_start_from_another_of_its_kind_only(study: Study, tmp_path: Path) -> None:
    start = str(train_recognizer(study, tmp_path / "first"))
    train_recognizer(study, tmp_path / "warm", start_from=start, steps=1, learning_rate=1e-12)
    ours, theirs = (load_file(tmp_path / name / "model.safetensors") for name in ("warm", "first"))
    assert all(np.allclose(ours[name], theirs[name], atol=1e-6) for name in theirs)
    with pytest.raises(BowerbirdError, match=r"ppg\.start_from: .*: its width is 16, this stage's is 32"):
        train_recognizer(study, tmp_path / "other", start_from=start, width=32)


def test_a_recognizer_wants_transcripts(study: Study, tmp_path: Path) -> None:
    silent = read_table(study.manifest).assign(text="")
    write_table(tmp_path / "manifest.parquet", silent, Identity("fixture", 1, {}), MANIFEST)
    with pytest.raises(BowerbirdError, match=r"no utterance of split train has a transcript \(column text\)"):
        train_recognizer(study, tmp_path / "silent", manifest=tmp_path / "manifest.parquet")
    with pytest.raises(BowerbirdError, match=r"no utterance of split train"):
        train_recognizer(study, tmp_path / "short", longest_s=0.1)


def stepback_experiment(speakers: str, **dual_flow: Any) -> StepbackExperiment:
    return StepbackExperiment(
        preparation={**PREPARATION, "speakers": speakers},
        classifier={**SPECTROGRAM, "channels": 8},
        dual_flow={**DUAL_FLOW, **dual_flow},
    )


def parents(folder: Path, stage: str) -> list[str]:
    """`--models` of a stage of Stepback: all those before it."""
    return [f"{name}={folder / name}" for name in STEPBACK_STAGES[: STEPBACK_STAGES.index(stage)]]


@pytest.fixture(scope="module", params=["reference", "table"])
def stepback(
    request: pytest.FixtureRequest, study: Study, tmp_path_factory: pytest.TempPathFactory
) -> tuple[StepbackExperiment, Path]:
    experiment, folder = stepback_experiment(request.param), tmp_path_factory.mktemp("stepback")
    for stage in experiment.stages:
        train(study, experiment, stage, folder / stage, models=parents(folder, stage))
    return experiment, folder


def test_stepback_trains_its_stages_and_converts(
    study: Study, stepback: tuple[StepbackExperiment, Path], tmp_path: Path
) -> None:
    experiment, folder = stepback
    assert len(losses(folder / "dual_flow", "encoder/amendment")) == 2  # steps 1 and 3
    assert len(losses(folder / "dual_flow", "encoder/robustness")) == 2
    models = [*study.models, *(f"{stage}={folder / stage}" for stage in experiment.stages)]
    amended = convert(study, experiment, tmp_path / "amended" / "trials.parquet", models)
    before = experiment.model_copy(update={"checkpoint": "preparation"})
    prepared = convert(study, before, tmp_path / "prepared" / "trials.parquet", models)
    assert not set(amended) & set(prepared)


@pytest.mark.parametrize("stage", STEPBACK_STAGES)
def test_stepback_resumes_bit_for_bit(
    study: Study, stepback: tuple[StepbackExperiment, Path], tmp_path: Path, stage: str
) -> None:
    experiment, folder = stepback
    half = experiment.model_copy(update={stage: getattr(experiment, stage).model_copy(update={"steps": 2})})
    for step in (half, experiment):
        train(study, step, stage, tmp_path / stage, models=parents(folder, stage))
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / stage / name).read_bytes() == (folder / stage / name).read_bytes(), name


def test_stepback_takes_only_models_that_belong_together(
    study: Study, stepback: tuple[StepbackExperiment, Path], tmp_path: Path
) -> None:
    experiment, folder = stepback
    other = "table" if experiment.preparation.speakers == "reference" else "reference"
    train(study, stepback_experiment(other), "preparation", tmp_path / "other")
    wrong = [f"preparation={tmp_path / 'other'}", f"classifier={folder / 'classifier'}"]
    with pytest.raises(BowerbirdError, match="--models: classifier: its speakers differ from the preparation's"):
        train(study, experiment, "dual_flow", tmp_path / "wrong", models=wrong)
    start = str(folder / "preparation")
    larger = experiment.model_copy(
        update={"preparation": experiment.preparation.model_copy(update={"start_from": start, "latent": 9})}
    )
    with pytest.raises(BowerbirdError, match=r"start_from: .*: its latent is 8, this stage's is 9"):
        train(study, larger, "preparation", tmp_path / "larger")
