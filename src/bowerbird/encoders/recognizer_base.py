"""What every speech recognizer does, and how long speech is cut for it.

Shapes: ``N`` samples of 16 kHz mono.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from bowerbird.audio import SAMPLE_RATE
from bowerbird.encoders.checkpoint import ModelIdentity

MIN_SAMPLES = SAMPLE_RATE // 20  # shorter waves have no text
PAUSE = SAMPLE_RATE // 5  # the quietest stretch of this length is where long speech is cut
SEARCHED = 15 * SAMPLE_RATE  # end of a window in which a pause is looked for


class Recognizer(ABC):
    """Speech to text of 16 kHz mono float32 waves ``(N,)`` in [-1, 1]."""

    languages: tuple[str, ...] | None = None  # primary subtags it can recognize; None: no stated limit

    @abstractmethod
    def transcribe(self, waves: Sequence[np.ndarray], language: str) -> list[str]:
        """A text for each wave ``(N,)``, "" where no word was recognized.

        A wave's text depends neither on the order of the waves nor on the others.
        """

    @abstractmethod
    def describe(self) -> ModelIdentity:
        """The model's name and settings, and the SHA-256 of its weights."""

    def speaks(self, language: str) -> bool:
        """Whether utterances of ``language`` (BCP 47) can be recognized."""
        return self.languages is None or language.lower().split("-")[0] in self.languages


def primary_subtag(language: str) -> str:
    """``en`` of ``en-GB`` (BCP 47)."""
    return language.lower().split("-")[0]


def cut_at_pauses(wave: np.ndarray, longest: int) -> list[np.ndarray]:
    """Pieces of ``wave (N,)`` of at most ``longest`` samples, in order, nothing left out.

    Each cut is in the middle of the quietest fifth of a second in the second half of a window, so that it is in no word.
    """
    pieces = []
    while len(wave) > longest:
        first = max(longest - SEARCHED, longest // 2)
        energy = np.concatenate([[0.0], np.cumsum(np.square(wave[first:longest], dtype=np.float64))])
        pause = min(PAUSE, len(energy) - 1)
        cut = first + int(np.argmin(energy[pause:] - energy[:-pause])) + pause // 2
        pieces.append(wave[:cut])
        wave = wave[cut:]
    return [*pieces, wave]
