"""What scorers read, and the interface that the scorers of all families share.

Letters: ``N`` samples.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from bowerbird.artifacts.files import file_sha256
from bowerbird.artifacts.shards import Shards
from bowerbird.artifacts.tables import read_table
from bowerbird.audio import int16_to_float, read_audio
from bowerbird.config.sections.evaluation import EvaluationConfig
from bowerbird.errors import BowerbirdError
from bowerbird.metrics.score import Score
from bowerbird.stages.evaluation.aggregate import FAILED

T = TypeVar("T")
Trial = Mapping[str, Any]  # a row of the table of conversions, by column

OTHER_WORDS = "says other words than the source"  # the note of an anchor where a metric compares with the source


@dataclass(frozen=True)
class TrialData:
    """The trials with their conversions, and the speech and texts of the corpus."""

    folder: Path  # of the conversions
    trials: list[dict[str, Any]]
    texts: Mapping[str, str]  # of every utterance of the corpus
    speakers: Mapping[str, str]
    audio: Shards
    transcripts: Path | None = None  # table of what the recognizer read in the sources

    @classmethod
    def load(
        cls, conversion: Path, trials: Path, manifest: Path, audio: list[Path], transcripts: Path | None = None
    ) -> TrialData:
        """The data of one experiment; an error unless its conversions are of these trials, of all of them and no others."""
        converted, listed = read_table(conversion), read_table(trials)
        missing = sorted(set(listed["trial_id"]) ^ set(converted["trial_id"]))
        if missing:
            raise BowerbirdError(
                f"{conversion}: {len(missing)} trials are not the ones of {trials} (first: {missing[0]}); convert again"
            )
        corpus = read_table(manifest, ["utt_id", "text", "speaker"]).set_index("utt_id")
        texts, speakers = corpus["text"].to_dict(), corpus["speaker"].to_dict()
        shards = Shards(audio, "num_samples")
        return cls(conversion.parent, converted.to_dict("records"), texts, speakers, shards, transcripts)

    def corpus_wave(self, utt_id: str) -> np.ndarray:
        """An utterance of the corpus, float32 ``(N,)`` at 16 kHz."""
        return int16_to_float(np.array(self.audio[utt_id]))

    def converted_wave(self, trial: Trial) -> np.ndarray:
        """The conversion of a trial, float32 ``(N,)`` at 16 kHz; an error unless its bytes are the recorded ones."""
        path = self.folder / trial["path"]
        if not path.exists() or file_sha256(path) != trial["sha256"]:
            raise BowerbirdError(f"{path}: missing or changed since it was converted; run the conversion again")
        return read_audio(path)

    def spoken_text(self, trial: Trial) -> str:
        """The words that the conversion should say: the trial's, or those of the utterance that an anchor plays."""
        return trial["text"] if trial["spoken_utt"] == trial["source_utt"] else self.texts.get(trial["spoken_utt"], "")


class Scorer(ABC):
    """Scores one family of metrics, trial by trial.

    The module of a family, ``bowerbird.stages.evaluation.<family>``, names its scorer ``SCORER``. A scorer gives the same rows
    for every trial, converted or not; a value that cannot be computed is NaN with a note.
    """

    @abstractmethod
    def __init__(self, options: EvaluationConfig, data: TrialData) -> None:
        """Loads the models that ``options`` name."""

    @property
    def stats(self) -> dict[str, Any]:
        """What the table records of the scorer besides its rows."""
        return {}

    @abstractmethod
    def score(self, trial: Trial) -> list[Score]:
        """The rows of a trial that was converted."""

    @abstractmethod
    def failed(self, trial: Trial) -> list[Score]:
        """The rows of a trial whose conversion failed."""


def cached_by_wave(function: Callable[[np.ndarray], T]) -> Callable[[np.ndarray], T]:
    """``function`` of a wave ``(N,)`` with a memory: anchors play the same recording in several trials."""
    known: dict[bytes, T] = {}

    def cached(wave: np.ndarray) -> T:
        key = hashlib.sha256(np.ascontiguousarray(wave).tobytes()).digest()
        if key not in known:
            known[key] = function(wave)
        return known[key]

    return cached


def failure_note(trial: Trial) -> str:
    """The note of a trial whose conversion failed, with the error."""
    return f"{FAILED}: {trial['error']}"
