"""Make many voices to pre-train the nano systems on: real speech, and the same played slower and faster.

    python workflow/nano/make_voices.py --librispeech-mini DATA/librispeech-mini --output voices

A resampled recording is another voice: pitch and formants move by the same factor (0.80 to 0.92 or 1.09 to 1.25, drawn
from the speaker's name). Only the train split of librispeech-mini and the demo's training voices are taken. The output folder
gets FLAC files and ``utterances.tsv``; one real speaker in 25, with its copies, is for validation.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import numpy as np
import soundfile
import soxr
from tables import UTTERANCES, read_split, write_table

from bowerbird.audio import SAMPLE_RATE
from bowerbird.config.paths import bundled

RANGES = {"slow": (0.80, 0.92), "fast": (1.09, 1.25)}


def training_speech(librispeech_mini: Path) -> list[tuple[str, str, Path]]:
    """(speaker, utterance, file) of the training splits of librispeech-mini and the demo."""
    folders = (librispeech_mini, Path(bundled("bundled:demo")))
    return sorted(
        (row["speaker"], row["utt_id"], folder / row["path"])
        for folder in folders
        for row in read_split(folder, "train")
    )


def draw_factor(speaker: str, copy: str, low: float, high: float) -> float:
    """A factor between ``low`` and ``high``, the same for all utterances of a speaker."""
    number = int.from_bytes(hashlib.sha256(f"{speaker} {copy}".encode()).digest()[:8], "big")
    return low + (high - low) * number / 2**64


def main() -> None:
    """Write each recording and its copies, then the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--librispeech-mini", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    rows: list[tuple[str, str, str, str]] = []
    speech = training_speech(options.librispeech_mini)
    valid = set(sorted({speaker for speaker, _, _ in speech})[24::25])
    for speaker, utt_id, path in speech:
        split = "valid" if speaker in valid else "train"
        wave, rate = soundfile.read(path, dtype="float32")
        if rate != SAMPLE_RATE:
            raise SystemExit(f"{path}: {rate} Hz; expected {SAMPLE_RATE}")
        factors = {copy: draw_factor(speaker, copy, *ends) for copy, ends in RANGES.items()}
        for copy, factor in {"": 1.0, **factors}.items():
            name, file = (f"{x}-{copy}" if copy else x for x in (speaker, utt_id))
            played = wave if factor == 1 else soxr.resample(wave, SAMPLE_RATE, SAMPLE_RATE / factor, quality="HQ")
            soundfile.write(options.output / f"{file}.flac", np.clip(played, -1, 1), SAMPLE_RATE)
            rows.append((file, name, f"{file}.flac", split))
    write_table(options.output / UTTERANCES, ("utt_id", "speaker", "path", "split"), rows)
    print(f"{len(rows)} utterances of {len({speaker for _, speaker, _, _ in rows})} voices")


if __name__ == "__main__":
    main()
