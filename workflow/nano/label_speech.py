"""Phone labels of real speech: pocketsphinx aligns its transcript to it, or words that it recognizes itself where there is none.

A transcript is the table's own or, with ``--transcripts``, that of `transcribe.py`. A word outside pocketsphinx's dictionary is said as
espeak-ng would say it. Writes ``name.json`` ({"text", "phones": [[phone, start_s, end_s], ...]}) and a link ``name.flac`` for each utterance of a
table with the columns utt_id, split, path, text. Utterances that cannot be aligned are left out and counted.

    python workflow/nano/label_speech.py --corpus DATA/librispeech-mini --split train --transcripts transcripts.tsv --output labels
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import subprocess
from pathlib import Path

import numpy as np
import soundfile
from make_robot_speech import PHONE
from pocketsphinx import Decoder

NOISE = {"+SPN+", "+NSN+", "SIL"}


def recognize(decoder: Decoder, samples: np.ndarray) -> str:
    """Words of an utterance, int16 16 kHz ``(samples,)``."""
    decoder.start_utt()
    decoder.process_raw(samples.tobytes(), full_utt=True)
    decoder.end_utt()
    return decoder.hyp().hypstr if decoder.hyp() else ""


def plain_words(text: str) -> str:
    """Lower case, without marks; the apostrophe inside a word stays."""
    return " ".join(re.findall(r"[a-z0-9]+(?:'[a-z]+)*", text.lower().replace("\u2019", "'")))


def pronounce(word: str) -> str:
    """ARPAbet phones of a word, as espeak-ng says it; raises RuntimeError where it says something English lacks."""
    command = ["espeak-ng", "-v", "en-us", "-q", "--ipa", word]
    spoken = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    symbols = re.sub("[ː\\sˈˌʲ\u0329\u0303]", "", spoken)
    phones: list[str] = []
    while symbols:  # the longest symbol that is known, from the left
        length = next((n for n in (2, 1) if symbols[:n] in PHONE), 0)
        if not length:
            raise RuntimeError(f"no pronunciation of {word}: espeak-ng says {spoken.strip()}")
        phones.append(PHONE[symbols[:length]])
        symbols = symbols[length:]
    return " ".join(phone for phone in phones if phone != "SIL")


def learn_words(decoder: Decoder, text: str) -> None:
    """Add the words of ``text`` that the decoder's dictionary lacks."""
    for word in text.split():
        if decoder.lookup_word(word) is None:
            decoder.add_word(word, pronounce(word), True)


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


def open_aligner() -> Decoder:
    """A decoder without language model. Its beams stay as they come: with wider ones the pass over phones fails more often, not less."""
    return Decoder(samprate=16000, loglevel="FATAL", lm=None)


def align_in_pieces(samples: np.ndarray, text: str, words: int = 4) -> list[tuple[str, float, float]]:
    """As `align`, a few words at a time between the times of words, where the whole fails (one word said too fast is enough).

    A piece that fails as well is one "?"; raises RuntimeError if most of them do, or if the words do not fit at all.
    """
    decoder = open_aligner()
    learn_words(decoder, text)
    decoder.set_align_text(text)
    decoder.start_utt()
    decoder.process_raw(samples.tobytes(), full_utt=True)
    decoder.end_utt()
    if not decoder.hyp():
        raise RuntimeError("its words do not fit")
    spoken = [(w.word.split("(")[0], w.start_frame, w.end_frame + 1) for w in decoder.seg() if w.word[0] not in "<["]
    times: list[tuple[str, float, float]] = []
    lost = 0
    for first in range(0, len(spoken), words):
        piece = spoken[first : first + words]
        start, end = piece[0][1], piece[-1][2]
        text_of_piece = " ".join(word for word, _, _ in piece)
        try:
            aligner = open_aligner()
            learn_words(aligner, text_of_piece)
            found = align(aligner, samples[start * 160 : end * 160], text_of_piece)
        except RuntimeError:
            found, lost = [("?", 0.0, (end - start) / 100)], lost + len(piece)
        times += [(phone, round(a + start / 100, 3), round(b + start / 100, 3)) for phone, a, b in found]
    if 2 * lost > len(spoken):
        raise RuntimeError(f"{lost} of {len(spoken)} words do not fit")
    return times


def align_speech(samples: np.ndarray, text: str) -> list[tuple[str, float, float]]:
    """Phones of plain words as `align` gives them: whole if that goes, otherwise in pieces; raises RuntimeError where it does not."""
    try:
        aligner = open_aligner()
        learn_words(aligner, text)
        return align(aligner, samples, text)
    except RuntimeError:
        return align_in_pieces(samples, text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True, help="folder with utterances.tsv and the audio it lists")
    parser.add_argument("--split", default="train")
    parser.add_argument("--transcripts", type=Path, help="table (TSV) of utt_id and text, where the corpus has none")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    with open(options.corpus / "utterances.tsv", encoding="utf-8") as table:
        rows = [row for row in csv.DictReader(table, delimiter="\t") if row["split"] == options.split]
    heard: dict[str, str] = {}
    if options.transcripts:
        with open(options.transcripts, encoding="utf-8") as table:
            heard = {row["utt_id"]: row["text"] for row in csv.DictReader(table, delimiter="\t")}
    recognizer = Decoder(samprate=16000, loglevel="FATAL", beam=1e-57, wbeam=1e-40, maxhmmpf=6000)
    failed = 0
    for number, row in enumerate(rows):
        label = options.output / f"{row['utt_id']}.json"
        if label.exists():
            continue
        samples = soundfile.read(options.corpus / row["path"], dtype="int16")[0]
        text = plain_words(row["text"] or heard.get(row["utt_id"], "")) or recognize(recognizer, samples)
        try:
            phones = align_speech(samples, text)
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
