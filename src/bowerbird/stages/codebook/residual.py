"""What the quantization residual holds: linear probes for speaker and phone on every part of QR-VC's split.

    S   the features               Q   the nearest centroid of each frame          R   S - Q
    s   mean R of one second       V   R less its utterance's mean                 v   V through a trained bottleneck

A probe is multinomial logistic regression on standardised inputs. It is fitted on the first two thirds of each utterance and
tested on the last third, so the speakers are the same and the words are not. Phones are those that a phonetic encoder
hears in S: where its layer is the one that was quantized, S is read as its own training intended (an upper bound).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from bowerbird.artifacts.identity import Identity, RunRecord, inputs_digest
from bowerbird.artifacts.shards import Shards
from bowerbird.artifacts.tables import read_table, write_table
from bowerbird.audio import int16_to_float
from bowerbird.config.sections.runtime import RuntimeConfig
from bowerbird.encoders.extractors import PhoneticEncoder
from bowerbird.errors import BowerbirdError
from bowerbird.nn.quantizer import Quantizer

SEGMENT = 50  # frames of one s


FITTED = 2 / 3  # of each utterance


PICTURE = 600  # points of each picture


NO_MODEL = ""


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Part:
    """Rows of one representation: values ``(rows, dim)``, labels by target, and which rows are for fitting."""

    values: Tensor
    labels: Mapping[str, Tensor]
    fitting: Tensor


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
    model: str = NO_MODEL,
) -> None:
    """Probe a codebook's residual on speech of the training split; ``model`` is a QR-VC's folder, for v.

    Writes ``output``: a row for each representation and target, with accuracy, chance (the commonest class) and counts; and
    ``pca.parquet`` beside it: places in two principal components, with their labels.
    """
    from bowerbird.artifacts.codebook import Codebook
    from bowerbird.stages.codebook import VERSION

    torch.set_num_threads(runtime.threads)
    params = {
        "assignment": assignment,
        "phonetic": phonetic,
        "speakers": speakers,
        "utterances_per_speaker": utterances_per_speaker,
    }
    inputs = {"manifest": [manifest], "codebook": [codebook], "features": features, "audio": audio}
    if model:
        inputs["model"] = [Path(model) / "model.safetensors"]
    identity = Identity("codebook.residual", VERSION, params, {role: inputs_digest(p) for role, p in inputs.items()})
    with RunRecord() as record:
        book = torch.from_numpy(Codebook.load(codebook).centroids)
        chosen = choose_utterances(manifest, Shards(features), speakers, utterances_per_speaker)
        parts = gather(chosen, Shards(features), Shards(audio, "num_samples"), book, assignment, phonetic, model)
        rows = [
            {"representation": name, "target": target, "dim": part.values.shape[1], **probe(part, target)}
            for name, part in parts.items()
            for target in part.labels
        ]
        share = float(parts["R"].values.square().sum() / parts["S"].values.square().sum())
        facts = {"codes": len(book), "residual_energy": round(share, 5), "utterances": len(chosen)}
        record.extra["facts"] = facts
        names = sorted(set(chosen["speaker"]))
        pictures = [picture(name, parts[name], names) for name in ("s", "R", "Q")]
        write_table(output.with_name("pca.parquet"), pd.concat(pictures, ignore_index=True), identity)
        record.write(output.with_name("pca.parquet"), identity)
        record.write(output, identity)
        write_table(output, pd.DataFrame(rows), identity, extra={"facts": facts})
    logger.info("%d codes: the residual holds %.1f %% of the features' energy", len(book), 100 * share)


def choose_utterances(manifest: Path, features: Shards, speakers: int, each: int) -> pd.DataFrame:
    """The first ``each`` utterances of the first ``speakers`` speakers of the training split, by name."""
    table = read_table(manifest, ["utt_id", "speaker", "split"]).sort_values("utt_id")
    table = table[(table["split"] == "train") & table["utt_id"].map(lambda utt_id: utt_id in features)]
    kept = table[table["speaker"].isin(sorted(set(table["speaker"]))[:speakers])]
    chosen = kept.groupby("speaker").head(each)
    if chosen["speaker"].nunique() < 2:
        raise BowerbirdError(f"{manifest}: fewer than two speakers of split train have features; nothing to tell apart")
    return chosen


def gather(
    chosen: pd.DataFrame,
    features: Shards,
    audio: Shards,
    book: Tensor,
    assignment: str,
    phonetic: str,
    model: str,
) -> dict[str, Part]:
    """Every representation of the chosen utterances, frame by frame (s: second by second)."""
    quantizer, phones = Quantizer(book, assignment), PhoneticEncoder(phonetic)
    bottleneck = _bottleneck(model)
    collected: dict[str, list[Tensor]] = {}
    number = {name: place for place, name in enumerate(sorted(set(chosen["speaker"])))}
    for utt_id, speaker in zip(chosen["utt_id"], chosen["speaker"], strict=True):
        s = torch.from_numpy(np.array(features[utt_id], dtype=np.float32))
        q, _ = quantizer(s)
        r = s - q
        heard = phones.posteriors(int16_to_float(np.array(audio[utt_id]))).argmax(dim=-1)
        count = min(len(s), len(heard))
        cut = int(count * FITTED)
        frames = {"S": s, "Q": q, "R": r, "V": r - r.mean(dim=0)}
        if bottleneck is not None:
            frames["v"] = F.linear(frames["V"], *bottleneck)
        for name, values in frames.items():
            collected.setdefault(name, []).append(values[:count])
        collected.setdefault("phone", []).append(heard[:count])
        collected.setdefault("speaker", []).append(torch.full((count,), number[speaker]))
        collected.setdefault("fitting", []).append(torch.arange(count) < cut)
        for start, stop, fitting in ((0, cut, True), (cut, count, False)):
            seconds = [r[a : a + SEGMENT].mean(dim=0) for a in range(start, stop - SEGMENT // 2, SEGMENT)]
            collected.setdefault("s", []).extend(x[None] for x in seconds)
            collected.setdefault("s speaker", []).append(torch.full((len(seconds),), number[speaker]))
            collected.setdefault("s fitting", []).append(torch.full((len(seconds),), fitting))
    joined = {name: torch.cat(pieces) for name, pieces in collected.items()}
    labels = {"speaker": joined["speaker"], "phone": joined["phone"]}
    parts: dict[str, Part] = {
        n: Part(joined[n], labels, joined["fitting"]) for n in ("S", "Q", "R", "V", "v") if n in joined
    }
    parts["s"] = Part(joined["s"], {"speaker": joined["s speaker"]}, joined["s fitting"])
    return parts


def _bottleneck(model: str) -> tuple[Tensor, Tensor] | None:
    """Weight ``(channels, dim)`` and bias of a trained QR-VC's speaking variation."""
    if not model:
        return None
    state = load_file(Path(model) / "model.safetensors")
    if "disentangler.variation.weight" not in state:
        raise BowerbirdError(f"--model: {model}: has no bottleneck of speaking variation (variation_dim: 0?)")
    return state["disentangler.variation.weight"].squeeze(-1), state["disentangler.variation.bias"]


def probe(part: Part, target: str, steps: int = 150) -> dict[str, float]:
    """Accuracy of a linear probe for ``target`` on the rows that it was not fitted on."""
    labels = part.labels[target]
    fit, test = part.fitting, ~part.fitting
    mean, scale = part.values[fit].mean(dim=0), part.values[fit].std(dim=0).clamp_min(1e-6)
    x = (part.values - mean) / scale
    classes = int(labels.max()) + 1
    torch.manual_seed(0)
    layer = torch.nn.Linear(x.shape[1], classes)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.02, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(layer(x[fit]), labels[fit]).backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        right = (layer(x[test]).argmax(dim=-1) == labels[test]).float().mean()
    commonest = torch.bincount(labels[fit], minlength=classes).argmax()
    return {
        "accuracy": float(right),
        "chance": float((labels[test] == commonest).float().mean()),
        "classes": float(len(labels.unique())),
        "fitted_rows": float(fit.sum()),
        "tested_rows": float(test.sum()),
    }


def picture(name: str, part: Part, speakers: list[str]) -> pd.DataFrame:
    """Rows evenly chosen, at their places in the two main directions of all rows."""
    centred = part.values - part.values.mean(dim=0)
    _, _, directions = torch.pca_lowrank(centred, q=2, center=False, niter=4)
    for axis in range(2):  # a direction's sign is arbitrary: its largest entry is positive
        directions[:, axis] *= directions[directions[:, axis].abs().argmax(), axis].sign()
    rows = torch.arange(0, len(centred), max(1, len(centred) // PICTURE))[:PICTURE]
    places = (centred[rows] @ directions).numpy()
    labels = [speakers[number] for number in part.labels["speaker"][rows].tolist()]
    return pd.DataFrame({"representation": name, "x": places[:, 0], "y": places[:, 1], "speaker": labels})
