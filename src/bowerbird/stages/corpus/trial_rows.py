"""A trial and its row in the table: what drawn trials and those of a published list have in common."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bowerbird.artifacts.tables import TRIALS

Utterance = Mapping[str, Any]  # a row of the manifest


class UtteranceTable:
    """The utterances that trials are made of: ``rows`` of the manifest by id, and each speaker's ids in bytewise order."""

    def __init__(self, manifest: pd.DataFrame) -> None:
        self.rows: dict[str, Utterance] = {str(row["utt_id"]): row for row in manifest.to_dict("records")}
        self.of_speaker: dict[str, list[str]] = {}
        for utt_id in sorted(self.rows, key=str.encode):
            self.of_speaker.setdefault(self.rows[utt_id]["speaker"], []).append(utt_id)
        self.speakers = sorted(self.of_speaker, key=str.encode)

    def shuffled(self, speaker: str, generator: np.random.Generator) -> list[str]:
        """A speaker's utterances in an order that is drawn."""
        own = self.of_speaker[speaker]
        return [own[place] for place in generator.permutation(len(own))]

    def others_than(self, *speakers: str) -> list[str]:
        """All speakers but those, in bytewise order."""
        return [name for name in self.speakers if name not in speakers]

    def draw_from(self, speakers: Sequence[str], generator: np.random.Generator) -> str:
        """An utterance of one of ``speakers``, the speaker drawn first."""
        own = self.of_speaker[speakers[int(generator.integers(len(speakers)))]]
        return own[int(generator.integers(len(own)))]

    def take_references(self, utt_ids: Sequence[str], wanted_s: float) -> list[str]:
        """The first of ``utt_ids`` until their speech is ``wanted_s`` seconds long, the last one whole."""
        references, seconds = [], 0.0
        for utt_id in utt_ids:
            references.append(utt_id)
            seconds += self.rows[utt_id]["duration_s"]
            if seconds >= wanted_s:
                break
        return references


@dataclass(frozen=True)
class Trial:
    """One conversion that every experiment makes; utterances are given by their ids."""

    trial_id: str
    source: str
    references: list[str]
    heldout: str
    random_speaker_utt: str
    condition: str
    prompt_s: float = math.inf  # how much of the references a system may hear, seconds

    def row(self, utterances: UtteranceTable) -> dict[str, Any]:
        """The columns of the table of trials."""
        source, heldout = utterances.rows[self.source], utterances.rows[self.heldout]
        own = utterances.of_speaker[heldout["speaker"]]
        reference_s = sum(utterances.rows[u]["duration_s"] for u in self.references)
        parallel = [u for u in own if have_same_words(utterances.rows[u], source) and u not in self.references]
        return {
            "trial_id": self.trial_id,
            "source_utt": self.source,
            "source_speaker": source["speaker"],
            "source_gender": source["gender"],
            "target_speaker": heldout["speaker"],
            "target_gender": heldout["gender"],
            "reference_utts": self.references,
            "reference_s": round(reference_s, 4),
            "prompt_s": round(min(self.prompt_s, reference_s), 4),
            "heldout_utt": self.heldout,
            "parallel_utt": parallel[0] if parallel else "",
            "random_speaker_utt": self.random_speaker_utt,
            "text": source["text"],
            "language": source["language"],
            "condition": self.condition,
        }


def trial_table(trials: Sequence[Trial], utterances: UtteranceTable) -> pd.DataFrame:
    """One row per trial, in bytewise order of their ids."""
    table = pd.DataFrame([trial.row(utterances) for trial in trials])[TRIALS.names]
    return table.sort_values("trial_id", key=lambda ids: ids.map(str.encode), ignore_index=True)


def trial_generator(seed: int, name: str) -> np.random.Generator:
    """The source of a trial's random choices: they depend on the seed and on that name alone."""
    return np.random.Generator(np.random.PCG64([seed, *name.encode()]))


def have_same_words(one: Utterance, other: Utterance) -> bool:
    """Whether two utterances have the same words, as far as their transcripts tell; case and punctuation do not count."""
    words = [re.findall(r"\w+", utterance["text"].lower()) for utterance in (one, other)]
    return bool(words[0]) and words[0] == words[1]
