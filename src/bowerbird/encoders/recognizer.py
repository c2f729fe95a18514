"""Speech recognizers behind one face: waveforms in, texts out.

``pocketsphinx`` comes with its English model inside the package, works offline and always answers the same, at the
price of many errors: use it to compare systems, not to quote. Anything else is a directory or hub id that
`transformers` reads: Whisper and its kin, or CTC models (wav2vec 2.0, HuBERT, WavLM).
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import pickle
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bowerbird.artifacts.files import file_sha256
from bowerbird.artifacts.identity import stable_hash
from bowerbird.errors import BowerbirdError

SAMPLE_RATE = 16000


@dataclass(frozen=True)
class RecognizerIdentity:
    """What a score row records of who listened."""

    model: str
    weights_sha256: str


class Recognizer(ABC):
    """Speech to text; 16 kHz mono float32 waveforms ``(samples,)`` in [-1, 1]."""

    languages: tuple[str, ...] | None = None  # primary subtags it can recognize; None: no stated limit

    @abstractmethod
    def transcribe(self, waves: Sequence[np.ndarray]) -> list[str]:
        """A text for each wave, "" where nothing was heard. Neither order nor company of a wave changes its text."""

    @abstractmethod
    def describe(self) -> RecognizerIdentity:
        """Model, settings and weights."""

    def speaks(self, language: str) -> bool:
        """Whether utterances of ``language`` (BCP 47) can be recognized."""
        return self.languages is None or language.lower().split("-")[0] in self.languages


def load_recognizer(spec: str, revision: str = "", device: str = "cpu") -> Recognizer:
    """``pocketsphinx``, or the recognizer in a directory or under a hub id."""
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
        return [_decode(self.decoder, wave) for wave in waves]

    def describe(self) -> RecognizerIdentity:
        return RecognizerIdentity(f"{_pocketsphinx_name()} {_settings(_DICTATION)}", _pocketsphinx_sha256())


class ClosedSetRecognizer:
    """Which of a list of sentences was said, or none of them.

    The grammar is every sentence as a whole beside a loop of phones: speech that fits no sentence better than free
    phones, and noise that fits nothing, are refused. Words the dictionary lacks are passed over.
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
        """The sentence (as it was given) said in each wave, or ""."""
        return [self.sentence_of.get(_decode(self.decoder, wave), "") for wave in waves]

    def knows(self, sentence: str) -> bool:
        """Whether the sentence can be recognized apart: it has known words, and no other sentence has the same ones."""
        return sentence in self.sentence_of.values()

    def describe(self) -> RecognizerIdentity:
        listed = stable_hash(sorted(self.sentence_of.values()))
        settings = f"grammar {listed} of {len(self.sentence_of)} sentences, phone loop {self.PHONE_LOOP:g}"
        name = f"{_pocketsphinx_name()} {settings}"
        return RecognizerIdentity(name, _pocketsphinx_sha256())


_PHONES = (
    *("AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW"),
    *("B", "CH", "D", "DH", "F", "G", "HH", "JH", "K", "L", "M", "N", "NG", "P", "R", "S", "SH", "T", "TH", "V"),
    *("W", "Y", "Z", "ZH"),
)


def spoken_words(text: str) -> list[str]:
    """Lower-case words of a transcript as the dictionary spells them."""
    return re.findall(r"[a-z]+(?:'[a-z]+)*'?", text.lower().replace("’", "'"))


def _decode(decoder: Any, wave: np.ndarray) -> str:
    """One utterance, whole: its cepstral mean is its own, so that no utterance hears the one before."""
    if len(wave) < SAMPLE_RATE // 20:
        return ""
    pcm = np.clip(np.round(np.asarray(wave, np.float64) * 32768), -32768, 32767).astype(np.int16)
    decoder.start_utt()
    decoder.process_raw(pcm.tobytes(), no_search=False, full_utt=True)
    decoder.end_utt()
    hypothesis = decoder.hyp()
    return hypothesis.hypstr if hypothesis else ""


def _settings(values: dict[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in values.items())


def _pocketsphinx_name() -> str:
    return f"pocketsphinx {importlib.metadata.version('pocketsphinx')} en-us"


def _pocketsphinx_sha256() -> str:
    from pocketsphinx import get_model_path

    return _folder_sha256(Path(get_model_path("en-us")), "*")


class SequenceRecognizer(Recognizer):
    """Whisper and other encoder-decoder models: greedy decoding, one utterance at a time."""

    def __init__(self, model: Any, processor: Any, identity: RecognizerIdentity, language: str = "") -> None:
        self.model, self.processor, self.identity, self.language = model, processor, identity, language

    def transcribe(self, waves: Sequence[np.ndarray]) -> list[str]:
        return [self._transcribe(wave) for wave in waves]

    def _transcribe(self, wave: np.ndarray) -> str:
        """Speech longer than the model's window (Whisper: 30 s) is heard in consecutive windows."""
        window = getattr(self.processor.feature_extractor, "n_samples", 0) or len(wave)
        pieces = [wave[start : start + window] for start in range(0, len(wave), window)]
        texts = [self._hear(piece) for piece in pieces if len(piece) >= SAMPLE_RATE // 20]
        return " ".join(text for text in texts if text)

    def _hear(self, wave: np.ndarray) -> str:
        import torch

        inputs = self.processor(wave, sampling_rate=SAMPLE_RATE, return_tensors="pt", return_attention_mask=True)
        inputs = {key: value.to(self.model.device) for key, value in inputs.items()}
        options: dict[str, Any] = {"do_sample": False, "num_beams": 1}
        if self.language and getattr(self.model.generation_config, "is_multilingual", False):
            options |= {"language": self.language, "task": "transcribe"}
        with torch.inference_mode():
            tokens = self.model.generate(**inputs, **options)
        return self.processor.batch_decode(tokens, skip_special_tokens=True)[0].strip()

    def describe(self) -> RecognizerIdentity:
        return self.identity


class CTCRecognizer(Recognizer):
    """wav2vec 2.0, HuBERT or WavLM with a CTC head: the best path, one utterance at a time (no padding to hear)."""

    def __init__(self, model: Any, processor: Any, identity: RecognizerIdentity) -> None:
        self.model, self.processor, self.identity = model, processor, identity

    def transcribe(self, waves: Sequence[np.ndarray]) -> list[str]:
        return [self._transcribe(wave) for wave in waves]

    def _transcribe(self, wave: np.ndarray) -> str:
        import torch

        if len(wave) < SAMPLE_RATE // 20:
            return ""
        inputs = self.processor(wave, sampling_rate=SAMPLE_RATE, return_tensors="pt")
        with torch.inference_mode():
            logits = self.model(inputs["input_values"].to(self.model.device)).logits[0]
        return self.decode(logits.float().cpu().numpy())

    def decode(self, logits: np.ndarray) -> str:
        """Best path of ``logits (frames, symbols)``: repeats merged, then blanks removed, then spelled."""
        tokenizer = self.processor.tokenizer
        tokens = best_path(logits, tokenizer.pad_token_id)
        text = tokenizer.decode(tokens, group_tokens=False, skip_special_tokens=True)
        return " ".join(text.split())

    def describe(self) -> RecognizerIdentity:
        return self.identity


def best_path(logits: np.ndarray, blank: int) -> list[int]:
    """Greedy CTC decoding (Graves et al. 2006, section 3.2) of ``(frames, symbols)``."""
    path = np.argmax(logits, axis=-1)
    changed = np.concatenate([[True], path[1:] != path[:-1]]) if len(path) else np.zeros(0, bool)
    return [int(symbol) for symbol in path[changed] if symbol != blank]


def load_transformer(spec: str, revision: str = "", device: str = "cpu") -> Recognizer:
    """A recognizer from a local directory or a hub id, sequence-to-sequence or CTC as its configuration says."""
    from transformers import AutoConfig, AutoModelForCTC, AutoModelForSpeechSeq2Seq, AutoProcessor

    chosen = {"revision": revision} if revision else {}
    try:
        config = AutoConfig.from_pretrained(spec, **chosen)
        processor = AutoProcessor.from_pretrained(spec, **chosen)
    except (OSError, ValueError) as error:
        raise BowerbirdError(
            f"evaluation.asr: {spec}: not a recognizer that can be read ({str(error).splitlines()[0]}); "
            "give pocketsphinx, a directory, or a hub id this machine can reach"
        ) from error
    ctc = any(name.endswith("ForCTC") for name in config.architectures or [])
    factory = AutoModelForCTC if ctc else AutoModelForSpeechSeq2Seq
    try:
        # safetensors where there are any; an older pytorch_model.bin is read with weights_only
        loaded: Any = factory.from_pretrained(spec, output_loading_info=True, **chosen)
    except (OSError, ValueError, RuntimeError, pickle.UnpicklingError) as error:
        raise BowerbirdError(f"evaluation.asr: {spec}: {str(error).splitlines()[0]}") from error
    model, report = loaded
    missing = sorted(key for key in report["missing_keys"] if "masked_spec_embed" not in key)  # of training only
    if missing:
        raise BowerbirdError(
            f"evaluation.asr: {spec}: its weights lack {len(missing)} tensors, first {missing[0]}; they would be random"
        )
    model = model.eval().to(device)
    identity = RecognizerIdentity(_name_of(spec, revision, config), _state_sha256(model))
    return CTCRecognizer(model, processor, identity) if ctc else SequenceRecognizer(model, processor, identity)


def _name_of(spec: str, revision: str, config: Any) -> str:
    """The hub id with its commit; for a directory its name, since a path names one machine's folder."""
    if Path(spec).is_dir():
        return Path(spec).resolve().name
    commit = revision or getattr(config, "_commit_hash", None) or ""
    return f"{spec}@{commit}" if commit else spec


def _state_sha256(model: Any) -> str:
    """SHA-256 over all weights by name, whatever files they came in."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _folder_sha256(folder: Path, pattern: str) -> str:
    """SHA-256 over names and contents of all files below ``folder``."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob(pattern) if p.is_file()):
        digest.update(path.relative_to(folder).as_posix().encode() + file_sha256(path).encode())
    return digest.hexdigest()
