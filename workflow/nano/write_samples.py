"""Write what a trial of a run sounds like as small files: the source, a reference, and the conversions by some experiments.

    python workflow/nano/write_samples.py --run results/demo --experiments knnvc palindromic --output docs/samples

Without --trial it is the first of the list whose target is of another gender. Ogg Vorbis, 16 kHz, as the run has them.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from bowerbird.artifacts.shards import Shards, shard_paths
from bowerbird.artifacts.tables import read_table
from bowerbird.audio import SAMPLE_RATE, int16_to_float


def choose_trial(rows: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """The trial of that name, or the first one across genders."""
    fitting = [
        row for row in rows if (row["trial_id"] == name if name else row["source_gender"] != row["target_gender"])
    ]
    if not fitting:
        raise SystemExit(f"--trial: {name or 'none across genders'}: not in the list")
    return fitting[0]


def write(path: Path, wave: np.ndarray) -> None:
    """A wave ``(N,)`` as Ogg Vorbis."""
    soundfile.write(path, wave, SAMPLE_RATE, format="OGG", subtype="VORBIS")
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--experiments", nargs="+", required=True)
    parser.add_argument("--trial", default="", help="id of the trial")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    trial = choose_trial(read_table(options.run / "corpus/trials.parquet").to_dict("records"), options.trial)
    audio = Shards(shard_paths(options.run / "corpus/audio"), "num_samples")
    print(f"{trial['trial_id']}: {trial['text']}")
    for name, utt_id in (("source", trial["source_utt"]), ("reference", trial["reference_utts"][0])):
        write(options.output / f"{name}.ogg", int16_to_float(np.array(audio[utt_id])))
    for experiment in options.experiments:
        converted = options.run / "conversion" / experiment / f"{trial['trial_id']}.flac"
        write(options.output / f"{experiment}.ogg", soundfile.read(converted, dtype="float32")[0])


if __name__ == "__main__":
    main()
