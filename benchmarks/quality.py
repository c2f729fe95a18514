"""What do DNSMOS and Distill-MOS say of recordings and conversions, what do they cost, and how is short speech to be scored?

    python benchmarks/quality.py --run results/demo [--trials 16]
    python benchmarks/quality.py --data /path/to/librispeech-mini

Prints of each experiment the mean of both scores, the gap to the recordings (the anchor ground-truth), and seconds of one
core per trial; with --data, of the first window of each test recording that fills one, and of pieces of it, the score of a piece
followed by zeros, and of a piece repeated until it fills the window, against that of the whole window.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from bowerbird.artifacts.tables import read_table
from bowerbird.audio import SAMPLE_RATE, read_audio
from bowerbird.metrics.distill_mos import WINDOW, DistillMosScorer
from bowerbird.metrics.quality import DnsmosScorer

RECORDINGS = "ground-truth"
PIECES = (2, 3, 5)  # seconds
START = SAMPLE_RATE  # the sample at which a piece begins


def score_all(score: Callable[[np.ndarray], float], waves: Sequence[np.ndarray]) -> tuple[float, float]:
    """The mean score, and processor seconds per wave."""
    started = time.process_time()
    mean = float(np.mean([score(wave) for wave in waves]))
    return mean, (time.process_time() - started) / len(waves)


def conversions(folder: Path, trials: int) -> list[np.ndarray]:
    """Waves of ``trials`` converted trials of an experiment, evenly from its table."""
    table = read_table(folder / "trials.parquet")
    paths = sorted(table.loc[table["status"] == "ok", "path"])
    return [read_audio(folder / paths[place]) for place in np.unique(np.linspace(0, len(paths) - 1, trials, dtype=int))]


def compare_experiments(run: Path, trials: int) -> None:
    """Print a line per experiment, the recordings first."""
    distill_mos, dnsmos = DistillMosScorer(), DnsmosScorer()
    print(distill_mos.describe().model, "beside", dnsmos.describe().model)
    print(
        f"{'experiment':<28} {'trials':>6} {'s':>5} {'Distill-MOS':>11} {'gap':>6} {'core s':>6} {'DNSMOS':>6} {'gap':>6} {'core s':>6}"
    )
    folders = [path.parent for path in sorted((run / "conversion").glob("*/trials.parquet"))]
    recordings: tuple[float, float] = (float("nan"), float("nan"))
    for folder in sorted(folders, key=lambda path: path.name != RECORDINGS):
        waves = conversions(folder, trials)
        ours, seconds = score_all(lambda wave: distill_mos.score(wave)["distill_mos"], waves)
        other, other_seconds = score_all(lambda wave: dnsmos.score(wave)["dnsmos_ovrl"], waves)
        recordings = (ours, other) if folder.name == RECORDINGS else recordings
        print(
            f"{folder.name:<28} {len(waves):>6} {np.mean([len(wave) for wave in waves]) / SAMPLE_RATE:>5.1f}"
            f" {ours:>11.2f} {ours - recordings[0]:>6.2f} {seconds:>6.2f}"
            f" {other:>6.2f} {other - recordings[1]:>6.2f} {other_seconds:>6.2f}",
            flush=True,
        )


def compare_rules(data: Path) -> None:
    """Print a line per length of pieces and rule of filling."""
    with open(data / "utterances.tsv", newline="", encoding="utf-8") as handle:
        rows = [row for row in csv.DictReader(handle, delimiter="\t") if row["split"] == "test"]
    waves = [wave[:WINDOW] for wave in (read_audio(data / row["path"]) for row in rows) if len(wave) >= WINDOW]
    scorer = DistillMosScorer()
    whole = np.array([scorer.score(wave)["distill_mos"] for wave in waves])
    print(f"{scorer.describe().model}; {len(waves)} recordings, whole windows: {whole.mean():.2f}")
    print(f"{'piece s':>7} {'filled with':<12} {'mean':>5} {'RMS difference':>14} {'correlation':>11}")
    for seconds in PIECES:
        pieces = [wave[START : START + seconds * SAMPLE_RATE] for wave in waves]
        for rule, filled in (
            ("zeros", [np.pad(piece, (0, WINDOW - len(piece))) for piece in pieces]),
            ("itself", pieces),
        ):
            found = np.array([scorer.score(wave)["distill_mos"] for wave in filled])
            difference = np.sqrt(np.square(found - whole).mean())
            correlation = np.corrcoef(found, whole)[0, 1]
            print(f"{seconds:>7} {rule:<12} {found.mean():>5.2f} {difference:>14.2f} {correlation:>11.2f}", flush=True)


def main() -> None:
    """Print the tables that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="results folder of a study with conversions")
    parser.add_argument("--trials", type=int, default=16, help="of each experiment (default 16)")
    parser.add_argument("--data", type=Path, help="folder with utterances.tsv")
    options = parser.parse_args()
    if options.run is None and options.data is None:
        parser.error("give --run, --data, or both")
    torch.set_num_threads(1)
    if options.run:
        compare_experiments(options.run, options.trials)
    if options.data:
        compare_rules(options.data)


if __name__ == "__main__":
    main()
