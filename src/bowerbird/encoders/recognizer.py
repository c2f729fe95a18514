"""Speech recognizers: waveforms in, texts out.

``whisper-base`` comes in packages and is the one to quote where no hub can be reached; ``moonshine-base`` is of another family,
for systems that work on Whisper's features; ``pocketsphinx`` answers everywhere, with many errors. Anything else is a folder or
hub id: Whisper in CTranslate2's format, Moonshine in ONNX, or a model that `transformers` reads: Whisper and other
encoder-decoder models, or CTC models (wav2vec 2.0, HuBERT, WavLM).

Shapes: ``N`` samples, ``T`` frames, ``S`` symbols.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bowerbird.audio import SAMPLE_RATE
from bowerbird.config.base import parse_model
from bowerbird.encoders.checkpoint import (
    RECOGNIZER,
    Checkpoint,
    ModelIdentity,
    find_checkpoint,
    peek_config,
    state_sha256,
)
from bowerbird.encoders.dictation import Pocketsphinx
from bowerbird.encoders.moonshine import MOONSHINE_BASE, Moonshine, cached_moonshine, is_moonshine, load_moonshine
from bowerbird.encoders.recognizer_base import MIN_SAMPLES, Recognizer, cut_at_pauses, primary_subtag
from bowerbird.encoders.transformers_models import load_config, load_model
from bowerbird.encoders.whisper import WHISPER_BASE, Whisper, is_ctranslate2, load_whisper, packaged_whisper
from bowerbird.errors import BowerbirdError

KEY = "evaluation.asr"  # the option that names a recognizer


def load_recognizer(spec: str, revision: str = "", device: str = "cpu", threads: int = 1) -> Recognizer:
    """``whisper-base``, ``moonshine-base``, ``pocketsphinx``, or the recognizer in a folder or under a hub id.

    ``revision`` is the commit of a hub id.
    """
    if spec == "pocketsphinx":
        return Pocketsphinx()
    if spec == WHISPER_BASE:
        return Whisper(packaged_whisper(KEY), f"{KEY}: {spec}", device, threads)
    if spec == MOONSHINE_BASE:
        return Moonshine(cached_moonshine(KEY), f"{KEY}: {spec}", threads)
    reference = parse_model(spec)
    if is_moonshine(reference):
        return load_moonshine(reference, KEY, threads)
    if reference.kind == "hub" and revision:
        reference = replace(reference, revision=revision)
    if is_ctranslate2(peek_config(reference)):
        return load_whisper(reference, KEY, device, threads)
    return load_transformer(find_checkpoint(reference, KEY, RECOGNIZER), f"{KEY}: {spec}", device)


class SequenceRecognizer(Recognizer):
    """Whisper and other encoder-decoder models: greedy decoding, one utterance at a time, in the utterance's language."""

    def __init__(self, model: Any, processor: Any, identity: ModelIdentity) -> None:
        self.model, self.processor, self.identity = model, processor, identity
        known = getattr(model.generation_config, "lang_to_id", None) or {}
        self.is_multilingual = bool(getattr(model.generation_config, "is_multilingual", False) and known)
        if self.is_multilingual:
            self.languages = tuple(token.strip("<|>") for token in known)

    def transcribe(self, waves: Sequence[np.ndarray], language: str) -> list[str]:
        """A text for each wave ``(N,)``; a model of several languages is told which one is spoken."""
        return [self._transcribe(wave, language) for wave in waves]

    def _transcribe(self, wave: np.ndarray, language: str) -> str:
        """Speech longer than the model's window (Whisper: 30 s) is cut at pauses."""
        window = getattr(self.processor.feature_extractor, "n_samples", 0) or len(wave)
        pieces = [piece for piece in cut_at_pauses(wave, window) if len(piece) >= MIN_SAMPLES]
        texts = [self._transcribe_window(piece, language) for piece in pieces]
        return " ".join(text for text in texts if text)

    def _transcribe_window(self, wave: np.ndarray, language: str) -> str:
        import torch

        inputs = self.processor(wave, sampling_rate=SAMPLE_RATE, return_tensors="pt", return_attention_mask=True)
        inputs = {key: value.to(self.model.device) for key, value in inputs.items()}
        options: dict[str, Any] = {"do_sample": False, "num_beams": 1}
        if self.is_multilingual:
            options |= {"language": primary_subtag(language), "task": "transcribe"}
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

    def transcribe(self, waves: Sequence[np.ndarray], language: str) -> list[str]:
        """A text for each wave ``(N,)``; such a model has one language, which it does not state."""
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


def load_transformer(checkpoint: Checkpoint, where: str, device: str = "cpu") -> Recognizer:
    """A recognizer that `transformers` reads, sequence-to-sequence or CTC as its configuration says."""
    from transformers import AutoModelForCTC, AutoModelForSpeechSeq2Seq, AutoProcessor

    config = load_config(checkpoint, where)
    try:
        processor = AutoProcessor.from_pretrained(checkpoint.folder)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise BowerbirdError(f"{where}: its tokenizer or feature extractor cannot be read ({reason})") from error
    is_ctc = any(name.endswith("ForCTC") for name in config.architectures or [])
    model = load_model(AutoModelForCTC if is_ctc else AutoModelForSpeechSeq2Seq, checkpoint, where).to(device)
    identity = ModelIdentity(checkpoint.full_name, state_sha256(model))
    return CTCRecognizer(model, processor, identity) if is_ctc else SequenceRecognizer(model, processor, identity)
