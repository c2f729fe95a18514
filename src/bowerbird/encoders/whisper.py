"""Whisper in CTranslate2's format, run by `faster-whisper`; Whisper base comes in two packages of a package index.

``whisper-base`` (MIT) is put together from the packages `WHISPER_PARTS` into the user's cache folder, and checked by its digest.

Shapes: ``N`` samples of 16 kHz mono.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bowerbird.artifacts.files import atomic_path, file_sha256
from bowerbird.audio import SAMPLE_RATE
from bowerbird.config.base import ModelReference
from bowerbird.config.sections.evaluation import INSTALL_WHISPER, WHISPER_PARTS, WHISPER_PROGRAM
from bowerbird.encoders.checkpoint import (
    CTRANSLATE2,
    Checkpoint,
    ModelIdentity,
    cache_folder,
    find_checkpoint,
    packaged_file,
)
from bowerbird.encoders.recognizer_base import MIN_SAMPLES, Recognizer, cut_at_pauses, primary_subtag
from bowerbird.errors import BowerbirdError

WHISPER_BASE = "whisper-base"
WEIGHTS_SHA256 = "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9"  # of model.bin, put together
BESIDE = ("config.json", "tokenizer.json", "vocabulary.txt")  # in the first package

WINDOW = 30 * SAMPLE_RATE  # what the model reads at once
# Silence after the speech. The model was trained on windows that are filled up to 30 s, which costs more than twice the time; with
# less silence it finds the end less often and repeats itself, and then it reads the full window. Compared by
# `benchmarks/recognizer.py`.
SILENCE = 5 * SAMPLE_RATE
SHORTEST_WINDOW = 12 * SAMPLE_RATE
MOST_COMPRESSED = 2.4  # ratio of lengths before and after compression, as in Whisper's own code
MOST_TOKENS = 224  # half of the decoder's context, as in Whisper's own code


class Whisper(Recognizer):
    """Greedy decoding without timestamps in the language of the utterance; speech over 30 s is cut at pauses."""

    def __init__(self, checkpoint: Checkpoint, where: str, device: str = "cpu", threads: int = 1) -> None:
        if not importlib.util.find_spec(WHISPER_PROGRAM):
            raise BowerbirdError(
                f"{where}: needs the package faster-whisper, which is not installed; {INSTALL_WHISPER}"
            )
        from faster_whisper import WhisperModel

        self.checkpoint = checkpoint
        self.precision = "float16" if device.startswith("cuda") else "int8"
        try:
            self.model = WhisperModel(
                str(checkpoint.folder),
                device="cuda" if device.startswith("cuda") else "cpu",
                compute_type=self.precision,
                cpu_threads=threads,
                local_files_only=True,
            )
        except (RuntimeError, ValueError) as error:
            raise BowerbirdError(f"{where}: {checkpoint.folder}: CTranslate2 cannot read it ({error})") from error
        self.languages = tuple(self.model.supported_languages)
        self.tokenizers: dict[str, Any] = {}  # by language

    def transcribe(self, waves: Sequence[np.ndarray], language: str) -> list[str]:
        """A text for each wave ``(N,)``, spoken in ``language``."""
        return [self._transcribe(wave, language) for wave in waves]

    def _transcribe(self, wave: np.ndarray, language: str) -> str:
        pieces = [piece for piece in cut_at_pauses(wave, WINDOW) if len(piece) >= MIN_SAMPLES]
        texts = [self._transcribe_window(piece, language) for piece in pieces]
        return " ".join(text for text in texts if text)

    def _transcribe_window(self, wave: np.ndarray, language: str) -> str:
        """The text of at most 30 s; in the full window where the model repeats itself in a shorter one."""
        length = min(max(len(wave) + SILENCE, SHORTEST_WINDOW), WINDOW)
        text = self._decode(wave, length, language)
        return self._decode(wave, WINDOW, language) if length < WINDOW and repeats_itself(text) else text

    def _decode(self, wave: np.ndarray, length: int, language: str) -> str:
        """The text of a wave ``(N,)`` filled up to ``length`` samples with silence."""
        padded = np.pad(np.asarray(wave, np.float32), (0, length - len(wave)))
        features = self.model.feature_extractor(padded)
        features = np.ascontiguousarray(features[:, : features.shape[1] // 2 * 2], dtype=np.float32)
        tokenizer = self._tokenizer(primary_subtag(language))
        prompt = [*tokenizer.sot_sequence, tokenizer.no_timestamps]
        encoded = self.model.encode(features)
        (result,) = self.model.model.generate(encoded, [prompt], beam_size=1, max_length=MOST_TOKENS)
        return tokenizer.decode(result.sequences_ids[0]).strip()

    def _tokenizer(self, language: str) -> Any:
        from faster_whisper.tokenizer import Tokenizer

        if language not in self.tokenizers:
            is_multilingual = self.model.model.is_multilingual
            self.tokenizers[language] = Tokenizer(
                self.model.hf_tokenizer, is_multilingual, task="transcribe", language=language
            )
        return self.tokenizers[language]

    def describe(self) -> ModelIdentity:
        """The model, CTranslate2's version and the decoding, and the SHA-256 of the weights."""
        version = importlib.metadata.version("ctranslate2")
        settings = f"{self.precision} greedy, {SILENCE // SAMPLE_RATE} s of silence, 30 s where it repeats itself"
        return ModelIdentity(
            f"{self.checkpoint.full_name} (ctranslate2 {version} {settings})", self.checkpoint.weights_sha256
        )


def repeats_itself(text: str) -> bool:
    """Whether a text compresses better than transcripts do: Whisper's own sign of a repetition (Radford et al. 2022, 4.5)."""
    coded = text.encode()
    return len(coded) > MOST_COMPRESSED * len(zlib.compress(coded))


def load_whisper(reference: ModelReference, key: str, device: str = "cpu", threads: int = 1) -> Whisper:
    """The Whisper in CTranslate2's format in a folder or under a hub id; ``key`` is the option that names it."""
    return Whisper(find_checkpoint(reference, key, CTRANSLATE2), f"{key}: {reference}", device, threads)


def is_ctranslate2(config: dict[str, Any]) -> bool:
    """Whether ``config.json`` is that of a Whisper in CTranslate2's format: it lists tokens, and no architecture."""
    return "suppress_ids" in config and "architectures" not in config


def packaged_whisper(where: str) -> Checkpoint:
    """Whisper base out of the packages `WHISPER_PARTS`, in the user's cache folder; ``where`` begins an error."""
    folder = cache_folder() / WHISPER_BASE
    weights = folder / "model.bin"
    checkpoint = Checkpoint(WHISPER_BASE, "", folder, (weights,))
    is_whole = weights.is_file() and all((folder / name).is_file() for name in BESIDE)
    if not (is_whole and checkpoint.weights_sha256 == WEIGHTS_SHA256):
        parts = [packaged_part(package, number, where) for number, package in enumerate(WHISPER_PARTS, start=1)]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name in BESIDE:
                with atomic_path(folder / name) as temporary:
                    shutil.copyfile(parts[0].parent / name, temporary)
            with atomic_path(weights) as temporary:
                _join(parts, temporary)
                if (digest := file_sha256(temporary)) != WEIGHTS_SHA256:
                    raise BowerbirdError(
                        f"{where}: the packages {' and '.join(WHISPER_PARTS)} give a model.bin of SHA-256 {digest}, not "
                        f"{WEIGHTS_SHA256}; install both again: {INSTALL_WHISPER}"
                    )
        except OSError as error:
            raise BowerbirdError(
                f"{where}: {folder} cannot be written ({error}); set XDG_CACHE_HOME to a folder with 150 MB of space"
            ) from error
    return checkpoint


def packaged_part(package: str, number: int, where: str) -> Path:
    """One part of the weights inside an installed package."""
    try:
        return packaged_file(package, f"data/model.bin.part{number}", where)
    except BowerbirdError as error:
        raise BowerbirdError(f"{error}, or {INSTALL_WHISPER}, or evaluation.asr: pocketsphinx") from None


def _join(parts: Sequence[Path], output: Path) -> None:
    """Write files end to end."""
    with open(output, "wb") as joined:
        for part in parts:
            with open(part, "rb") as source:
                shutil.copyfileobj(source, joined, 1 << 20)
