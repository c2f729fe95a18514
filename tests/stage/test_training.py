"""The training loop on the vocoder: batches, resuming, signals, damaged checkpoints, several processes, bad numbers."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from bowerbird.artifacts.identity import Identity, RunRecord, inputs_digest
from bowerbird.artifacts.shards import ShardWriter
from bowerbird.artifacts.tables import MANIFEST, write_table
from bowerbird.config.sections.runtime import RuntimeConfig
from bowerbird.config.sections.training import TrainingConfig
from bowerbird.config.shard_names import distances_path
from bowerbird.config.systems.vocoder import VocoderExperiment, VocoderStage
from bowerbird.errors import BowerbirdError
from bowerbird.nn.discriminators import Discriminators, PeriodDiscriminator
from bowerbird.nn.vocos import Vocos
from bowerbird.stages.training import PREEMPTED
from bowerbird.stages.training.data import StageData, StepBatches, equal_parts, shards_used
from bowerbird.stages.training.loop import Trainer
from bowerbird.stages.training.train import train_stage
from bowerbird.stages.training.updates import StageUpdater
from bowerbird.systems.base import BatchSpec, StageInputs
from bowerbird.systems.vocoder import network, synthesis, training
from bowerbird.systems.vocoder.synthesis import load_vocoder
from bowerbird.systems.vocoder.training import VocoderTraining

DIM = 6
FEATURES_AND_AUDIO = frozenset({"features", "audio"})
IDENTITY = Identity("fixture", 1, {"encoder": "none"})
OPTIONS: dict[str, Any] = {
    "generator": "vocos-nano",
    "steps": 6,
    "batch_size": 4,
    "segment_frames": 8,
    "valid_every": 3,
    "ema": 0.9,
    "adversarial_from": 2,
}


@dataclass(frozen=True)
class Corpus:
    """Eight utterances of two speakers; feature 0 of each frame is its number, and so are its samples."""

    root: Path
    frames: dict[str, int]

    def inputs(self) -> dict[str, Any]:
        return {
            "manifest": self.root / "manifest.parquet",
            "features": [self.root / "features" / "shard-0000.npy", self.root / "features" / "shard-0001.npy"],
            "audio": [self.root / "audio" / "shard-0000.npy"],
        }

    def open(self, spec: BatchSpec, **shards: list[Path]) -> StageData:
        """What a stage that declares ``spec`` reads of it."""
        inputs = self.inputs()
        return StageData(
            spec, inputs["manifest"], {name: inputs[name] for name in shards_used(spec) & inputs.keys()} | shards
        )


def write_corpus(root: Path, spoil: str = "") -> Corpus:
    rng = np.random.default_rng(0)
    frames = {f"{speaker}-{take}": 12 + 3 * take for speaker in "ab" for take in range(4)}
    audio = ShardWriter(root / "audio" / "shard-0000.npy", "int16", (), "num_samples")
    for utt_id, count in frames.items():
        audio.add(utt_id, np.append(np.repeat(np.arange(count), 320), np.full(80, 999)).astype(np.int16))
    audio.close(IDENTITY, RunRecord())
    for number, speaker in enumerate("ab"):
        writer = ShardWriter(root / "features" / f"shard-{number:04d}.npy", "float16", (DIM,))
        for utt_id, count in frames.items():
            if utt_id.startswith(speaker):
                values = rng.standard_normal((count, DIM))
                values[:, 0] = np.arange(count)
                values[0, 1] = np.inf if utt_id == spoil else 0
                writer.add(utt_id, values.astype(np.float16))
        writer.close(IDENTITY, RunRecord())
    rows = [
        {
            **dict.fromkeys(MANIFEST.names, ""),
            "utt_id": u,
            "speaker": u[0],
            "split": "valid" if u == "b-3" else "train",
            "sample_rate": 16000,
            "num_samples": 320 * n + 80,
            "duration_s": 0.02 * n,
            "shard": "ab".index(u[0]),
        }
        for u, n in frames.items()
    ]
    write_table(root / "manifest.parquet", pd.DataFrame(rows), IDENTITY, MANIFEST)
    return Corpus(root, frames)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module", autouse=True)
def tiny_models() -> Iterator[None]:
    """The vocoder stage as it is, with models that take milliseconds."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (training, synthesis):
            patch.setattr(module, "build_generator", lambda _, dim: Vocos(dim, dim=8, hidden=16, slow=1, fast=1))
        patch.setattr(network, "nano_discriminators", lambda: Discriminators([PeriodDiscriminator(3, width=1 / 32)]))
        yield


def train(corpus: Corpus, output: Path, settings: dict[str, Any] | None = None, **options: Any) -> int:
    """Train to ``output``/model.safetensors; ``pairs`` among the options is the list of pair shards."""
    inputs = corpus.inputs() | ({"pairs": options.pop("pairs")} if "pairs" in options else {})
    return train_stage(
        output=output / "model.safetensors",
        stage="vocoder",
        experiment=VocoderExperiment(vocoder=VocoderStage(**{**OPTIONS, **options})),
        training=TrainingConfig(**{"checkpoint_every": 2, "log_every": 2, "audio_samples": 0, **(settings or {})}),
        runtime=RuntimeConfig(device="cpu"),
        **inputs,
    )


@pytest.fixture(scope="module")
def straight(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model folder of a training that nothing disturbed."""
    folder = tmp_path_factory.mktemp("straight")
    assert train(corpus, folder) == 0
    return folder


def must_be_the_same(folder: Path, straight: Path) -> None:
    """Weights, configuration and metrics, byte for byte."""
    for name in ("model.safetensors", "config.json", "metrics.jsonl"):
        assert (folder / name).read_bytes() == (straight / name).read_bytes(), name


def checkpoint_folder(folder: Path) -> Path:
    (recipe,) = (folder / "checkpoints").iterdir()
    return recipe


class Crash(Exception):
    """Something that ends the process."""


def crash_at(monkeypatch: pytest.MonkeyPatch, step: int, action: Any) -> None:
    """Do ``action()`` when the batch of ``step`` is asked for, once."""
    original, armed = StepBatches.__getitem__, [True]

    def get(self: StepBatches, at: int) -> Any:
        if at == step and armed:
            armed.clear()
            action()
        return original(self, at)

    monkeypatch.setattr(StepBatches, "__getitem__", get)


def crash() -> None:
    raise Crash


def test_crops_pair_a_frame_with_its_samples(corpus: Corpus) -> None:
    """Frame i goes with samples [320i, 320i + 320), whatever the crop."""
    data = corpus.open(BatchSpec(FEATURES_AND_AUDIO, 8))
    batches = StepBatches(data, data.items("train", at_least=8), seed=3, batch_size=7, part=slice(0, 7))
    starts = set()
    for step in range(1, 6):
        batch = batches[step]
        samples = (batch.audio * 32768).view(7, 8, 320)
        assert torch.equal(samples, batch.features[:, :, :1].expand(-1, -1, 320))
        starts |= set(batch.features[:, 0, 0].tolist())
    assert len(starts) > 5


def test_a_batch_depends_on_seed_and_step_alone(corpus: Corpus) -> None:
    data = corpus.open(BatchSpec(FEATURES_AND_AUDIO, 8))
    items = data.items("train", at_least=8)
    whole = StepBatches(data, items, seed=3, batch_size=5, part=slice(0, 5))
    parts = [StepBatches(data, items, seed=3, batch_size=5, part=part) for part in equal_parts(5, 2)]
    late = whole[9]
    assert torch.equal(late.features, StepBatches(data, items, 3, 5, slice(0, 5))[9].features)
    assert torch.equal(late.features, torch.cat([part[9].features for part in parts]))
    assert not torch.equal(late.features, StepBatches(data, items, 4, 5, slice(0, 5))[9].features)


def test_an_epoch_has_every_utterance_once(corpus: Corpus) -> None:
    data = corpus.open(BatchSpec(frozenset({"features"}), 8))
    batches = StepBatches(data, data.items("train", at_least=8), seed=0, batch_size=7, part=slice(0, 7))
    for step in (1, 2, 3):
        assert sorted(item.utt_id for item in batches.draw(step)) == sorted(u for u in corpus.frames if u != "b-3")


def test_utterances_shorter_than_a_crop_are_left_out_and_counted(
    corpus: Corpus, caplog: pytest.LogCaptureFixture
) -> None:
    data = corpus.open(BatchSpec(frozenset({"features"}), 16))
    with caplog.at_level(logging.INFO):
        assert {item.utt_id for item in data.items("train", at_least=16)} == {"a-2", "a-3", "b-2"}
    assert "4 of less than 16 frames" in caplog.text
    with pytest.raises(BowerbirdError, match=r"segment_frames"):
        train(corpus, corpus.root / "none", segment_frames=100)


def test_training_learns(corpus: Corpus, tmp_path: Path) -> None:
    train(corpus, tmp_path, steps=40, adversarial_from=1000, learning_rate=5e-3, valid_every=20, ema=0.0)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    losses = [line["generator/total"] for line in lines if "generator/total" in line]
    assert len(losses) == 20
    assert losses[-1] < 0.7 * losses[0]


def test_the_model_says_what_it_is(straight: Path, corpus: Corpus) -> None:
    config = json.loads((straight / "config.json").read_text())
    assert (config["generator"], config["input_dim"], config["features"]) == ("vocos-nano", DIM, {"encoder": "none"})
    with safe_open(straight / "model.safetensors", "pt") as file:
        assert json.loads(file.metadata()["bowerbird"]) == config["identity"]
    assert (straight / "model.safetensors").stat().st_mode == (straight / "config.json").stat().st_mode
    assert str(corpus.root) not in (straight / "config.json").read_text()
    record = json.loads((straight / "model.safetensors.run.json").read_text())
    assert record["processes"] == 1 and record["device"] == "cpu"


def test_the_same_bytes_twice_and_with_workers(
    corpus: Corpus, straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Trainer.run
    monkeypatch.setattr(Trainer, "run", lambda self, workers: original(self, 1))
    assert train(corpus, tmp_path) == 0
    must_be_the_same(tmp_path, straight)


def test_killed_and_run_again_is_the_same(
    corpus: Corpus, straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    crash_at(monkeypatch, 6, crash)
    with pytest.raises(Crash):
        train(corpus, tmp_path)
    assert not (tmp_path / "model.safetensors").exists()
    with caplog.at_level(logging.INFO):
        assert train(corpus, tmp_path) == 0
    assert "going on after step 4 of 6" in caplog.text
    must_be_the_same(tmp_path, straight)


def test_a_signal_saves_and_the_next_run_goes_on(
    corpus: Corpus, straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At step 3, off the grid of checkpoints and in the middle of a line of metrics."""
    crash_at(monkeypatch, 3, lambda: os.kill(os.getpid(), signal.SIGUSR1))
    assert train(corpus, tmp_path) == PREEMPTED
    assert not (tmp_path / "model.safetensors").exists()
    assert (checkpoint_folder(tmp_path) / "step-00000003").is_dir()
    assert train(corpus, tmp_path) == 0
    must_be_the_same(tmp_path, straight)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "no-tensors", "state", "half-written"])
def test_a_damaged_checkpoint_falls_back(
    corpus: Corpus, straight: Path, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(straight, tmp_path, dirs_exist_ok=True)
    (tmp_path / "model.safetensors").unlink()
    last = checkpoint_folder(tmp_path) / "step-00000006"
    tensors, state = last / "tensors.safetensors", last / "state.json"
    content = tensors.read_bytes()
    if damage == "truncated":
        tensors.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        tensors.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "no-tensors":
        tensors.unlink()
    elif damage == "state":
        state.write_text(state.read_text().replace('"step": 6', '"step": 5'))
    else:
        last.rename(last.with_name(".tmp-1-step-00000006"))
    with caplog.at_level(logging.INFO):
        assert train(corpus, tmp_path) == 0
    assert "going on after step 4" in caplog.text
    assert ("damaged or incomplete" in caplog.text) == (damage != "half-written")
    must_be_the_same(tmp_path, straight)
    assert not list(checkpoint_folder(tmp_path).glob(".tmp-*"))


def test_more_steps_go_on_and_fewer_go_back(
    corpus: Corpus, straight: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(corpus, tmp_path, steps=3)
    with caplog.at_level(logging.INFO):
        train(corpus, tmp_path)
    assert "going on after step 3" in caplog.text
    weights, expected = load_file(tmp_path / "model.safetensors"), load_file(straight / "model.safetensors")
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    train(corpus, tmp_path, steps=5)
    assert {p.name for p in checkpoint_folder(tmp_path).glob("step-*")} >= {"step-00000005", "step-00000006"}
    fewer = load_file(tmp_path / "model.safetensors")
    assert not torch.equal(fewer["conv_pre.weight"], expected["conv_pre.weight"])


def test_another_recipe_starts_anew_and_says_what_changed(
    corpus: Corpus, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(corpus, tmp_path, steps=2)
    with caplog.at_level(logging.INFO):
        train(corpus, tmp_path, steps=2, learning_rate=1e-3)
    assert "starting anew" in caplog.text
    assert "params.learning_rate: 0.0002 -> 0.001)" in caplog.text
    assert "going on" not in caplog.text
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2


def test_only_the_last_checkpoints_are_kept(straight: Path) -> None:
    kept = sorted(p.name for p in checkpoint_folder(straight).glob("step-*"))
    assert kept == ["step-00000004", "step-00000006"]


def test_sigterm_ends_the_command_with_75(corpus: Corpus, tmp_path: Path) -> None:
    """The console command as Slurm would stop it, with the real models."""
    inputs = corpus.inputs()
    experiment = {"system": "vocoder", "vocoder": {**OPTIONS, "steps": 100_000, "batch_size": 1}}
    command = [
        *(sys.executable, "-m", "bowerbird.cli", "train-stage", "--stage", "vocoder"),
        *("--experiment", json.dumps(experiment), "--output", tmp_path / "model.safetensors"),
        *("--manifest", inputs["manifest"], "--features", *inputs["features"], "--audio", *inputs["audio"]),
        *("--device", "cpu", "--checkpoint-every", "1", "--audio-samples", "0"),
    ]
    process = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "checkpoints").glob("*/step-*")) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=120)
    assert process.returncode == PREEMPTED, log
    assert "stopped by a signal" in log
    assert not (tmp_path / "model.safetensors").exists()


def test_micro_batches_are_the_same_mathematics(corpus: Corpus, tmp_path: Path) -> None:
    for count in (1, 2):
        train(corpus, tmp_path / str(count), accumulate=count, grad_clip=50.0)
    must_agree(tmp_path / "1", tmp_path / "2")


def test_two_processes_are_the_same_mathematics(corpus: Corpus, tmp_path: Path) -> None:
    """Under gloo, with a batch of odd size: weights within 1e-6 of one process's."""
    train(corpus, tmp_path / "1", batch_size=5, grad_clip=50.0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")
    workers = [
        context.Process(target=_train_as, args=(rank, port, corpus, tmp_path / "2"), daemon=True) for rank in range(2)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0
    must_agree(tmp_path / "1", tmp_path / "2")
    record = json.loads((tmp_path / "2" / "model.safetensors.run.json").read_text())
    assert record["processes"] == 2


def _train_as(rank: int, port: int, corpus: Corpus, output: Path) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    train(corpus, output, batch_size=5, grad_clip=50.0)


def must_agree(one: Path, other: Path) -> None:
    weights, expected = load_file(one / "model.safetensors"), load_file(other / "model.safetensors")
    for name in expected:
        torch.testing.assert_close(weights[name], expected[name], atol=1e-6, rtol=0)
    read = [[json.loads(line) for line in (f / "metrics.jsonl").read_text().splitlines()] for f in (one, other)]
    for line, expected_line in zip(*read, strict=True):
        assert line == pytest.approx(expected_line, rel=1e-4)


def test_a_loss_that_is_not_finite_names_the_utterances(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", spoil="a-1")
    with pytest.raises(BowerbirdError, match=r"not finite; no model was written. The batch: .*a-1"):
        train(corpus, tmp_path / "out", steps=50, batch_size=7, segment_frames=12)
    assert not list((tmp_path / "out").glob("*.safetensors")) and not (tmp_path / "out" / "config.json").exists()


def test_weights_that_are_not_finite_are_never_written(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last step can spoil weights without a loss that shows it."""
    original = StageUpdater.update

    def spoil(self: StageUpdater, update: str, step: int, *rest: Any) -> dict[str, float]:
        losses = original(self, update, step, *rest)
        if step == 6 and update == "generator":
            with torch.no_grad():
                self.stage.generator.conv_pre.weight[0, 0, 0] = float("nan")
        return losses

    monkeypatch.setattr(StageUpdater, "update", spoil)
    with pytest.raises(BowerbirdError, match=r"conv_pre.weight: not finite"):
        train(corpus, tmp_path, valid_every=100, ema=0.0)
    assert not (tmp_path / "model.safetensors").exists()


def test_start_from_takes_weights_and_refuses_another_architecture(straight: Path) -> None:
    options = VocoderStage(**OPTIONS, start_from=str(straight))
    stage = VocoderTraining(options, StageInputs(DIM))
    weights = load_file(straight / "model.safetensors")
    assert all(torch.equal(tensor, weights[name]) for name, tensor in stage.generator.state_dict().items())
    with pytest.raises(BowerbirdError, match=r"vocoder\.start_from: .*: its input_dim is 6, this stage's is 7"):
        VocoderTraining(options, StageInputs(7))


def test_a_model_counts_by_its_weights_and_its_config(corpus: Corpus, straight: Path, tmp_path: Path) -> None:
    """Not by its path: the same model elsewhere is the same input."""
    copy = shutil.copytree(straight, tmp_path / "copy")
    digests = []
    for folder in (straight, copy):
        train(corpus, tmp_path / folder.name, steps=1, start_from=str(folder))
        identity = json.loads((tmp_path / folder.name / "config.json").read_text())["identity"]
        assert "start_from" not in identity["params"]
        digests.append(identity["inputs"]["start"])
    assert digests == 2 * [inputs_digest([straight / "model.safetensors", straight / "config.json"])]


def write_pairs(folder: Path, frames: dict[str, int], donor_of: dict[str, str]) -> list[Path]:
    """Each frame's neighbors are rows 0 and 2 of the donor's shard, in the format of the stage `pairs`."""
    path = folder / "shard-0000.npy"
    writer = ShardWriter(path, "int32", (2,))
    for utt_id, donor in donor_of.items():
        columns = {"speaker": utt_id[0], "donor_speaker": donor, "donor_file": "ab".index(donor), "variant": 0}
        unused = {"donor_session": "", "pool_frames": 3, "prompt_utt": ""}
        writer.add(utt_id, np.tile([0, 2], (frames[utt_id], 1)), **columns, **unused)
    np.save(distances_path(path), np.zeros((writer.total, 2), np.float16))
    writer.close(IDENTITY, RunRecord())
    return [path]


def test_prematched_training_averages_retrieved_frames(corpus: Corpus, tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "own", corpus.frames, {u: u[0] for u in corpus.frames})
    data = corpus.open(VocoderTraining.batch_spec(VocoderStage(**OPTIONS)), pairs=pairs)
    item = next(item for item in data.items("train") if item.utt_id == "b-1")
    crop = data.crop(item, 2, 8)
    donors = np.load(corpus.inputs()["features"][1]).astype(np.float32)
    expected = torch.from_numpy((donors[0] + donors[2]) / 2).expand(8, DIM)
    torch.testing.assert_close(crop["retrieved"], expected)
    stage = VocoderTraining(VocoderStage(**OPTIONS), StageInputs(DIM))
    batch = data.whole(item, 8)
    assert torch.equal(stage.forward(batch).wave, stage.generator(batch.retrieved))
    assert train(corpus, tmp_path / "out", pairs=pairs, steps=1) == 0


def test_prematched_training_refuses_pairs_of_other_speakers(corpus: Corpus, tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path, corpus.frames, dict.fromkeys(corpus.frames, "a"))
    with pytest.raises(BowerbirdError, match=r"b-0 of b is paired with speaker a.*same_speaker: true"):
        train(corpus, tmp_path / "out", pairs=pairs)


def test_chunks_sound_as_the_whole(straight: Path, tmp_path: Path) -> None:
    """A long input in chunks is within 1e-4 of the same in one go, and float16 weights load."""
    vocoder = load_vocoder(straight)
    features = torch.randn(150, DIM, generator=torch.Generator().manual_seed(0))
    whole = vocoder.vocode(features)
    assert whole.shape == (150 * 320,)
    assert whole.abs().max() > 1e-3
    for chunk in (40, 149, 7):
        torch.testing.assert_close(vocoder.vocode(features, chunk_frames=chunk), whole, atol=1e-4, rtol=0)
    with pytest.raises(BowerbirdError, match=r"features of shape \(150, 5\).*\(frames, 6\)"):
        vocoder.vocode(features[:, :5])
    shutil.copy(straight / "config.json", tmp_path)
    save_file(
        {k: v.half() for k, v in load_file(straight / "model.safetensors").items()}, tmp_path / "model.safetensors"
    )
    torch.testing.assert_close(load_vocoder(tmp_path).vocode(features), whole, atol=0.02, rtol=0.02)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stage": "converter"}, r"--stage: 'converter': no training stage of vocoder; it has: vocoder"),
        ({"audio": []}, r"--audio: missing"),
        ({"features": []}, r"--features: missing"),
        ({"models": ["vocoder"]}, r"--models: vocoder: must be ROLE=FOLDER"),
        ({"models": ["vocoder=."]}, r"--models: vocoder: \.: holds no model.safetensors and no config.json"),
        ({"mels": [Path("shard-0000.npy")]}, r"--mels: this stage does not read it"),
    ],
)
def test_mistakes_are_named(corpus: Corpus, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    call = {
        "output": tmp_path / "model.safetensors",
        "stage": "vocoder",
        "training": TrainingConfig(),
        "experiment": VocoderExperiment(vocoder=VocoderStage(**OPTIONS)),
        "runtime": RuntimeConfig(device="cpu"),
    }
    with pytest.raises(BowerbirdError, match=message):
        train_stage(**{**call, **corpus.inputs(), **change})
