"""Which recognizer errs less, and how much of its window does each one need?

    python benchmarks/recognizer.py --data /path/to/librispeech-mini

Three lists of speech: the recordings of the test speakers, the same with noise 3 dB below the speech, and all recordings of a
speaker joined, a minute or more. Prints three tables of word error rates and insertions:

* whisper-base beside moonshine-base, the latter where it is in the cache (`workflow/fetch_moonshine`); time in seconds per second
  of speech, on one thread, of one run;
* rules of padding for Whisper: seconds of silence behind the speech, and the length that a window has at least. Times are shares of
  the full window's. A text that repeats itself is read again in the full window;
* windows of Moonshine: longer speech is cut at pauses.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bowerbird.audio import SAMPLE_RATE, read_audio
from bowerbird.encoders import moonshine, whisper
from bowerbird.encoders.recognizer import load_recognizer
from bowerbird.encoders.recognizer_base import Recognizer
from bowerbird.errors import BowerbirdError
from bowerbird.metrics.intelligibility import count_errors, load_normalizer

RULES = ((30, 30), (2, 0), (5, 0), (5, 12), (5, 20))  # seconds of silence, and of Whisper's shortest window
WINDOWS = (10, 15, 20, 30, 40)  # seconds, of Moonshine
Speech = list[tuple[np.ndarray, str]]  # waves (N,) and their words


def with_noise(wave: np.ndarray, seed: int) -> np.ndarray:
    """``wave (N,)`` with low-passed noise 3 dB below it."""
    noise = np.convolve(np.random.default_rng(seed).standard_normal(len(wave)), [1, 0.9, 0.8, 0.6, 0.3], "same")
    scale = np.sqrt(np.square(wave).mean() / np.square(noise).mean()) * 10 ** (-3 / 20)
    return (wave + scale * noise).astype(np.float32)


def read_speech(folder: Path) -> dict[str, Speech]:
    """The three lists by name."""
    with open(folder / "utterances.tsv", newline="", encoding="utf-8") as handle:
        rows = [row for row in csv.DictReader(handle, delimiter="\t") if row["split"] == "test"]
    recordings = [(read_audio(folder / row["path"]), row["text"]) for row in rows]
    speakers: dict[str, Speech] = defaultdict(list)
    for row, recording in zip(rows, recordings, strict=True):
        speakers[row["speaker"]].append(recording)
    return {
        "recordings": recordings,
        "noise": [(with_noise(wave, number), text) for number, (wave, text) in enumerate(recordings)],
        "joined": [
            (np.concatenate([wave for wave, _ in said]), " ".join(text for _, text in said))
            for said in speakers.values()
        ],
    }


def measure(recognizer: Recognizer, speech: Speech) -> tuple[float, int, float]:
    """WER in percent, insertions, and seconds per second of speech."""
    normalize = load_normalizer("whisper-english")
    started = time.perf_counter()
    recognized = recognizer.transcribe([wave for wave, _ in speech], "en")
    seconds = (time.perf_counter() - started) / sum(len(wave) / SAMPLE_RATE for wave, _ in speech)
    counts = [count_errors(normalize(text), normalize(found)) for (_, text), found in zip(speech, recognized)]
    errors, words = (sum(getattr(count, name) for count in counts) for name in ("errors", "length"))
    return 100 * errors / words, sum(count.insertions for count in counts), seconds


def compare_recognizers(recognizers: Sequence[Recognizer], lists: dict[str, Speech]) -> None:
    """Print the first table, and what the recognizers are."""
    for recognizer in recognizers:
        print(recognizer.describe().model)
    print(f"\n{'speech':<12} {'recognizer':<16} {'WER %':>7} {'insertions':>10} {'s per s':>8}")
    for name, speech in lists.items():
        for recognizer in recognizers:
            rate, insertions, seconds = measure(recognizer, speech)
            model = recognizer.describe().model.split()[0]
            print(f"{name:<12} {model:<16} {rate:>7.1f} {insertions:>10} {seconds:>8.3f}", flush=True)


def compare_rules(recognizer: Recognizer, lists: dict[str, Speech]) -> None:
    """Print Whisper's table."""
    print(f"\n{'speech':<12} {'silence s':>9} {'window s':>9} {'WER %':>7} {'insertions':>10} {'time':>6}")
    for name in ("recordings", "noise"):
        full = 0.0
        for silence, window in RULES:
            whisper.SILENCE, whisper.SHORTEST_WINDOW = silence * SAMPLE_RATE, window * SAMPLE_RATE
            rate, insertions, seconds = measure(recognizer, lists[name])
            full = full or seconds
            print(
                f"{name:<12} {silence:>9} {window:>9} {rate:>7.1f} {insertions:>10} {seconds / full:>6.2f}", flush=True
            )


def compare_windows(recognizer: Recognizer, speech: Speech) -> None:
    """Print Moonshine's table."""
    print(f"\n{'speech':<12} {'window s':>9} {'WER %':>7} {'insertions':>10}")
    for window in WINDOWS:
        moonshine.WINDOW = window * SAMPLE_RATE
        rate, insertions, _ = measure(recognizer, speech)
        print(f"{'joined':<12} {window:>9} {rate:>7.1f} {insertions:>10}", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with utterances.tsv")
    options = parser.parse_args()
    lists = read_speech(options.data)
    recognizers = [load_recognizer("whisper-base")]
    try:
        recognizers.append(load_recognizer("moonshine-base"))
    except BowerbirdError as error:
        print(f"without moonshine-base: {error}")
    compare_recognizers(recognizers, lists)
    compare_rules(recognizers[0], lists)
    for recognizer in recognizers[1:]:
        compare_windows(recognizer, lists["joined"])


if __name__ == "__main__":
    main()
