"""Transcribe real speech that comes without a transcript: Moonshine base (61 M parameters, MIT).

`src/bowerbird/encoders/moonshine.py` runs it; `workflow/fetch_moonshine MODEL` fetches it.

    python workflow/nano/transcribe.py --model MODEL --corpus DATA/librispeech-mini --split train --output transcripts.tsv

The output's columns are utt_id and text.
It is written utterance by utterance under a temporary name: a run that was stopped goes on after the last one, and the table is
there when it is whole.
"""

from __future__ import annotations

import argparse
import csv
import os
from pathlib import Path

from tables import read_split, read_table

from bowerbird.audio import read_audio
from bowerbird.encoders.recognizer import load_recognizer


def main() -> None:
    """Transcribe the utterances that are not in the table yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="folder of Moonshine's three files")
    parser.add_argument("--corpus", type=Path, required=True, help="folder with utterances.tsv and the audio it lists")
    parser.add_argument("--split", default="train")
    parser.add_argument("--output", type=Path, required=True, help="table (TSV) of utt_id and text")
    options = parser.parse_args()
    rows = read_split(options.corpus, options.split)
    partial = options.output.with_name(f"{options.output.name}.part")
    if options.output.exists():
        os.replace(options.output, partial)
    if not partial.exists():
        partial.write_text("utt_id\ttext\n")
    known = {row["utt_id"] for row in read_table(partial)}
    recognizer = load_recognizer(str(options.model.absolute()))
    for number, row in enumerate(rows):
        if row["utt_id"] in known:
            continue
        (text,) = recognizer.transcribe([read_audio(options.corpus / row["path"])], "en")
        with open(partial, "a", encoding="utf-8", newline="") as table:
            csv.writer(table, delimiter="\t", lineterminator="\n").writerow((row["utt_id"], text))
        if number % 20 == 0:
            print(f"{number} of {len(rows)}: {text}", flush=True)
    os.replace(partial, options.output)


if __name__ == "__main__":
    main()
