"""Speech recognizers: waveforms in, texts out.

``pocketsphinx`` comes with its English model inside the package, works offline and always answers the same, at the
price of many errors: use it to compare systems, not to quote. Anything else is a folder or hub id that `transformers`
reads: Whisper and other encoder-decoder models, or CTC models (wav2vec 2.0, HuBERT, WavLM).

Shapes: ``N`` samples, ``T`` frames, ``S`` symbols.
"""

from __future__ import annotations

import importlib.metadata
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bowerbird.artifacts.identity import stable_hash
from bowerbird.audio import SAMPLE_RATE
from bowerbird.config.base import parse_model
from bowerbird.encoders.checkpoint import (
    RECOGNIZER,
    Checkpoint,
    ModelIdentity,
    find_checkpoint,
    folder_sha256,
    state_sha256,
)
from bowerbird.encoders.transformers_models import load_config, load_model
from bowerbird.errors import BowerbirdError

MIN_SAMPLES = SAMPLE_RATE // 20  # shorter waves have no text


class Recognizer(ABC):
    """Speech to text of 16 kHz mono float32 waves ``(N,)`` in [-1, 1]."""

    languages: tuple[str, ...] | None = None  # primary subtags it can recognize; None: no stated limit

    @abstractmethod
    def transcribe(self, waves: Sequence[np.ndarray]) -> list[str]:
        """A text for each wave ``(N,)``, "" where no word was recognized.

        A wave's text depends neither on the order of the waves nor on the others.
        """

    @abstractmethod
    def describe(self) -> ModelIdentity:
        """The model's name and settings, and the SHA-256 of its weights."""

    def speaks(self, language: str) -> bool:
        """Whether utterances of ``language`` (BCP 47) can be recognized."""
        return self.languages is None or language.lower().split("-")[0] in self.languages


def load_recognizer(spec: str, revision: str = "", device: str = "cpu") -> Recognizer:
    """``pocketsphinx``, or the recognizer in a folder or under a hub id at the commit ``revision``."""
    return Pocketsphinx() if spec == "pocketsphinx" else load_transformer(spec, revision, device)


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

    def transcribe(self, waves: Sequence[np.ndarray]) -> list[str]:
        """A text for each wave ``(N,)``."""
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


class SequenceRecognizer(Recognizer):
    """Whisper and other encoder-decoder models: greedy decoding, one utterance at a time."""

    def __init__(self, model: Any, processor: Any, identity: ModelIdentity, language: str = "") -> None:
        self.model, self.processor, self.identity, self.language = model, processor, identity, language

    def transcribe(self, waves: Sequence[np.ndarray]) -> list[str]:
        """A text for each wave ``(N,)``."""
        return [self._transcribe(wave) for wave in waves]

    def _transcribe(self, wave: np.ndarray) -> str:
        """Speech longer than the model's window (Whisper: 30 s) goes through in consecutive windows."""
        window = getattr(self.processor.feature_extractor, "n_samples", 0) or len(wave)
        pieces = [wave[start : start + window] for start in range(0, len(wave), window)]
        texts = [self._transcribe_window(piece) for piece in pieces if len(piece) >= MIN_SAMPLES]
        return " ".join(text for text in texts if text)

    def _transcribe_window(self, wave: np.ndarray) -> str:
        import torch

        inputs = self.processor(wave, sampling_rate=SAMPLE_RATE, return_tensors="pt", return_attention_mask=True)
        inputs = {key: value.to(self.model.device) for key, value in inputs.items()}
        options: dict[str, Any] = {"do_sample": False, "num_beams": 1}
        if self.language and getattr(self.model.generation_config, "is_multilingual", False):
            options |= {"language": self.language, "task": "transcribe"}
        with torch.inference_mode():
            tokens = self.model.generate(**inputs, **options)
        return self.processor.batch_decode(tokens, skip_special_tokens=True)[0].strip()

    def describe(self) -> ModelIdentity:
        """The model's name with its commit, and the SHA-256 of its weights."""
        return self.identity


class CTCRecognizer(Recognizer):
    """wav2vec 2.0, HuBERT or WavLM with a CTC head: the best path, one utterance at a time, never padded."""

    def __init__(self, model: Any, processor: Any, identity: ModelIdentity) -> None:
        self.model, self.processor, self.identity = model, processor, identity

    def transcribe(self, waves: Sequence[np.ndarray]) -> list[str]:
        """A text for each wave ``(N,)``."""
        return [self._transcribe(wave) for wave in waves]

    def _transcribe(self, wave: np.ndarray) -> str:
        import torch

        if len(wave) < MIN_SAMPLES:
            return ""
        inputs = self.processor(wave, sampling_rate=SAMPLE_RATE, return_tensors="pt")
        with torch.inference_mode():
            logits = self.model(inputs["input_values"].to(self.model.device)).logits[0]
        return self.decode(logits.float().cpu().numpy())

    def decode(self, logits: np.ndarray) -> str:
        """Best path of ``logits (T, S)``: repeats merged, then blanks removed, then spelled."""
        tokenizer = self.processor.tokenizer
        tokens = best_path(logits, tokenizer.pad_token_id)
        text = tokenizer.decode(tokens, group_tokens=False, skip_special_tokens=True)
        return " ".join(text.split())

    def describe(self) -> ModelIdentity:
        """The model's name with its commit, and the SHA-256 of its weights."""
        return self.identity


def best_path(logits: np.ndarray, blank: int) -> list[int]:
    """Greedy CTC decoding (Graves et al. 2006, section 3.2) of ``logits (T, S)``: symbols without repeats and blanks."""
    path = np.argmax(logits, axis=-1)
    changed = np.concatenate([[True], path[1:] != path[:-1]]) if len(path) else np.zeros(0, bool)
    return [int(symbol) for symbol in path[changed] if symbol != blank]


def load_transformer(spec: str, revision: str = "", device: str = "cpu") -> Recognizer:
    """A recognizer from a folder or a hub id, sequence-to-sequence or CTC as its configuration says."""
    from transformers import AutoModelForCTC, AutoModelForSpeechSeq2Seq, AutoProcessor

    reference = parse_model(spec)
    if reference.kind == "hub" and revision:
        reference = replace(reference, revision=revision)
    checkpoint = find_checkpoint(reference, "evaluation.asr", RECOGNIZER)
    where = f"evaluation.asr: {spec}"
    config = load_config(checkpoint, where)
    try:
        processor = AutoProcessor.from_pretrained(checkpoint.folder)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise BowerbirdError(f"{where}: its tokenizer or feature extractor cannot be read ({reason})") from error
    is_ctc = any(name.endswith("ForCTC") for name in config.architectures or [])
    model = load_model(AutoModelForCTC if is_ctc else AutoModelForSpeechSeq2Seq, checkpoint, where).to(device)
    identity = ModelIdentity(_name_of(checkpoint), state_sha256(model))
    return CTCRecognizer(model, processor, identity) if is_ctc else SequenceRecognizer(model, processor, identity)


def _name_of(checkpoint: Checkpoint) -> str:
    """The hub id with its commit; for a folder its name, since a path names one machine's folder."""
    return f"{checkpoint.name}@{checkpoint.revision}" if checkpoint.revision else checkpoint.name
