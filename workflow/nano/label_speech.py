"""Label real speech with phones: pocketsphinx aligns its transcript to it, or words that it recognizes itself where there is none.

A transcript is the table's own or, with ``--transcripts``, that of `transcribe.py`. A word outside pocketsphinx's dictionary is
pronounced as espeak-ng would. The corpus is a folder with a table ``utterances.tsv`` (columns utt_id, split, path, text); the output
folder is what `labeled_speech.py` describes, with links to the recordings. Utterances that cannot be aligned are left out and counted.

    python workflow/nano/label_speech.py --corpus DATA/librispeech-mini --split train --transcripts transcripts.tsv --output labels

Letters: ``N`` samples.
"""

from __future__ import annotations

import argparse
import re
import subprocess
from pathlib import Path

import numpy as np
import soundfile
from labeled_speech import list_labels, write_label
from make_robot_speech import PHONE
from pocketsphinx import Decoder
from tables import read_split, read_table

from bowerbird.audio import SAMPLE_RATE

NOISE = {"+SPN+", "+NSN+", "SIL"}
DECODER_RATE = 100  # frames per second of pocketsphinx

Times = list[tuple[str, float, float]]  # of phones: name, start and end in seconds


def decode(decoder: Decoder, samples: np.ndarray) -> None:
    """Send ``(N,)`` int16 at 16 kHz through the decoder, as one utterance."""
    decoder.start_utt()
    decoder.process_raw(samples.tobytes(), full_utt=True)
    decoder.end_utt()


def recognize(decoder: Decoder, samples: np.ndarray) -> str:
    """The words that the decoder recognizes in ``(N,)`` int16 at 16 kHz."""
    decode(decoder, samples)
    return decoder.hyp().hypstr if decoder.hyp() else ""


def plain_words(text: str) -> str:
    """The words of a text in lower case, without punctuation; the apostrophe inside a word stays."""
    return " ".join(re.findall(r"[a-z0-9]+(?:'[a-z]+)*", text.lower().replace("\u2019", "'")))


def pronounce(word: str) -> str:
    """ARPAbet phones of a word as espeak-ng pronounces it; raises RuntimeError where it uses a phone that English lacks."""
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


def align(decoder: Decoder, samples: np.ndarray, text: str) -> Times:
    """Phones of ``text`` in ``(N,)`` int16 at 16 kHz, in seconds; raises RuntimeError where the text does not fit the speech."""
    decoder.set_align_text(text)
    decode(decoder, samples)
    decoder.set_alignment()
    decode(decoder, samples)
    phones = [phone for word in decoder.get_alignment() for phone in word]
    return [
        ("SIL" if p.name in NOISE else p.name, p.start / DECODER_RATE, (p.start + p.duration) / DECODER_RATE)
        for p in phones
    ]


def open_aligner() -> Decoder:
    """A decoder without language model. Its beams stay as they come: with wider ones the pass over phones fails more often, not less."""
    return Decoder(samprate=SAMPLE_RATE, loglevel="FATAL", lm=None)


def find_words(samples: np.ndarray, text: str) -> list[tuple[str, int, int]]:
    """The words of ``text`` in ``(N,)`` int16 at 16 kHz, with first frame and end; raises RuntimeError where they do not fit."""
    decoder = open_aligner()
    learn_words(decoder, text)
    decoder.set_align_text(text)
    decode(decoder, samples)
    if not decoder.hyp():
        raise RuntimeError("its words do not fit")
    return [(w.word.split("(")[0], w.start_frame, w.end_frame + 1) for w in decoder.seg() if w.word[0] not in "<["]


def align_whole(samples: np.ndarray, text: str) -> Times:
    """As `align`, with a decoder of its own, which learns the words of ``text`` first."""
    aligner = open_aligner()
    learn_words(aligner, text)
    return align(aligner, samples, text)


def align_in_pieces(samples: np.ndarray, text: str, words: int = 4) -> Times:
    """As `align`, a few words at a time between the times of words, where the whole fails (one word said too fast is enough).

    A piece that fails as well is one "?"; raises RuntimeError if most of them do, or if the words do not fit at all.
    """
    spoken = find_words(samples, text)
    hop = SAMPLE_RATE // DECODER_RATE
    times: Times = []
    lost = 0
    for first in range(0, len(spoken), words):
        piece = spoken[first : first + words]
        start, end = piece[0][1], piece[-1][2]
        try:
            found = align_whole(samples[start * hop : end * hop], " ".join(word for word, _, _ in piece))
        except RuntimeError:
            found, lost = [("?", 0.0, (end - start) / DECODER_RATE)], lost + len(piece)
        offset_s = start / DECODER_RATE
        times += [(phone, round(a + offset_s, 3), round(b + offset_s, 3)) for phone, a, b in found]
    if 2 * lost > len(spoken):
        raise RuntimeError(f"{lost} of {len(spoken)} words do not fit")
    return times


def align_speech(samples: np.ndarray, text: str) -> Times:
    """Phones of plain words as `align` gives them: whole if that goes, otherwise in pieces; raises RuntimeError where it does not."""
    try:
        return align_whole(samples, text)
    except RuntimeError:
        return align_in_pieces(samples, text)


def main() -> None:
    """Label the utterances that have no label yet, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True, help="folder with utterances.tsv and the audio it lists")
    parser.add_argument("--split", default="train")
    parser.add_argument("--transcripts", type=Path, help="table (TSV) of utt_id and text, where the corpus has none")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    rows = read_split(options.corpus, options.split)
    transcribed = read_table(options.transcripts) if options.transcripts else []
    texts = {row["utt_id"]: row["text"] for row in transcribed}
    recognizer = Decoder(samprate=SAMPLE_RATE, loglevel="FATAL", beam=1e-57, wbeam=1e-40, maxhmmpf=6000)
    failed = 0
    for number, row in enumerate(rows):
        label = options.output / f"{row['utt_id']}.json"
        if label.exists():
            continue
        samples = soundfile.read(options.corpus / row["path"], dtype="int16")[0]
        text = plain_words(row["text"] or texts.get(row["utt_id"], "")) or recognize(recognizer, samples)
        try:
            phones = align_speech(samples, text)
        except RuntimeError as error:
            failed += 1
            print(f"{row['utt_id']}: not aligned ({error})", flush=True)
            continue
        link = label.with_suffix(".flac")
        if not link.exists():
            link.symlink_to((options.corpus / row["path"]).resolve())
        write_label(label, text, phones)
        if number % 20 == 0:
            print(f"{number} of {len(rows)}, {failed} not aligned", flush=True)
    print(f"labeled {list_labels(options.output)} of {len(rows)} utterances")


if __name__ == "__main__":
    main()
