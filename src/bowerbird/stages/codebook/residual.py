"""`probe-residual`: what the quantization residual holds, by linear probes for speaker and phone on QR-VC's split.

    S   the features               Q   the nearest centroid of each frame          R   S - Q
    s   mean R of one second       V   R less its utterance's mean                 v   V through a trained bottleneck

A probe is fitted on the first two thirds of each utterance and tested on the last third, so the speakers are the same and the
words are not. The phone of a frame is the likeliest one of a phonetic encoder: where its layer is the one that was quantized,
S is read as that encoder's own training intended (an upper bound).

Letters: ``T`` frames, ``D`` feature dimension, ``K`` codes.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from bowerbird.artifacts.codebook import Codebook
from bowerbird.artifacts.identity import Identity, RunRecord, input_digests
from bowerbird.artifacts.manifest import first_training_utterances
from bowerbird.artifacts.shards import Shards
from bowerbird.artifacts.tables import write_table
from bowerbird.audio import int16_to_float
from bowerbird.config.models import MODEL_FILES
from bowerbird.config.sections.runtime import RuntimeConfig
from bowerbird.encoders.extractors import PhoneticEncoder
from bowerbird.errors import BowerbirdError
from bowerbird.nn.linear_probe import FITTED_SHARE, LabeledRows, linear_probe, second_means
from bowerbird.nn.quantizer import Quantizer
from bowerbird.stages.codebook import VERSION

logger = logging.getLogger(__name__)

POINTS = 600  # of a representation in pca.parquet


@dataclass(frozen=True)
class ResidualSplit:
    """QR-VC's split of features by a codebook; ``bottleneck`` is weight ``(channels, D)`` and bias of a trained one."""

    quantizer: Quantizer
    bottleneck: tuple[Tensor, Tensor] | None = None

    def of(self, features: Tensor) -> dict[str, Tensor]:
        """S, Q, R, V and, with a bottleneck, v of the features ``(T, D)`` of one utterance; each has ``T`` rows."""
        centroids, _ = self.quantizer(features)
        residual = features - centroids
        parts = {"S": features, "Q": centroids, "R": residual, "V": residual - residual.mean(dim=0)}
        if self.bottleneck is not None:
            parts["v"] = F.linear(parts["V"], *self.bottleneck)
        return parts


def probe_residual(
    codebook: Path,
    manifest: Path,
    features: list[Path],
    audio: list[Path],
    output: Path,
    runtime: RuntimeConfig,
    assignment: str = "cosine",
    phonetic: str = "bundled:nano-phones",
    speakers: int = 40,
    utterances_per_speaker: int = 4,
    model: str = "",
) -> None:
    """Probe a codebook's residual on speech of the training split; ``model`` is a QR-VC's folder, for v.

    Writes ``output``: one row per representation and target, with accuracy, chance (the accuracy of naming the commonest
    class) and counts; and ``pca.parquet`` beside it: points of s, R and Q in two principal components, with their speakers.
    """
    torch.set_num_threads(runtime.threads)
    params: dict[str, str | int] = {"assignment": assignment, "phonetic": phonetic, "speakers": speakers}
    params["utterances_per_speaker"] = utterances_per_speaker
    inputs = {"manifest": [manifest], "codebook": [codebook], "features": features, "audio": audio}
    inputs["model"] = [path for name in MODEL_FILES if model and (path := Path(model) / name).is_file()]
    identity = Identity("codebook.residual", VERSION, params, input_digests(inputs))
    record = RunRecord()
    centroids, shards = torch.from_numpy(Codebook.load(codebook).centroids), Shards(features)
    split = ResidualSplit(Quantizer(centroids, assignment), load_bottleneck(Path(model)) if model else None)
    chosen = first_training_utterances(manifest, shards, speakers, utterances_per_speaker)
    parts = gather_parts(chosen, shards, Shards(audio, "num_samples"), split, PhoneticEncoder(phonetic))
    table = probe_parts(parts)
    points = pd.concat([principal_points(name, parts[name], chosen) for name in ("s", "R", "Q")], ignore_index=True)
    share = float(parts["R"].values.square().sum() / parts["S"].values.square().sum())
    stats = {"codes": len(centroids), "residual_energy": round(share, 5), "utterances": len(chosen)}
    record.extra["facts"] = stats
    record.write(output.with_name("pca.parquet"), identity)
    write_table(output.with_name("pca.parquet"), points, identity)
    record.write(output, identity)
    write_table(output, table, identity, extra={"facts": stats})
    logger.info("%d codes: the residual holds %.1f %% of the features' energy", len(centroids), 100 * share)


def load_bottleneck(model: Path) -> tuple[Tensor, Tensor]:
    """Weight ``(channels, D)`` and bias ``(channels,)`` of the speaking variation of a trained QR-VC in a folder."""
    state = load_file(model / "model.safetensors")
    if "disentangler.variation.weight" not in state:
        raise BowerbirdError(f"--model: {model}: has no bottleneck of speaking variation (variation_dim: 0?)")
    weight, bias = state["disentangler.variation.weight"], state["disentangler.variation.bias"]
    return weight.squeeze(-1).float(), bias.float()


def gather_parts(
    chosen: pd.DataFrame, features: Shards, audio: Shards, split: ResidualSplit, phones: PhoneticEncoder
) -> dict[str, LabeledRows]:
    """Every representation of the chosen utterances by name: s of a row per second, the others of a row per frame.

    Targets are "speaker", by its place among the names in order, and, of frames, "phone".
    """
    number = {name: place for place, name in enumerate(sorted(set(chosen["speaker"])))}
    collected: dict[str, list[LabeledRows]] = defaultdict(list)
    for utt_id, name in zip(chosen["utt_id"], chosen["speaker"], strict=True):
        parts = split.of(torch.from_numpy(np.array(features[utt_id], dtype=np.float32)))
        phone = phones.posteriors(int16_to_float(np.array(audio[utt_id]))).argmax(dim=-1)
        count = min(len(parts["S"]), len(phone))
        cut = int(count * FITTED_SHARE)
        labels = {"speaker": torch.full((count,), number[name]), "phone": phone[:count]}
        for part, values in parts.items():
            collected[part].append(LabeledRows(values[:count], labels, torch.arange(count) < cut))
        for start, stop in ((0, cut), (cut, count)):
            seconds = second_means(parts["R"], start, stop)
            collected["s"].append(LabeledRows.alike(seconds, {"speaker": number[name]}, is_fitted=start < cut))
    return {part: LabeledRows.join(rows) for part, rows in collected.items()}


def probe_parts(parts: dict[str, LabeledRows]) -> pd.DataFrame:
    """One row per representation and target: the score of a linear probe, counts as floats."""
    rows = []
    for name, part in parts.items():
        for target in part.labels:
            score = linear_probe(part, target)
            rows.append(
                {
                    "representation": name,
                    "target": target,
                    "dim": part.values.shape[1],
                    "accuracy": score.accuracy,
                    "chance": score.chance_level,
                    "classes": float(score.num_classes),
                    "fitted_rows": float(score.num_fitted),
                    "tested_rows": float(score.num_tested),
                }
            )
    return pd.DataFrame(rows)


def principal_points(name: str, part: LabeledRows, chosen: pd.DataFrame) -> pd.DataFrame:
    """Rows evenly chosen, as points (x, y) in the two main directions of all rows, with their speakers."""
    centered = part.values - part.values.mean(dim=0)
    # the iterations start at random, from the generator that the last probe has seeded
    _, _, directions = torch.pca_lowrank(centered, q=2, center=False, niter=4)
    for axis in range(2):  # a direction's sign is arbitrary: its largest entry is made positive
        directions[:, axis] *= directions[directions[:, axis].abs().argmax(), axis].sign()
    rows = torch.arange(0, len(centered), max(1, len(centered) // POINTS))[:POINTS]
    points = (centered[rows] @ directions).numpy()
    names = sorted(set(chosen["speaker"]))
    speakers = [names[label] for label in part.labels["speaker"][rows].tolist()]
    return pd.DataFrame({"representation": name, "x": points[:, 0], "y": points[:, 1], "speaker": speakers})
