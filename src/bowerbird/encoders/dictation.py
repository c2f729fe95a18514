"""pocketsphinx: free dictation, and the choice among the sentences of a grammar.

Its English model is inside the package; it works offline and always answers the same, at the price of many errors: it is for
tests and for machines without another recognizer, not to be quoted.

Shapes: ``N`` samples of 16 kHz mono.
"""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bowerbird.artifacts.identity import stable_hash
from bowerbird.encoders.checkpoint import ModelIdentity, folder_sha256
from bowerbird.encoders.recognizer_base import MIN_SAMPLES, Recognizer
from bowerbird.errors import BowerbirdError

# One pass and few active states: a third of the default's time, and on read speech no more errors.
_DICTATION = {"maxhmmpf": 1500, "maxwpf": 5, "fwdflat": False}
_GRAMMAR = {"lm": None, "fwdflat": False, "bestpath": False, "beam": 1e-60, "wbeam": 1e-40, "pbeam": 1e-60}
# The mean of the cepstra is taken over each utterance alone; the default ("live") remembers the utterances before.
_ALONE = {"cmn": "batch", "loglevel": "FATAL"}


class Pocketsphinx(Recognizer):
    """Free dictation with the package's US English model (GMM-HMM, trigrams)."""

    languages = ("en",)

    def __init__(self) -> None:
        from pocketsphinx import Decoder

        self.decoder = Decoder(**_ALONE, **_DICTATION)

    def transcribe(self, waves: Sequence[np.ndarray], language: str) -> list[str]:
        """A text for each wave ``(N,)``; the model knows English only."""
        return [_decode(self.decoder, wave) for wave in waves]

    def describe(self) -> ModelIdentity:
        """The package's version and the settings, and the SHA-256 of the model's files."""
        settings = " ".join(f"{key}={value}" for key, value in _DICTATION.items())
        return _pocketsphinx_identity(settings)


class ClosedSetRecognizer:
    """Recognizes which of a list of sentences was said, or none of them.

    The grammar is every sentence as a whole beside a loop of phones: speech that fits no sentence better than free
    phones, and noise that fits nothing, are refused. Words that the dictionary lacks are skipped.
    """

    # Probability of going round the loop once more, shared by all phones. Of 1e-5 and 1e-7 the better on 24
    # utterances of LibriSpeech test-other among 70 sentences; on 23 others it then named 22 rightly and refused
    # one, and of 40 utterances that say none of the sentences it refused 38.
    PHONE_LOOP = 1e-7

    def __init__(self, sentences: Sequence[str]) -> None:
        from pocketsphinx import Decoder

        self.decoder = Decoder(**_ALONE, **_GRAMMAR)
        self.sentence_of: dict[str, str] = {}  # the words of a path -> the sentence as given
        for sentence in sorted(set(sentences)):
            known = [word for word in spoken_words(sentence) if self.decoder.lookup_word(word)]
            if known:
                self.sentence_of.setdefault(" ".join(known), sentence)
        if not self.sentence_of:
            raise BowerbirdError("closed set: none of the sentences has a word in the dictionary of pocketsphinx")
        grammar = self.decoder.create_fsg("sentences", 0, 1, self._transitions())
        self.decoder.add_fsg("sentences", grammar)
        self.decoder.activate_search("sentences")

    def _transitions(self) -> list[tuple]:
        """(from, to, probability, word): state 0 is the start, 1 the end, 2 the phone loop."""
        alternatives = len(self.sentence_of) + 1
        transitions: list[tuple] = [(0, 2, 1 / alternatives), (2, 1, 1.0)]
        for phone in _PHONES:
            word = f"++{phone}++"
            self.decoder.add_word(word, phone, False)
            transitions.append((2, 2, self.PHONE_LOOP / len(_PHONES), word))
        state = 3
        for words in map(str.split, self.sentence_of):
            path = [0, *range(state, state + len(words) - 1), 1]
            state += len(words) - 1
            for place, word in enumerate(words):
                probability = 1 / alternatives if place == 0 else 1.0
                transitions.append((path[place], path[place + 1], probability, word))
        return transitions

    def recognize(self, waves: Sequence[np.ndarray]) -> list[str]:
        """The sentence (as it was given) said in each wave ``(N,)``, or ""."""
        return [self.sentence_of.get(_decode(self.decoder, wave), "") for wave in waves]

    def knows(self, sentence: str) -> bool:
        """Whether the sentence can be told from the others: it has known words, and no other sentence has the same ones."""
        return sentence in self.sentence_of.values()

    def describe(self) -> ModelIdentity:
        """The package's version and the sentences, and the SHA-256 of the model's files."""
        listed = stable_hash(sorted(self.sentence_of.values()))
        return _pocketsphinx_identity(
            f"grammar {listed} of {len(self.sentence_of)} sentences, phone loop {self.PHONE_LOOP:g}"
        )


_PHONES = (
    *("AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW"),
    *("B", "CH", "D", "DH", "F", "G", "HH", "JH", "K", "L", "M", "N", "NG", "P", "R", "S", "SH", "T", "TH", "V"),
    *("W", "Y", "Z", "ZH"),
)


def spoken_words(text: str) -> list[str]:
    """Lower-case words of a transcript as the dictionary spells them."""
    return re.findall(r"[a-z]+(?:'[a-z]+)*'?", text.lower().replace("’", "'"))


def _decode(decoder: Any, wave: np.ndarray) -> str:
    """The text of one whole utterance ``(N,)``: its cepstral mean is its own, so that it does not depend on the one before."""
    if len(wave) < MIN_SAMPLES:
        return ""
    pcm = np.clip(np.round(np.asarray(wave, np.float64) * 32768), -32768, 32767).astype(np.int16)
    decoder.start_utt()
    decoder.process_raw(pcm.tobytes(), no_search=False, full_utt=True)
    decoder.end_utt()
    hypothesis = decoder.hyp()
    return hypothesis.hypstr if hypothesis else ""


def _pocketsphinx_identity(settings: str) -> ModelIdentity:
    from pocketsphinx import get_model_path

    name = f"pocketsphinx {importlib.metadata.version('pocketsphinx')} en-us {settings}"
    return ModelIdentity(name, folder_sha256(Path(get_model_path("en-us"))))
