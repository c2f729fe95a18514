"""Train the key of retrieval: a phone head on Whisper's encoder, and a linear discriminant analysis (LDA) of the same states.

    python workflow/nano/train_key.py --speech labels --output assets/nano-key

A folder of labeled speech is what `label_speech.py` writes. The states of the layers, each normalized, are read once and kept in
memory as float16 (2,048 values a frame: 600 MB for an hour). The head is trained on crops of 0.64 s, with one torch thread unless
--threads says more; then accuracy on speakers that were held out is printed, and the model is written, float16.

Letters: ``T`` frames, ``D`` dimension of the states, ``P`` phones.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
import torch.nn.functional as F
from phones import PHONES
from safetensors.torch import save
from torch import Tensor

from bowerbird.artifacts.files import atomic_path, write_json
from bowerbird.audio import HOP, SAMPLE_RATE
from bowerbird.config.sections.features import FeaturesConfig
from bowerbird.encoders.extractors import FeatureExtractor
from bowerbird.encoders.phone_head import PhoneHead

CENTER = 200  # sample 320 i + 200 is the middle of frame i
UNKNOWN = -1
CROP, CROPS = 32, 32  # frames of a crop, crops of a step
RATE, WARMUP = 1.0e-3, 100
SMOOTHING = 0.05  # of the labels
SHRINKAGE = 1.0e-2  # of the covariance within phones, towards a multiple of the unit matrix


@dataclass(frozen=True)
class LabeledStates:
    """The states of all speech end to end, with the phone and the utterance of each frame."""

    states: Tensor  # (T, D) float16
    phones: Tensor  # (T,) int64, UNKNOWN outside the alignment
    utterances: np.ndarray  # (T,)


def read_states(folders: list[Path], extractor: FeatureExtractor) -> LabeledStates:
    """The states of the speech in ``folders``."""
    labels = sorted(path for folder in folders for path in folder.glob("*.json"))
    states, phones, utterances = [], [], []
    for number, path in enumerate(labels):
        wave = torch.from_numpy(soundfile.read(path.with_suffix(".flac"), dtype="float32")[0])
        states.append(extractor.extract(wave).half())
        phones.append(phones_of_frames(json.loads(path.read_text())["phones"], len(states[-1])))
        utterances.append(np.full(len(states[-1]), number))
        if number % 50 == 0:
            print(f"states of {number} of {len(labels)} utterances", flush=True)
    return LabeledStates(torch.cat(states), torch.cat(phones), np.concatenate(utterances))


def phones_of_frames(times: list[tuple[str, float, float]], frames: int) -> Tensor:
    """The number of the phone at the center of each frame, int64 ``(T,)``."""
    found = torch.full((frames,), UNKNOWN)
    for phone, start, end in times:
        if phone in PHONES:
            first, last = (int(np.ceil((second * SAMPLE_RATE - CENTER) / HOP)) for second in (start, end))
            found[max(0, first) : max(0, last)] = PHONES.index(phone)
    return found


def train_head(head: PhoneHead, speech: LabeledStates, steps: int, seed: int) -> None:
    """Cross-entropy with smoothed labels; the learning rate falls linearly to 0."""
    same = speech.utterances[:-CROP] == speech.utterances[CROP:]
    starts = np.flatnonzero(same)  # of crops within one utterance
    generator = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(head.parameters(), RATE)
    began = time.perf_counter()
    for step in range(1, steps + 1):
        optimizer.param_groups[0]["lr"] = RATE * min(1.0, step / WARMUP) * (1 - (step - 1) / steps)
        places = generator.choice(starts, CROPS)[:, None] + np.arange(CROP)
        logits = head(speech.states[places].float())
        target = speech.phones[places].flatten()
        loss = F.cross_entropy(logits.flatten(0, 1), target, ignore_index=UNKNOWN, label_smoothing=SMOOTHING)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 0:
            print(f"step {step} of {steps}: {float(loss):.3f}, {time.perf_counter() - began:.0f} s", flush=True)


@torch.no_grad()
def fit_discriminants(head: PhoneHead, speech: LabeledStates, frames: int = 80_000, seed: int = 0) -> None:
    """Directions in which phones differ most against their spread (Fisher 1936; Rao 1948), of a sample of the frames."""
    assert head.discriminants is not None
    known = torch.nonzero(speech.phones >= 0)[:, 0]
    chosen = known[torch.randperm(len(known), generator=torch.Generator().manual_seed(seed))[:frames]]
    states, phones = speech.states[chosen].double(), speech.phones[chosen]
    mean = states.mean(dim=0)
    present = phones.unique()
    centers = torch.stack([states[phones == phone].mean(dim=0) for phone in present])
    counts = torch.stack([(phones == phone).sum() for phone in present]).double()
    within = states - centers[torch.searchsorted(present, phones)]
    covariance = within.T @ within / len(states)
    covariance += SHRINKAGE * covariance.diagonal().mean() * torch.eye(len(covariance), dtype=torch.double)
    root = torch.linalg.cholesky(covariance)
    between = (centers - mean) * (counts / counts.sum()).sqrt()[:, None]
    whitened = torch.linalg.solve_triangular(root, between.T, upper=False)
    directions = torch.linalg.svd(whitened, full_matrices=False).U[:, : head.discriminants.out_features]
    projection = torch.linalg.solve_triangular(root.T, directions, upper=True)
    head.discriminants.weight.copy_(projection.T)
    head.discriminants.bias.copy_(-mean @ projection)


@torch.inference_mode()
def accuracy(head: PhoneHead, speech: LabeledStates) -> float:
    """Share of the labeled frames whose likeliest phone is theirs, utterance by utterance."""
    right = total = 0
    for number in np.unique(speech.utterances):
        rows = torch.from_numpy(np.flatnonzero(speech.utterances == number))
        known = speech.phones[rows] >= 0
        found = head(speech.states[rows].float()).argmax(dim=-1)
        right, total = right + int((found == speech.phones[rows])[known].sum()), total + int(known.sum())
    return right / total


def main() -> None:
    """Read the states, train, fit, measure where there is speech to measure on, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speech", type=Path, nargs="+", required=True, help="folders of labeled speech")
    parser.add_argument("--unheard", type=Path, nargs="*", default=[], help="folders to measure accuracy on")
    parser.add_argument("--output", type=Path, required=True, help="folder of the model")
    parser.add_argument("--encoder", default="whisper-base", help="what is below, as in `features`")
    parser.add_argument("--layers", type=int, nargs="+", default=[3, 4, 5, 6])
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--context", type=int, default=2, help="frames on each side")
    parser.add_argument("--discriminants", type=int, default=39)
    parser.add_argument("--key-layers", type=int, nargs="*", default=[4], help="whose states are part of the keys")
    parser.add_argument("--dropout", type=float, default=0.3)
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    below = {"kind": "phonetic", "encoder": options.encoder, "layers": options.layers}
    extractor = FeatureExtractor(FeaturesConfig(**below), key="--encoder")
    speech = read_states(options.speech, extractor)
    head = PhoneHead(
        extractor.dim, len(PHONES), options.hidden, options.context, options.discriminants, dropout=options.dropout
    )
    train_head(head, speech, options.steps, options.seed)
    head.eval()
    if options.discriminants:
        fit_discriminants(head, speech)
    print(f"accuracy on its own speech {accuracy(head, speech):.3f}")
    if options.unheard:
        print(f"accuracy on unheard speech {accuracy(head, read_states(options.unheard, extractor)):.3f}")
    sizes = {name: getattr(options, name) for name in ("hidden", "context", "discriminants")}
    write_json(
        options.output / "config.json", {**below, **sizes, "key_layers": options.key_layers, "phones": list(PHONES)}
    )
    with atomic_path(options.output / "model.safetensors") as temporary:
        temporary.write_bytes(save({name: tensor.half() for name, tensor in head.state_dict().items()}))


if __name__ == "__main__":
    main()
