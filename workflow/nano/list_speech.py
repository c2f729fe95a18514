"""Write one table over the real and the synthetic training speech, for the study that trains the bundled vocoder.

    python workflow/nano/list_speech.py --librispeech-mini DATA/librispeech-mini --synthetic synthetic --output speech

The folder ``speech`` gets ``utterances.tsv`` and links to both; only the train split of librispeech-mini is taken. It has one
recording per speaker: ``--pieces 3`` cuts each in three, at its longest pauses near the thirds, so that a vocoder that is trained on
retrieved frames finds other speech of the same speaker.

Letters: ``N`` samples.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
from tables import UTTERANCES, read_split, write_table

Row = tuple[str, str, str, str]  # utt_id, speaker, path, split


def find_cuts(wave: np.ndarray, rate: int, pieces: int) -> list[int]:
    """Where to cut ``(N,)`` in ``pieces``: the quietest fifth of a second within a second of each even cut; with both ends."""
    width = rate // 5
    power = np.convolve(wave.astype(np.float64) ** 2, np.ones(width), mode="same")
    places = [0]
    for number in range(1, pieces):
        even = len(wave) * number // pieces
        first, last = max(places[-1] + rate, even - rate), min(len(wave) - rate, even + rate)
        if first < last:
            places.append(first + int(power[first:last].argmin()))
    return [*places, len(wave)]


def real_rows(corpus: Path, pieces: int, output: Path) -> Iterator[Row]:
    """Rows of the real recordings, one in 25 for validation; with more than one of the ``pieces``, these are written to ``output``."""
    for number, row in enumerate(read_split(corpus, "train")):
        name, split = row["utt_id"], "valid" if number % 25 == 0 else "train"
        if pieces == 1:
            yield name, row["speaker"], f"real/{row['path']}", split
            continue
        wave, rate = soundfile.read(corpus / row["path"], dtype="int16")
        for piece, (start, stop) in enumerate(itertools.pairwise(find_cuts(wave, rate, pieces))):
            soundfile.write(output / f"{name}-{piece}.flac", wave[start:stop], rate)
            yield f"{name}-{piece}", row["speaker"], f"{name}-{piece}.flac", split


def synthetic_rows(folder: Path) -> Iterator[Row]:
    """Rows of the synthetic sentences; two in a row are of one voice."""
    for label in sorted(folder.glob("k*.json")):
        yield label.stem, f"k{int(label.stem[1:]) // 2:04d}", f"synthetic/{label.stem}.flac", "train"


def main() -> None:
    """Link both folders, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--librispeech-mini", type=Path, required=True)
    parser.add_argument("--synthetic", type=Path, required=True, help="folder of make_speech.py")
    parser.add_argument("--pieces", type=int, default=1, help="cut each real recording into this many")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    for name, target in (("real", options.librispeech_mini), ("synthetic", options.synthetic)):
        link = options.output / name
        if not link.is_symlink():
            link.symlink_to(target.resolve())
    real = list(real_rows(options.librispeech_mini, options.pieces, options.output))
    synthetic = list(synthetic_rows(options.synthetic))
    write_table(options.output / UTTERANCES, ("utt_id", "speaker", "path", "split"), [*real, *synthetic])
    print(f"{len(real)} real and {len(synthetic)} synthetic utterances")


if __name__ == "__main__":
    main()
