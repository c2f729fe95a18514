"""How much silence does Whisper need after the speech?

    python benchmarks/recognizer.py --data /path/to/librispeech-mini

Prints the word error rate, the insertions and the time of each rule of padding: seconds of silence behind the speech, and the length
that a window has at least. Times are shares of the full window's, of one run. A text that repeats itself is read again in the full
window. Two lists: the recordings of the test speakers, and the same with noise 3 dB below the speech.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bowerbird.audio import SAMPLE_RATE, read_audio
from bowerbird.encoders import whisper
from bowerbird.encoders.recognizer import load_recognizer
from bowerbird.metrics.intelligibility import count_errors, load_normalizer

RULES = ((30, 30), (2, 0), (5, 0), (5, 12), (5, 20))  # seconds of silence, and of the shortest window


def with_noise(wave: np.ndarray, seed: int) -> np.ndarray:
    """``wave (N,)`` with low-passed noise 3 dB below it."""
    noise = np.convolve(np.random.default_rng(seed).standard_normal(len(wave)), [1, 0.9, 0.8, 0.6, 0.3], "same")
    scale = np.sqrt(np.square(wave).mean() / np.square(noise).mean()) * 10 ** (-3 / 20)
    return (wave + scale * noise).astype(np.float32)


def measure(recognizer: whisper.Whisper, waves: Sequence[np.ndarray], texts: Sequence[str]) -> tuple[float, int, float]:
    """WER in percent, insertions, and seconds per utterance."""
    normalize = load_normalizer("whisper-english")
    started = time.perf_counter()
    recognized = recognizer.transcribe(waves, "en")
    seconds = (time.perf_counter() - started) / len(waves)
    counts = [count_errors(normalize(text), normalize(found)) for text, found in zip(texts, recognized, strict=True)]
    errors, words = (sum(getattr(count, name) for count in counts) for name in ("errors", "length"))
    return 100 * errors / words, sum(count.insertions for count in counts), seconds


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with utterances.tsv")
    options = parser.parse_args()
    with open(options.data / "utterances.tsv", newline="", encoding="utf-8") as handle:
        rows = [row for row in csv.DictReader(handle, delimiter="\t") if row["split"] == "test"]
    waves = [read_audio(options.data / row["path"]) for row in rows]
    texts = [row["text"] for row in rows]
    recognizer = load_recognizer("whisper-base")
    assert isinstance(recognizer, whisper.Whisper)
    print(recognizer.describe().model)
    print(f"{'speech':<12} {'silence s':>9} {'window s':>9} {'WER %':>7} {'insertions':>10} {'time':>6}")
    for name, speech in (("recordings", waves), ("noise", [with_noise(wave, n) for n, wave in enumerate(waves)])):
        full = 0.0
        for silence, window in RULES:
            whisper.SILENCE, whisper.SHORTEST_WINDOW = silence * SAMPLE_RATE, window * SAMPLE_RATE
            rate, insertions, seconds = measure(recognizer, speech, texts)
            full = full or seconds
            print(
                f"{name:<12} {silence:>9} {window:>9} {rate:>7.1f} {insertions:>10} {seconds / full:>6.2f}", flush=True
            )


if __name__ == "__main__":
    main()
