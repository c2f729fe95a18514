"""What representations hold that they should not, as tables: ``bowerbird audit residual`` and ``bowerbird audit leakage``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from bowerbird.artifacts.shards import Shards
from bowerbird.artifacts.tables import read_identity, read_table
from bowerbird.audio import HOP
from bowerbird.errors import BowerbirdError
from bowerbird.systems.base import Batch
from bowerbird.systems.stepback.network import FRAMES_PER_SECOND, Voices, load_autoencoder


def audit_residual(root: Path = Path("results/demo")) -> int:
    """Print what each codebook's residual holds: accuracy of linear probes for speaker and phone, in percent."""
    tables = sorted(root.glob("codebook/*/residual.parquet"))
    if not tables:
        raise BowerbirdError(f"{root}: no codebook/*/residual.parquet; make them with: make run ARGS=codebook")
    print("linear probes, fitted on two thirds of each utterance, tested on the rest (percent right; c: chance)")
    print(f"{'codebook':14} {'K':>6} {'|R|/|S|':>8}  " + "  ".join(f"{name:>14}" for name in ("speaker", "phone")))
    for path in tables:
        table, facts = read_table(path), read_identity(path)["facts"]
        print(f"{path.parent.name:14} {facts['codes']:6d} {facts['residual_energy'] ** 0.5:8.3f}")
        for name, rows in table.groupby("representation", sort=False):
            cells = {r.target: f"{100 * r.accuracy:5.1f} (c {100 * r.chance:4.1f})" for r in rows.itertuples()}
            print(f"  {name:28}  " + "  ".join(f"{cells.get(t, '-'):>14}" for t in ("speaker", "phone")))
    return 0


def audit_leakage(root: Path = Path("results/demo"), speakers: int = 40, utterances_per_speaker: int = 4) -> int:
    """Print how much of the speaker is left in Stepback's content, before and after its dual flow, in percent.

    A linear probe on the frames of z, fitted on all but one utterance of each training speaker (two thirds of it, where
    there is only one) and tested on the rest; beside it the reconstruction error on the tested utterances of the same model.
    """
    from bowerbird.config.loading import load_config
    from bowerbird.config.paths import Layout
    from bowerbird.inspection.probes import probe_leakage

    config = load_config([root / "config.yaml"])
    layout = Layout(root, config.corpus.num_shards)
    rows: list[tuple[str, Path, list[Path]]] = []
    for name, experiment in config.experiments.items():
        if experiment.system != "stepback":
            continue
        for stage in ("preparation", "dual_flow"):
            folder = layout.model(experiment.reuse.get(stage, name), stage)
            if (folder / "model.safetensors").exists() and folder not in [row[1] for row in rows]:
                rows.append(
                    (f"{folder.parent.name}/{stage}", folder, layout.all_shards("features", experiment.features))
                )
    if not rows:
        raise BowerbirdError(f"{root}: no trained model of Stepback; make them with: make run ARGS=training")
    print("linear probes for the speaker on the content z; reconstruction: L1 of log spectra")
    print(f"{'model':40} {'speaker':>9} {'chance':>8} {'mean of z':>10} {'reconstruction':>15}")
    audio = layout.all_shards("audio")
    for name, folder, features in rows:
        found = probe_leakage(folder, layout.manifest, features, audio, speakers, utterances_per_speaker)
        print(
            f"{name:40} {100 * found.frames:8.1f}% {100 * found.chance:7.1f}% {100 * found.means:9.1f}% "
            f"{found.reconstruction:15.4f}"
        )
    return 0


LONGEST = 500  # frames of an utterance that are looked at


@dataclass(frozen=True)
class Leakage:
    """What was found in one model; accuracies are shares."""

    frames: float  # of the speaker, from a frame of z
    means: float  # from the mean of z over a second
    chance: float  # of the commonest speaker among the tested frames
    reconstruction: float  # L1 of D(E(x), s) on the tested speech


def probe_leakage(
    model: Path,
    manifest: Path,
    features: Sequence[Path],
    audio: Sequence[Path],
    speakers: int = 40,
    utterances_per_speaker: int = 4,
) -> Leakage:
    """Probe the encoder in the folder ``model`` on speech of the training split."""
    autoencoder, config = load_autoencoder(model)
    voices, spectra, waves = Voices(config), Shards(features), Shards(audio, "num_samples")
    chosen = choose(manifest, spectra, speakers, utterances_per_speaker)
    second = max(1, FRAMES_PER_SECOND // 2 ** config["halvings"])  # latent frames
    fitted, tested, errors = [], [], []
    with torch.no_grad():
        for label, group in enumerate(chosen):
            parts = [torch.from_numpy(np.array(spectra[name][:LONGEST], dtype=np.float32)) for name in group]
            if len(parts) == 1:
                cut = 2 * len(parts[0]) // 3
                parts = [parts[0][:cut], parts[0][cut:]]
            for number, x in enumerate(parts):
                row = (autoencoder.encoder(x[None])[0], label)
                (tested if number == len(parts) - 1 else fitted).append(row)
            wave = torch.from_numpy(np.array(waves[group[0]][: HOP * LONGEST], dtype=np.float32) / 32768)
            heard = Batch(
                (group[0],),
                x[None],
                prompt_audio=wave[None],
                prompt_frames=torch.tensor([len(wave) // HOP]),
                speaker=torch.tensor([label]),
            )
            errors.append(float(F.l1_loss(autoencoder(x[None], voices(heard, autoencoder)), x[None])))
    accuracy, chance = probe(fitted, tested, lambda z: z)
    means, _ = probe(fitted, tested, lambda z: torch.stack([part.mean(dim=0) for part in z.split(second)]))
    return Leakage(accuracy, means, chance, float(np.mean(errors)))


def choose(manifest: Path, features: Shards, speakers: int, each: int) -> list[list[str]]:
    """The first utterances of the first speakers of the training split, by name: a list for each speaker."""
    table: pd.DataFrame = read_table(manifest, ["utt_id", "speaker", "split"]).sort_values(["speaker", "utt_id"])
    table = table[(table["split"] == "train") & table["utt_id"].map(lambda utt_id: utt_id in features)]
    groups = [list(rows["utt_id"][:each]) for _, rows in table.groupby("speaker")][:speakers]
    if len(groups) < 2:
        raise BowerbirdError(f"{manifest}: fewer than two speakers of split train have features; nothing to tell apart")
    return groups


def probe(
    fitted: Sequence[tuple[Tensor, int]],
    tested: Sequence[tuple[Tensor, int]],
    summary: Callable[[Tensor], Tensor],
    steps: int = 200,
) -> tuple[float, float]:
    """Accuracy of a linear probe on ``tested``, and what the commonest label would get; ``summary`` makes rows of z."""
    (x, y), (unseen, truth) = (_rows(pairs, summary) for pairs in (fitted, tested))
    mean, scale = x.mean(dim=0), x.std(dim=0).clamp_min(1e-6)
    x, unseen = (x - mean) / scale, (unseen - mean) / scale
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layer = torch.nn.Linear(x.shape[1], int(y.max()) + 1)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.02, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    with torch.enable_grad():
        for _ in range(steps):
            optimizer.zero_grad()
            F.cross_entropy(layer(x), y).backward()
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        right = (layer(unseen).argmax(dim=1) == truth).float().mean()
    return float(right), float((truth == y.bincount().argmax()).float().mean())


def _rows(pairs: Sequence[tuple[Tensor, int]], summary: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """All rows of z with their labels."""
    values = [(summary(z), label) for z, label in pairs]
    labels = [torch.full((len(z),), label) for z, label in values]
    return torch.cat([z for z, _ in values]), torch.cat(labels)
