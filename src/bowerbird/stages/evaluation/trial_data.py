"""What judges look at, and what a judge is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from bowerbird.artifacts.files import file_sha256
from bowerbird.artifacts.shards import Shards
from bowerbird.artifacts.tables import read_table
from bowerbird.audio import int16_to_float, read_audio
from bowerbird.errors import BowerbirdError
from bowerbird.stages.evaluation.aggregate import FAILED

T = TypeVar("T")


SAYS_OTHER_WORDS = "says other words than the source"


@dataclass(frozen=True)
class Material:
    """What judges look at: the trials with their conversions, the corpus's speech and texts."""

    folder: Path
    trials: list[dict[str, Any]]
    texts: Mapping[str, str]
    speakers: Mapping[str, str]  # of every utterance of the corpus
    audio: Shards
    transcripts: Path | None = None  # what the recognizer hears in the sources

    @classmethod
    def load(
        cls, conversion: Path, trials: Path, manifest: Path, audio: list[Path], transcripts: Path | None = None
    ) -> Material:
        """Read and check that the conversions are of these trials, all of them, and that no file was changed."""
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
        """An utterance of the corpus, float32 ``(samples,)`` 16 kHz."""
        return int16_to_float(np.array(self.audio[utt_id]))

    def converted_wave(self, trial: Mapping[str, Any]) -> np.ndarray:
        """The conversion of a trial; an error if its bytes are not the ones the table records."""
        path = self.folder / trial["path"]
        if not path.exists() or file_sha256(path) != trial["sha256"]:
            raise BowerbirdError(f"{path}: missing or changed since it was converted; run the conversion again")
        return read_audio(path)

    def spoken_text(self, trial: Mapping[str, Any]) -> str:
        """The words the conversion should say: the trial's, or those of the utterance an anchor plays."""
        return trial["text"] if trial["spoken_utt"] == trial["source_utt"] else self.texts.get(trial["spoken_utt"], "")


def once_a_wave(function: Callable[[np.ndarray], T]) -> Callable[[np.ndarray], T]:
    """``function`` of a wave ``(samples,)``, remembered: anchors say the same recording in several trials."""
    known: dict[bytes, T] = {}

    def remembering(wave: np.ndarray) -> T:
        key = hashlib.sha256(np.ascontiguousarray(wave).tobytes()).digest()
        if key not in known:
            known[key] = function(wave)
        return known[key]

    return remembering


def failure(trial: Mapping[str, Any]) -> str:
    return f"{FAILED}: {trial['error']}"
