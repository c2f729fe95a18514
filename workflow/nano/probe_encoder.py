"""Probe an encoder for what kNN-VC needs of it, on speakers that it was not trained on.

    python workflow/nano/probe_encoder.py --encoder src/bowerbird/assets/nano-encoder \\
        --corpus src/bowerbird/assets/demo DATA/librispeech-mini --cache alignments

A corpus is a folder with utterances.tsv (utt_id, speaker, split, path, text); its test split is used, with phone times
by forced alignment (pocketsphinx). Phones are compared at the center of each frame; silence is left out throughout.

* nn: for each frame and each *other* speaker, the share of frames whose nearest frame (cosine) of that speaker has the same
  phone. Frames of the same sentence are no candidates. Averaged over frames and pairs of speakers. Chance is "random".
* top4: the same for the four nearest frames, averaged: what kNN-VC retrieves.
* same spk: the nearest frame among all speakers (each with the same number of frames) is of the query's own speaker.
* linear phone, linear spk: accuracy of ridge regression to one-hot labels; phones of a left-out speaker,
  speakers on left-out utterances.
* mel dB: mean absolute error of a ridge regression to the 80-bin log-mel spectrogram of a left-out speaker, in dB;
  mel R2: its explained variance.

Letters: ``N`` samples, ``T`` frames, ``D`` dimensions of a feature.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
import torch.nn.functional as F
import torchaudio
from label_speech import align_speech, plain_words
from tables import read_split
from torch import Tensor
from transformers import WavLMModel

from bowerbird.audio import HOP, SAMPLE_RATE, int16_to_float
from bowerbird.encoders.extractors import FeatureExtractor
from bowerbird.encoders.phone_head import PhoneReader

WINDOW = 400  # samples that a frame of the encoder reads
FRAMES_PER_SPEAKER = 2500
RIDGE = 1e-2


@dataclass(frozen=True)
class Utterance:
    """Speech, and the phone of each of its frames."""

    speaker: str
    text: str
    wave: Tensor  # (N,)
    phones: list[str | None]  # per frame, None where unknown


@dataclass(frozen=True)
class Frames:
    """Labeled frames of a whole corpus. Phone, speaker, sentence and utterance are numbers, ``(T,)``."""

    phone: Tensor
    speaker: Tensor
    sentence: Tensor
    utterance: Tensor
    mel: Tensor  # (T, 80), dB
    features: dict[str, Tensor]  # name -> (T, D)


def load_corpus(root: Path, cache: Path | None) -> list[Utterance]:
    """The test split with its phones; alignments are kept in `cache` if given."""
    rows = read_split(root, "test")
    utterances = []
    for row in rows:
        samples = soundfile.read(root / row["path"], dtype="int16")[0]
        text = plain_words(row["text"])
        stored = cache / f"{row['utt_id']}.json" if cache else None
        if stored and stored.exists():
            times = json.loads(stored.read_text())
        else:
            try:
                times = align_speech(samples, text)
            except RuntimeError:  # a word without pronunciation, or speech that does not fit
                times = []
            if stored:
                stored.parent.mkdir(parents=True, exist_ok=True)
                stored.write_text(json.dumps(times))
        if times:
            wave = torch.from_numpy(int16_to_float(samples))
            phones = phones_of_frames(times, 1 + (len(samples) - WINDOW) // HOP)
            utterances.append(Utterance(row["speaker"], text, wave, phones))
    print(f"\n{root.name}: {len(utterances)} of {len(rows)} utterances aligned, the others are left out")
    return utterances


def phones_of_frames(times: list[tuple[str, float, float]], frames: int) -> list[str | None]:
    """The phone at the center of each frame; None outside the alignment and in silence."""
    phones: list[str | None] = [None] * frames
    for phone, start, end in times:
        first, last = ((second * SAMPLE_RATE - WINDOW / 2) / HOP for second in (start, end))
        for frame in range(max(0, int(np.ceil(first))), min(frames, int(np.ceil(last)))):
            phones[frame] = None if phone in ("SIL", "?") else phone
    return phones


def log_mel(wave: Tensor, size: int = 1024, mels: int = 80) -> Tensor:
    """Log-mel spectrogram ``(T, mels)`` in dB of ``(N,)``, centered where the encoder's frames are."""
    spectrogram = torchaudio.transforms.MelSpectrogram(SAMPLE_RATE, size, size, HOP, n_mels=mels, center=False, power=2)
    side = (size - WINDOW) // 2
    frames = 1 + (len(wave) - WINDOW) // HOP
    return 10 * spectrogram(F.pad(wave, (side, side + HOP)))[:, :frames].clamp_min(1e-8).log10().T


def mfcc(wave: Tensor) -> Tensor:
    """13 MFCC of ``(N,)`` and their deltas ``(T, 26)``, normalized to mean 0 and variance 1 over the utterance."""
    basis = torchaudio.functional.create_dct(13, 40, "ortho")
    cepstrum = (log_mel(wave, WINDOW, 40) @ basis).T
    both = torch.cat([cepstrum, torchaudio.functional.compute_deltas(cepstrum)]).T
    return (both - both.mean(0)) / (both.std(0) + 1e-5)


def encoder_layers(model: WavLMModel, wave: Tensor) -> Tensor:
    """Hidden states ``(layers + 1, T, D)`` of a waveform ``(N,)``."""
    with torch.inference_mode():
        return torch.stack(model(wave[None], output_hidden_states=True).hidden_states)[:, 0]


def gather(
    utterances: list[Utterance], model: WavLMModel, others: Mapping[str, FeatureExtractor] | None = None, seed: int = 0
) -> Frames:
    """Features of the labeled frames, at most `FRAMES_PER_SPEAKER` per speaker, drawn at random; ``others`` by name."""
    extractors: dict[str, Callable[[Tensor], Tensor]] = {"log-mel": log_mel, "MFCC+deltas": mfcc}
    extractors |= {name: extractor.extract for name, extractor in (others or {}).items()}
    columns: dict[str, list[Tensor]] = {name: [] for name in ("phone", "speaker", "sentence", "utterance", "mel")}
    features: dict[str, list[Tensor]] = {}
    phones = sorted({phone for utterance in utterances for phone in utterance.phones if phone})
    speakers = sorted({utterance.speaker for utterance in utterances})
    texts = sorted({utterance.text for utterance in utterances})
    for number, utterance in enumerate(utterances):
        kept = torch.tensor([index for index, phone in enumerate(utterance.phones) if phone])
        columns["phone"].append(torch.tensor([phones.index(phone) for phone in utterance.phones if phone]))
        columns["speaker"].append(torch.full((len(kept),), speakers.index(utterance.speaker)))
        columns["sentence"].append(torch.full((len(kept),), texts.index(utterance.text)))
        columns["utterance"].append(torch.full((len(kept),), number))
        columns["mel"].append(log_mel(utterance.wave)[kept])
        found = {name: extract(utterance.wave) for name, extract in extractors.items()}
        found |= {f"layer {index}": state for index, state in enumerate(encoder_layers(model, utterance.wave))}
        for name, value in found.items():
            features.setdefault(name, []).append(value[kept].float())
    whole = {name: torch.cat(parts) for name, parts in columns.items()}
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(whole["phone"]), generator=generator)
    drawn = torch.cat([order[whole["speaker"][order] == index][:FRAMES_PER_SPEAKER] for index in range(len(speakers))])
    table = {name: torch.cat(parts)[drawn] for name, parts in features.items()}
    table["log-mel"] = (table["log-mel"] - table["log-mel"].mean(0)) / table["log-mel"].std(0)
    table["random"] = torch.randn(len(drawn), 64, generator=generator)
    return Frames(**{name: value[drawn] for name, value in whole.items()}, features=table)


def measure_retrieval(frames: Frames, feature: Tensor) -> tuple[float, float, float]:
    """`nn`, `top4` and `same spk` of a feature ``(T, D)``, as in the module's docstring."""
    unit = F.normalize(feature, dim=1)
    nearest, four, own = [], [], []
    speakers = frames.speaker.unique().tolist()
    smallest = min(int((frames.speaker == speaker).sum()) for speaker in speakers)
    for source in speakers:
        query = torch.nonzero(frames.speaker == source).squeeze(1)
        similarity = unit[query] @ unit.T
        similarity[frames.sentence[query][:, None] == frames.sentence[None]] = -2
        best = []
        for target in speakers:
            pool = torch.nonzero(frames.speaker == target).squeeze(1)
            best.append(similarity[:, pool[:smallest]].amax(1))
            if target != source:
                found = pool[similarity[:, pool].topk(4, dim=1).indices]
                same = (frames.phone[found] == frames.phone[query][:, None]).float()
                nearest.append(same[:, 0].mean())
                four.append(same.mean())
        own.append((torch.stack(best).argmax(0) == speakers.index(source)).float().mean())
    at_one, at_four, own_share = (float(torch.stack(values).mean()) for values in (nearest, four, own))
    return at_one, at_four, own_share


def ridge(feature: Tensor, target: Tensor, train: Tensor) -> Tensor:
    """Predictions for the other frames of a ridge regression fitted on the frames of the mask `train` ``(T,)``.

    ``feature`` (T, D), ``target`` (T, targets).
    """
    mean, scale = feature[train].mean(0), feature[train].std(0) + 1e-6
    inputs = F.pad((feature - mean) / scale, (0, 1), value=1.0).double()
    fitted, wanted = inputs[train], target[train].double()
    gram = fitted.T @ fitted + RIDGE * len(fitted) * torch.eye(inputs.shape[1], dtype=torch.double)
    return (inputs[~train] @ torch.linalg.solve(gram, fitted.T @ wanted)).float()


def linear_probes(frames: Frames, feature: Tensor) -> tuple[float, float, float, float]:
    """`linear phone`, `linear spk`, `mel dB` and `mel R2` of a feature ``(T, D)``."""
    phones = F.one_hot(frames.phone).float()
    speakers = F.one_hot(frames.speaker).float()
    accuracies, errors, residual, variance = [], [], 0.0, 0.0
    for speaker in frames.speaker.unique():
        train = frames.speaker != speaker
        predicted = ridge(feature, torch.cat([phones, frames.mel], dim=1), train)
        guess, mel = predicted[:, : phones.shape[1]].argmax(1), predicted[:, phones.shape[1] :]
        truth = frames.mel[~train]
        accuracies.append((guess == frames.phone[~train]).float().mean())
        errors.append((mel - truth).abs().mean())
        residual += float((mel - truth).square().sum())
        variance += float((truth - truth.mean(0)).square().sum())
    train = frames.utterance % 2 == 0
    known = (ridge(feature, speakers, train).argmax(1) == frames.speaker[~train]).float().mean()
    return (
        float(torch.stack(accuracies).mean()),
        float(known),
        float(torch.stack(errors).mean()),
        1 - residual / variance,
    )


def print_corpus(name: str, frames: Frames, phones: list[str], head: PhoneReader | None) -> None:
    """Print the table of a corpus, one row per feature; ``phones`` are the names of its phones in order."""
    speakers = len(frames.speaker.unique())
    print(f"\n{name}: {speakers} speakers, {len(frames.phone)} frames, {len(phones)} phones")
    print(f"{'feature':12s} {'dim':>4s}     nn   top4  same spk  linear phone  linear spk  mel dB  mel R2")
    for feature, value in frames.features.items():
        near, four, own = measure_retrieval(frames, value)
        phone, speaker, error, explained = linear_probes(frames, value)
        print(
            f"{feature:12s} {value.shape[1]:4d}  {near:5.1%}  {four:5.1%}     {own:5.1%}         {phone:5.1%}"
            f"       {speaker:5.1%}   {error:5.2f}   {explained:5.2f}"
        )
    if head is not None:
        guess = head.posteriors(frames.features[f"layer {head.below.layer}"]).argmax(1).tolist()
        pairs = zip(guess, frames.phone.tolist(), strict=True)
        accuracy = float(np.mean([head.phones[g] == phones[t] for g, t in pairs]))
        print(f"phone head on layer {head.below.layer}: frame accuracy {accuracy:.1%}")


def real_time_factor(model: WavLMModel, layers: int | None, duration_s: float = 10.0, runs: int = 5) -> float:
    """Seconds that the first `layers` layers (None: all) take per second of speech, the median of `runs`."""
    wave = 0.1 * torch.randn(1, int(duration_s * SAMPLE_RATE), generator=torch.Generator().manual_seed(0))
    every = model.encoder.layers
    model.encoder.layers = every[:layers] if layers else every
    times = []
    with torch.inference_mode():
        for _ in range(runs + 1):
            begin = time.perf_counter()
            model(wave)
            times.append(time.perf_counter() - begin)
    model.encoder.layers = every
    return float(np.median(times[1:])) / duration_s


def print_invariances(model: WavLMModel, utterances: list[Utterance], layer: int) -> None:
    """Print how far gain and noise move the features of a layer: the mean cosine with those of the clean speech."""
    noise = torch.Generator().manual_seed(0)
    rows: dict[str, list[Tensor]] = {}
    for utterance in utterances[:: max(1, len(utterances) // 8)]:
        wave = utterance.wave
        hiss = torch.randn(len(wave), generator=noise) * wave.square().mean().sqrt()
        plain = encoder_layers(model, wave)[layer]
        changed = {"gain -20 dB": 0.1 * wave, "gain +6 dB": 2 * wave, "noise 20 dB SNR": wave + 0.1 * hiss}
        for name, other in changed.items():
            cosine = F.cosine_similarity(plain, encoder_layers(model, other)[layer], dim=1)
            rows.setdefault(name, []).append(cosine.mean())
    print("\nmean cosine with the unchanged features of layer", layer)
    for name, values in rows.items():
        print(f"{name:16s} {float(torch.stack(values).mean()):.3f}")


def main() -> None:
    """Load the encoder, print its size and speed, then one table per corpus."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", type=Path, required=True, help="WavLM directory")
    parser.add_argument("--corpus", type=Path, nargs="+", required=True, help="folders with utterances.tsv")
    parser.add_argument("--head", type=Path, help="folder of the linear phone head (default: nano-phones beside it)")
    parser.add_argument("--cache", type=Path, help="folder that keeps the alignments")
    options = parser.parse_args()
    if not (options.encoder / "config.json").exists():
        parser.error(f"{options.encoder}: no config.json there")
    torch.set_num_threads(1)
    model = WavLMModel.from_pretrained(options.encoder, dtype=torch.float32).eval()
    folder = options.head or options.encoder.parent / "nano-phones"
    head = PhoneReader.load(str(folder), "--head") if (folder / "config.json").exists() else None
    layer = head.below.layer if head else model.config.num_hidden_layers
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"{parameters / 1e6:.2f} M parameters, hidden {model.config.hidden_size}, layer {layer}")
    some, every = real_time_factor(model, layer), real_time_factor(model, None)
    print(f"RTF on one core: layer {layer} {some:.4f}, all {every:.4f}")
    for number, root in enumerate(options.corpus):
        utterances = load_corpus(root, options.cache / root.name if options.cache else None)
        if number == 0:
            print_invariances(model, utterances, layer)
        phones = sorted({phone for utterance in utterances for phone in utterance.phones if phone})
        print_corpus(root.name, gather(utterances, model), phones, head)


if __name__ == "__main__":
    main()
