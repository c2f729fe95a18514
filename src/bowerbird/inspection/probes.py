"""``bowerbird audit residual`` and ``audit leakage``: what representations tell that they should not, as tables.

Letters: ``T`` frames, ``D`` dimension of the content.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bowerbird.artifacts.manifest import first_training_utterances
from bowerbird.artifacts.shards import Shards
from bowerbird.artifacts.tables import read_identity, read_table
from bowerbird.artifacts.text_tables import TableColumn, format_table
from bowerbird.audio import FRAMES_PER_SECOND, HOP, int16_to_float
from bowerbird.config.graph import Graph
from bowerbird.config.paths import Paths
from bowerbird.errors import BowerbirdError
from bowerbird.nn.linear_probe import LabeledRows, linear_probe
from bowerbird.systems.base import Batch
from bowerbird.systems.stepback.network import SpeakerEmbeddings, load_autoencoder

LONGEST_FRAMES = 500  # of an utterance that are looked at
PROBE_STEPS = 200
TARGETS = ("speaker", "phone")  # of the probes of a residual


def audit_residual(root: Path = Path("results/demo")) -> int:
    """Print the accuracy of linear probes of each codebook's residual for speaker and phone, in percent."""
    tables = sorted(root.glob(str(Paths(root).codebook_table("*", "residual").relative_to(root))))
    if not tables:
        raise BowerbirdError(f"{root}: no codebook/*/residual.parquet; make them with: make run ARGS=codebook")
    columns = [TableColumn("codebook"), TableColumn("K", "d", "right"), TableColumn("|R|/|S|", ".3f", "right")]
    for target in TARGETS:
        columns += [TableColumn(target, ".1f", "right", "-"), TableColumn("(chance level)", "", "right", "-")]
    lines: list[tuple[object, ...]] = []
    for path in tables:
        stats = read_identity(path)["facts"]
        lines.append((path.parent.name, stats["codes"], stats["residual_energy"] ** 0.5, *[""] * 2 * len(TARGETS)))
        for name, rows in read_table(path).groupby("representation", sort=False):
            cells: list[object] = []
            for target in TARGETS:
                found = rows[rows["target"] == target]
                cells.append(100 * found["accuracy"].iloc[0] if len(found) else None)
                cells.append(f"({100 * found['chance'].iloc[0]:.1f})" if len(found) else None)
            lines.append((f"  {name}", None, None, *cells))
    print("linear probes, fitted on two thirds of each utterance, tested on the rest: accuracy, percent")
    print(format_table(columns, lines))
    return 0


@dataclass(frozen=True)
class ContentModel:
    """A trained model with a content encoder that can be probed, and what it reads."""

    name: str  # experiment/stage
    folder: Path
    features: tuple[Path, ...]


def audit_leakage(root: Path = Path("results/demo"), speakers: int = 40, utterances_per_speaker: int = 4) -> int:
    """Print how well the content of Stepback's models tells the speaker, before and after the dual flow, in percent.

    A linear probe on the frames of z, fitted on all but one utterance of each training speaker (two thirds of it, where
    there is only one) and tested on the rest; beside it the reconstruction error of the same model on the tested speech.
    """
    graph = Graph.of_run(root)
    models = list(content_models(graph))
    if not models:
        raise BowerbirdError(f"{root}: no trained model of Stepback; make them with: make run ARGS=training")
    chosen = {
        model: first_training_utterances(graph.paths.manifest, Shards(model.features), speakers, utterances_per_speaker)
        for model in models
    }
    rows = []
    for model, table in chosen.items():
        utterances = [list(own) for _, own in table.groupby("speaker")["utt_id"]]
        found = probe_content(model, utterances, graph.paths.all_shards("audio"))
        rows.append(
            (model.name, 100 * found.frames, 100 * found.chance_level, 100 * found.seconds, found.reconstruction)
        )
    columns = [TableColumn("model"), TableColumn("a frame of z", ".1f", "right")]
    columns += [TableColumn("chance level", ".1f", "right"), TableColumn("a second of z", ".1f", "right")]
    columns += [TableColumn("reconstruction", ".4f", "right")]
    print("linear probes for the speaker on the content z: accuracy, percent; reconstruction: L1 of log spectra")
    print(format_table(columns, rows))
    return 0


def content_models(graph: Graph) -> Iterator[ContentModel]:
    """The models of a run that have a content encoder and are on disk, each once."""
    folders = set()
    for name, experiment in graph.config.experiments.items():
        for stage in experiment.content_models():
            folder = graph.models.locate(experiment.model(stage), name)
            if not isinstance(folder, Path) or folder in folders or not (folder / "model.safetensors").is_file():
                continue
            folders.add(folder)
            features = graph.train_stage(name, stage).inputs["features"]
            yield ContentModel(f"{folder.parent.name}/{stage}", folder, features)


@dataclass(frozen=True)
class ContentLeakage:
    """Accuracy of probes for the speaker on the content of one model, as shares, beside what the model is there for."""

    frames: float  # from a frame of z
    seconds: float  # from the mean of z over a second
    chance_level: float  # of the probe on frames
    reconstruction: float  # L1 of D(E(x), s) on the tested speech


@torch.no_grad()
def probe_content(model: ContentModel, utterances: list[list[str]], audio: tuple[Path, ...]) -> ContentLeakage:
    """Probe the content encoder of a model on ``utterances``, a list for each speaker."""
    autoencoder, config = load_autoencoder(model.folder)
    embeddings, spectra, waves = SpeakerEmbeddings(config), Shards(model.features), Shards(audio, "num_samples")
    frames_per_second = max(1, FRAMES_PER_SECOND // 2 ** config["num_downsamplings"])  # of z
    frames, seconds, errors = [], [], []
    for label, names in enumerate(utterances):
        parts = [torch.from_numpy(np.array(spectra[name][:LONGEST_FRAMES], dtype=np.float32)) for name in names]
        if len(parts) == 1:
            cut = 2 * len(parts[0]) // 3
            parts = [parts[0][:cut], parts[0][cut:]]
        for number, x in enumerate(parts):
            z, is_fitted = autoencoder.encoder(x[None])[0], number < len(parts) - 1  # (T, D)
            means = torch.stack([part.mean(dim=0) for part in z.split(frames_per_second)])
            frames.append(LabeledRows.alike(z, {"speaker": label}, is_fitted))
            seconds.append(LabeledRows.alike(means, {"speaker": label}, is_fitted))
        wave = torch.from_numpy(int16_to_float(np.array(waves[names[0]][: HOP * LONGEST_FRAMES])))
        speaker = embeddings(_batch_of(names[0], label, wave), autoencoder)
        tested = parts[-1][None]
        errors.append(float(F.l1_loss(autoencoder(tested, speaker), tested)))
    of_frames, of_seconds = (linear_probe(LabeledRows.join(rows), "speaker", PROBE_STEPS) for rows in (frames, seconds))
    return ContentLeakage(of_frames.accuracy, of_seconds.accuracy, of_frames.chance_level, float(np.mean(errors)))


def _batch_of(utt_id: str, speaker: int, wave: Tensor) -> Batch:
    """A batch of one item whose speaker is embedded from ``wave (N,)``."""
    tensors = {
        "prompt_audio": wave[None],
        "prompt_frames": torch.tensor([len(wave) // HOP]),
        "speaker": torch.tensor([speaker]),
    }
    return Batch((utt_id,), tensors)
