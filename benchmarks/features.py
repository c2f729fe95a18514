"""How fast is feature extraction: one by one, batched, several utterances at once, and as `transformers` does it?

    python benchmarks/features.py --layer 3
    python benchmarks/features.py --encoder microsoft/wavlm-large --layer 6 --device cuda --utterances 200

Prints seconds of speech per second, the ratio to one by one, and the largest difference of any value from one by one
(after rounding to float16 as on disk, whose step is 2.0e-03 for values of 2 to 4 and 3.9e-03 for those of 4 to 8).
`transformers, padded` pads a batch with zeros, gives the model an attention mask, runs all layers and takes
`hidden_states[layer]`: with a front end of group normalization (base models) its features depend on the batch. Such a
model is made where `--shape base` is given; its weights are random, which changes no time.

Letters: ``T`` frames, ``D`` feature dimension, ``N`` samples.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from bowerbird.audio import SAMPLE_RATE
from bowerbird.config.sections.features import FeaturesConfig
from bowerbird.encoders.extractors import FeatureExtractor

Features = list[np.ndarray]  # (T, D) float16 of each wave
Extraction = Callable[[Sequence[Tensor]], Features]  # of waves (N,)


def main() -> None:
    """Extract with every method, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="bundled:nano-encoder")
    parser.add_argument("--shape", choices=["base", "large"], help="a small random model of this shape instead")
    parser.add_argument("--layer", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--utterances", type=int, default=24)
    parser.add_argument("--batch-s", type=float, default=60.0)
    parser.add_argument("--threads", type=int, default=2, help="of the row with several threads (CPU)")
    parser.add_argument("--repeats", type=int, default=3, help="the fastest counts")
    options = parser.parse_args()
    torch.set_num_threads(1)
    waves = noise_waves(options.utterances)
    speech_s = sum(map(len, waves)) / SAMPLE_RATE
    with tempfile.TemporaryDirectory() as folder:
        encoder = make_model(options.shape, folder) if options.shape else options.encoder
        extractor = FeatureExtractor(FeaturesConfig(encoder=encoder, layer=options.layer), options.device)
        print(f"{options.shape or encoder}, layer {options.layer}, {options.device}: {speech_s:.0f} s of speech")
        results = {name: fastest(run, waves, options.repeats) for name, run in methods(extractor, options)}
    reference, reference_s = results["one by one"]
    print(f"{'method':<24}{'speech s / s':>13}{'ratio':>8}{'difference':>12}")
    for name, (features, seconds) in results.items():
        far = max(float(np.abs(a.astype(np.float32) - b).max()) for a, b in zip(features, reference, strict=True))
        print(f"{name:<24}{speech_s / seconds:>13.1f}{reference_s / seconds:>8.2f}{far:>12.1e}")


def noise_waves(count: int) -> list[Tensor]:
    """Noise of 1 to 8 s, ``(N,)`` each."""
    rng = np.random.default_rng(0)
    return [
        torch.from_numpy(0.1 * rng.standard_normal(int(SAMPLE_RATE * seconds)).astype(np.float32))
        for seconds in rng.uniform(1, 8, count)
    ]


def methods(extractor: FeatureExtractor, options: argparse.Namespace) -> list[tuple[str, Extraction]]:
    """Every method by name."""

    def with_batches(batch_s: float) -> Extraction:
        def run(waves: Sequence[Tensor]) -> Features:
            extractor.batch_s = batch_s
            return extractor.extract_batch(waves)

        return run

    def threaded(waves: Sequence[Tensor]) -> Features:
        extractor.batch_s = 0.0
        with ThreadPoolExecutor(options.threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return [features for (features,) in pool.map(lambda wave: extractor.extract_batch([wave]), waves)]

    found = [("one by one", with_batches(0.0)), (f"batched, {options.batch_s:.0f} s", with_batches(options.batch_s))]
    if options.device == "cpu":
        found.append((f"{options.threads} threads, one by one", threaded))
    return [*found, ("transformers, padded", by_transformers(extractor, options))]


def by_transformers(extractor: FeatureExtractor, options: argparse.Namespace) -> Extraction:
    """The usual way: `AutoModel`, zeros up to the longest, `hidden_states[layer]`."""
    from transformers import AutoModel

    model = AutoModel.from_pretrained(extractor.checkpoint.folder, dtype=torch.float32).eval().to(options.device)

    @torch.inference_mode()
    def run(waves: Sequence[Tensor]) -> Features:
        found: Features = []
        size = max(1, int(options.batch_s * SAMPLE_RATE / max(map(len, waves))))
        for start in range(0, len(waves), size):
            batch = waves[start : start + size]
            padded = torch.nn.utils.rnn.pad_sequence(list(batch), batch_first=True).to(options.device)
            mask = torch.arange(padded.shape[1])[None] < torch.tensor([[len(w)] for w in batch])
            hidden = model(padded, attention_mask=mask.to(options.device), output_hidden_states=True).hidden_states
            layer = hidden[options.layer].half().cpu().numpy()
            found += [h[: extractor.num_frames(len(w))] for h, w in zip(layer, batch, strict=True)]
        return found

    return run


def make_model(shape: str, folder: str) -> str:
    """The folder of a random WavLM of base (group normalization) or large (layer normalization) shape, a third of the width."""
    from transformers import WavLMConfig, WavLMModel

    large = shape == "large"
    config = WavLMConfig(
        hidden_size=256,
        intermediate_size=1024,
        num_hidden_layers=6,
        num_attention_heads=4,
        conv_dim=(128,) * 7,
        feat_extract_norm="layer" if large else "group",
        do_stable_layer_norm=large,
        conv_bias=large,
    )
    torch.manual_seed(0)
    WavLMModel(config).save_pretrained(folder)
    return folder


def fastest(run: Extraction, waves: Sequence[Tensor], repeats: int) -> tuple[Features, float]:
    """Features and seconds of the fastest of some runs, after one to warm up."""
    run(waves[:2])
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        features = run(waves)
        best = min(best, time.perf_counter() - start)
    return features, best


if __name__ == "__main__":
    main()
