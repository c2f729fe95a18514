"""Check the demo corpus: are its sentences recognized, are speakers distinct, are levels even?

    python workflow/nano/check_corpus.py src/bowerbird/assets/demo

Recognition is closed-set: a grammar lists the sentences of the split, and pocketsphinx chooses one. The similarity of speakers is the
cosine of GE2E embeddings, one for each half of a speaker's utterances (even and odd ones).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import soundfile
import torch
from label_speech import recognize
from pocketsphinx import Decoder
from sentences import TEST, TRAIN
from tables import UTTERANCES, read_table
from torch.nn.functional import normalize
from torchaudio.functional import loudness

from bowerbird.audio import SAMPLE_RATE, read_audio
from bowerbird.encoders.speaker import load_speaker_encoder

Rows = list[dict[str, str]]


def plain_words(text: str) -> str:
    """The words of a text in lower case, without punctuation."""
    return " ".join("".join(symbol for symbol in text.lower() if symbol.isalpha() or symbol in " '").split())


def open_recognizer(sentences: list[str]) -> Decoder:
    """A pocketsphinx decoder that chooses one of these sentences."""
    decoder = Decoder(lm=None, samprate=SAMPLE_RATE, loglevel="FATAL")
    missing = sorted(
        {word for text in sentences for word in plain_words(text).split() if not decoder.lookup_word(word)}
    )
    if missing:
        raise SystemExit(f"not in the dictionary: {missing}")
    alternatives = " | ".join(plain_words(text) for text in sentences)
    decoder.add_jsgf_string("demo", f"#JSGF V1.0; grammar demo; public <sentence> = {alternatives};")
    decoder.activate_search("demo")
    return decoder


def check_sentences(rows: Rows, corpus: Path, sentences: list[str]) -> None:
    """Print, per speaker, how many utterances are recognized as their own sentence."""
    decoder = open_recognizer(sentences)
    for name in sorted({row["speaker"] for row in rows}):
        own = [row for row in rows if row["speaker"] == name]
        wrong = []
        for row in own:
            recognized = recognize(decoder, soundfile.read(corpus / row["path"], dtype="int16")[0])
            if recognized != plain_words(row["text"]):
                wrong.append(f"{row['utt_id']} recognized as: {recognized!r}")
        print(f"recognized {name:8s} {len(own) - len(wrong):2d}/{len(own)}", *wrong, sep="\n  " if wrong else " ")


def check_speakers(rows: Rows, corpus: Path) -> None:
    """Print, per speaker, the similarity of its two halves and that of the nearest other speaker."""
    encoder = load_speaker_encoder("ge2e")
    names = sorted({row["speaker"] for row in rows})
    halves = []
    for name in names:
        waves = [read_audio(corpus / row["path"]) for row in rows if row["speaker"] == name]
        embeddings = torch.from_numpy(encoder.embed(waves))
        halves.append(torch.stack([normalize(embeddings[half::2].mean(0), dim=0) for half in (0, 1)]))
    first, second = torch.stack(halves).unbind(1)
    similarity = (first @ second.T + second @ first.T) / 2
    for index, name in enumerate(names):
        others = similarity[index].clone()
        others[index] = -1
        nearest = int(others.argmax())
        print(
            f"speaker {name:8s} same {similarity[index, index]:.2f}  nearest {others[nearest]:.2f} ({names[nearest]})"
        )


def check_levels(rows: Rows, corpus: Path) -> None:
    """Print the durations, the loudness (ITU-R BS.1770) and the highest peak."""
    waves = [read_audio(corpus / row["path"]) for row in rows]
    seconds = [len(wave) / SAMPLE_RATE for wave in waves]
    levels = [float(loudness(torch.from_numpy(wave)[None], SAMPLE_RATE)) for wave in waves]
    peak = max(float(np.abs(wave).max()) for wave in waves)
    print(f"utterances {len(seconds)}, {sum(seconds):.0f} s, {min(seconds):.1f} to {max(seconds):.1f} s each")
    print(f"loudness {min(levels):.1f} to {max(levels):.1f} LUFS, highest peak {peak:.2f}")


def main() -> None:
    """Print the three checks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, help="folder with utterances.tsv")
    corpus = parser.parse_args().corpus
    torch.set_num_threads(1)
    rows = [row for row in read_table(corpus / UTTERANCES) if (corpus / row["path"]).exists()]
    check_sentences([row for row in rows if row["split"] == "test"], corpus, TEST)
    check_sentences([row for row in rows if row["split"] != "test"], corpus, TRAIN)
    check_speakers(rows, corpus)
    check_levels(rows, corpus)


if __name__ == "__main__":
    main()
