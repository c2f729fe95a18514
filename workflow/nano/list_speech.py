"""One table over the real and the synthetic training speech, for the study that trains the bundled vocoder.

    python workflow/nano/list_speech.py --librispeech-mini DATA/librispeech-mini --synthetic kokoro --output speech

The folder ``speech`` gets ``utterances.tsv`` and links to both; only librispeech-mini's train split is taken. It has one recording a
speaker: ``--pieces 3`` cuts each in three, at its longest pauses near the thirds, so that a prematched vocoder finds other speech of the
same speaker.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
from pathlib import Path

import numpy as np
import soundfile


def cuts(wave: np.ndarray, rate: int, pieces: int) -> list[int]:
    """Where to cut ``(samples,)`` in ``pieces``: the quietest fifth of a second within a second of each even cut; with both ends."""
    width = rate // 5
    power = np.convolve(wave.astype(np.float64) ** 2, np.ones(width), mode="same")
    places = [0]
    for number in range(1, pieces):
        even = len(wave) * number // pieces
        first, last = max(places[-1] + rate, even - rate), min(len(wave) - rate, even + rate)
        if first < last:
            places.append(first + int(power[first:last].argmin()))
    return [*places, len(wave)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--librispeech-mini", type=Path, required=True)
    parser.add_argument("--synthetic", type=Path, required=True)
    parser.add_argument("--pieces", type=int, default=1, help="cut each real recording in so many")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    for name, target in (("real", options.librispeech_mini), ("synthetic", options.synthetic)):
        link = options.output / name
        if not link.is_symlink():
            link.symlink_to(target.resolve())
    with open(options.librispeech_mini / "utterances.tsv", encoding="utf-8") as table:
        real = [row for row in csv.DictReader(table, delimiter="\t") if row["split"] == "train"]
    rows = []
    for number, row in enumerate(real):
        name, split = row["utt_id"], "valid" if number % 25 == 0 else "train"
        if options.pieces == 1:
            rows.append((name, row["speaker"], f"real/{row['path']}", split))
            continue
        wave, rate = soundfile.read(options.librispeech_mini / row["path"], dtype="int16")
        places = cuts(wave, rate, options.pieces)
        for piece, (start, stop) in enumerate(itertools.pairwise(places)):
            soundfile.write(options.output / f"{name}-{piece}.flac", wave[start:stop], rate)
            rows.append((f"{name}-{piece}", row["speaker"], f"{name}-{piece}.flac", split))
    for label in sorted(options.synthetic.glob("k*.json")):
        speaker = f"k{int(label.stem[1:]) // 2:04d}"
        rows.append((label.stem, speaker, f"synthetic/{label.stem}.flac", "train"))
    with open(options.output / "utterances.tsv", "w", encoding="utf-8", newline="") as table:
        writer = csv.writer(table, delimiter="\t", lineterminator="\n")
        writer.writerow(("utt_id", "speaker", "path", "split"))
        writer.writerows(rows)
    facts = [json.loads(p.read_text())["text"] for p in sorted(options.synthetic.glob("k*.json"))]
    print(f"{len(real)} real and {len(facts)} synthetic utterances")


if __name__ == "__main__":
    main()
