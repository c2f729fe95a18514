"""Word and character errors, kept as counts so that the rate of a list is pooled and never a mean of rates.

``WER = (S + D + I) / (H + S + D)``, summed over all trials before the division. The mean over utterances of each one's
own rate is another number (it weighs short sentences more, and is what seed-tts-eval averages) and bears another name,
``mwer``. ``mcer`` is its counterpart in characters.

``dwer`` is pooled as WER is, but against what the **same recognizer reads in the source**: words it gets wrong in the
source already are no fault of the conversion, and no transcript is needed ("differential WER" of speech enhancement).
Where nothing was recognized in the source it has no value.

In a failed conversion every word of the reference is deleted. It is never left out.
"""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass

from bowerbird.errors import BowerbirdError

NORMALIZERS = ("whisper-english", "whisper-basic")


@dataclass(frozen=True)
class ErrorCounts:
    """An alignment of a hypothesis with its reference, counted in words or characters."""

    hits: int
    substitutions: int
    deletions: int
    insertions: int

    @property
    def length(self) -> int:
        """Units of the reference."""
        return self.hits + self.substitutions + self.deletions

    @property
    def errors(self) -> int:
        """Substitutions, deletions and insertions together."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Errors per unit of the reference; above 1 where much was inserted."""
        return self.errors / self.length


@functools.cache
def load_normalizer(name: str) -> Callable[[str], str]:
    """The function that normalizes texts before they are compared: Whisper's (Radford et al. 2022, appendix C)."""
    if name == "whisper-english":
        from whisper_normalizer.english import EnglishTextNormalizer

        normalizer = EnglishTextNormalizer()
    elif name == "whisper-basic":
        from whisper_normalizer.basic import BasicTextNormalizer

        normalizer = BasicTextNormalizer()
    else:
        raise BowerbirdError(f"evaluation.normalizer: {name!r}: no such normalizer; known: {', '.join(NORMALIZERS)}")
    return lambda text: " ".join(normalizer(text).split())


def normalizer_id(name: str) -> str:
    """The normalizer's name with the version of the package it comes from."""
    return f"{name} (whisper-normalizer {importlib.metadata.version('whisper-normalizer')})"


def count_errors(reference: str, hypothesis: str, unit: str = "word") -> ErrorCounts:
    """Counts of a minimum-edit alignment of two normalized texts; the reference must not be empty.

    Characters include the single spaces between words, as `jiwer` counts them.
    """
    import jiwer

    if not reference:
        raise ValueError("an empty reference has no error rate")
    if not hypothesis:
        return ErrorCounts(0, 0, len(reference.split()) if unit == "word" else len(reference), 0)
    process = jiwer.process_words if unit == "word" else jiwer.process_characters
    result = process(reference, hypothesis)
    return ErrorCounts(result.hits, result.substitutions, result.deletions, result.insertions)
