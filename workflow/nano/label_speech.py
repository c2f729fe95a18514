"""Pseudo phone labels of real speech: pocketsphinx recognises words (or takes the transcript) and aligns them to phones.

Writes ``name.json`` ({"text", "phones": [[phone, start_s, end_s], ...]}) and a link ``name.flac`` for each utterance of a
table with the columns utt_id, split, path, text. Utterances that cannot be aligned are left out and counted.

    python workflow/nano/label_speech.py --corpus DATA/librispeech-mini --split train --output labels
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

import numpy as np
import soundfile
from pocketsphinx import Decoder

NOISE = {"+SPN+", "+NSN+", "SIL"}


def recognise(decoder: Decoder, samples: np.ndarray) -> str:
    """Words of an utterance, int16 16 kHz ``(samples,)``."""
    decoder.start_utt()
    decoder.process_raw(samples.tobytes(), full_utt=True)
    decoder.end_utt()
    return decoder.hyp().hypstr if decoder.hyp() else ""


def align(decoder: Decoder, samples: np.ndarray, text: str) -> list[tuple[str, float, float]]:
    """Phones of ``text`` with their start and end in seconds; raises RuntimeError where it does not fit the speech."""
    decoder.set_align_text(text)
    for first_pass in (True, False):
        decoder.start_utt()
        decoder.process_raw(samples.tobytes(), full_utt=True)
        decoder.end_utt()
        if first_pass:
            decoder.set_alignment()
    phones = [phone for word in decoder.get_alignment() for phone in word]
    return [("SIL" if p.name in NOISE else p.name, p.start / 100, (p.start + p.duration) / 100) for p in phones]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True, help="folder with utterances.tsv and the audio it lists")
    parser.add_argument("--split", default="train")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    with open(options.corpus / "utterances.tsv", encoding="utf-8") as table:
        rows = [row for row in csv.DictReader(table, delimiter="\t") if row["split"] == options.split]
    recogniser = Decoder(samprate=16000, loglevel="FATAL", beam=1e-57, wbeam=1e-40, maxhmmpf=6000)
    failed = 0
    for number, row in enumerate(rows):
        label = options.output / f"{row['utt_id']}.json"
        if label.exists():
            continue
        samples = soundfile.read(options.corpus / row["path"], dtype="int16")[0]
        text = row["text"].lower() or recognise(recogniser, samples)
        try:
            phones = align(Decoder(samprate=16000, loglevel="FATAL", lm=None), samples, text)
        except RuntimeError as error:
            failed += 1
            print(f"{row['utt_id']}: not aligned ({error})", flush=True)
            continue
        link = label.with_suffix(".flac")
        if not link.exists():
            link.symlink_to((options.corpus / row["path"]).resolve())
        label.write_text(json.dumps({"text": text, "phones": phones}))
        if number % 20 == 0:
            print(f"{number} of {len(rows)}, {failed} not aligned", flush=True)
    print(f"labelled {len(rows) - failed} of {len(rows)} utterances")


if __name__ == "__main__":
    main()
