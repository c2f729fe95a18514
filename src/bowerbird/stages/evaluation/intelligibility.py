"""Family *intelligibility*: errors in words and characters, and which sentence was recognized.

Letters: ``N`` samples.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from bowerbird.artifacts.identity import Identity, RunRecord, inputs_digest
from bowerbird.artifacts.shards import Shards
from bowerbird.artifacts.tables import TRANSCRIPTS, read_table, write_table
from bowerbird.audio import int16_to_float
from bowerbird.config.sections.evaluation import EvaluationConfig
from bowerbird.config.sections.runtime import RuntimeConfig
from bowerbird.encoders.dictation import ClosedSetRecognizer
from bowerbird.encoders.recognizer import load_recognizer
from bowerbird.errors import BowerbirdError
from bowerbird.metrics.intelligibility import ErrorCounts, count_errors, load_normalizer, normalizer_id
from bowerbird.metrics.registry import definition_of
from bowerbird.metrics.score import Score
from bowerbird.stages.evaluation import VERSION
from bowerbird.stages.evaluation.trial_data import OTHER_WORDS, Scorer, Trial, TrialData, cached_by_wave, failure_note

ANCHORED = ("heldout_utt", "random_speaker_utt")  # columns of the utterances that anchors play besides the source
COUNTS = tuple(field.name for field in fields(ErrorCounts))


class IntelligibilityScorer(Scorer):
    """Counts errors in words and characters, and recognizes one sentence out of those of all trials."""

    def __init__(self, options: EvaluationConfig, data: TrialData) -> None:
        self.data = data
        self.normalize, self.normalizer = load_normalizer(options.normalizer), normalizer_id(options.normalizer)
        self.recognizer = load_recognizer(options.asr, options.asr_revision, threads=torch.get_num_threads())
        self.identity = self.recognizer.describe()
        self.transcriber = functools.cache(self._transcriber)
        self.source_texts = self._load_transcripts(data.transcripts) if data.transcripts else None
        self.closed_set = closed_set = self._build_closed_set() if options.closed_set else None
        self.recognize = cached_by_wave(lambda wave: closed_set.recognize([wave])[0] if closed_set else "")

    def _transcriber(self, language: str) -> Callable[[np.ndarray], str]:
        """The text of a wave ``(N,)`` in one language, with a memory."""
        return cached_by_wave(lambda wave: self.recognizer.transcribe([wave], language)[0])

    def _load_transcripts(self, path: Path) -> dict[str, str]:
        """The text of each source; an error where another recognizer wrote it."""
        table = read_table(path)
        same = (table["model"] == self.identity.model) & (table["weights_sha256"] == self.identity.weights_sha256)
        if not same.all():
            raise BowerbirdError(
                f"{path}: transcribed by {table.loc[~same, 'model'].iloc[0]!r}, not by {self.identity.model!r}; "
                "transcribe the sources with the recognizer that scores"
            )
        return dict(zip(table["utt_id"], table["text"], strict=True))

    def _build_closed_set(self) -> ClosedSetRecognizer | None:
        """A grammar of all sentences that a system or an anchor could say: the same one for every experiment."""
        english = [trial for trial in self.data.trials if is_english(trial)]
        texts = {self.data.texts.get(trial[column], "") for trial in english for column in ANCHORED}
        texts |= {trial["text"] for trial in english}
        return ClosedSetRecognizer(sorted(texts - {""})) if texts - {""} else None

    def score(self, trial: Trial) -> list[Score]:
        """Counts of errors, the trial's own rates, and whether its sentence was recognized."""
        wave = self.data.converted_wave(trial)
        return [*self._transcript_scores(trial, wave, ""), *self._sentence_scores(trial, wave, "")]

    def failed(self, trial: Trial) -> list[Score]:
        """The same rows as if nothing had been said: every word is deleted, no sentence is recognized."""
        note = failure_note(trial)
        return [*self._transcript_scores(trial, None, note), *self._sentence_scores(trial, None, note)]

    def _transcript_scores(self, trial: Trial, wave: np.ndarray | None, note: str) -> list[Score]:
        """Rows from a free transcript of the wave ``(N,)``, against the reference and against the source's transcript."""
        language = ""
        if not self.recognizer.speaks(trial["language"]):
            language = f"language {trial['language']!r}: {self.identity.model.split()[0]} does not recognize it"
        text = "" if wave is None or language else self.transcriber(trial["language"])(wave)
        hypothesis = self.normalize(text)
        reference = self.normalize(self.data.spoken_text(trial))
        reason = language or ("" if has_words(reference) else "no reference text")
        words, characters = (None if reason else count_errors(reference, hypothesis, unit) for unit in ("word", "char"))
        scores = self._count_scores("word", words, reason or note)
        scores.append(self._score("mwer", words.rate if words else math.nan, reason or note, text))
        scores += self._count_scores("char", characters, reason or note)
        scores.append(self._score("mcer", characters.rate if characters else math.nan, reason or note))
        if self.source_texts is None:
            return scores
        source = self.normalize(self.source_texts.get(trial["source_utt"], ""))
        reason = language or ("" if has_words(source) else "nothing was recognized in the source")
        if trial["spoken_utt"] != trial["source_utt"]:
            reason = language or OTHER_WORDS
        return scores + self._count_scores(
            "dword", None if reason else count_errors(source, hypothesis), reason or note
        )

    def _count_scores(self, unit: str, counts: ErrorCounts | None, note: str) -> list[Score]:
        """One row per kind of count, ``<unit>_hits`` and so on; NaN where there are no counts."""
        values = asdict(counts) if counts else dict.fromkeys(COUNTS, math.nan)
        return [self._score(f"{unit}_{name}", float(value), note) for name, value in values.items()]

    def _score(self, metric: str, value: float, note: str, text: str = "") -> Score:
        identity, definition = self.identity, definition_of(metric)
        return Score(metric, value, definition, identity.model, identity.weights_sha256, self.normalizer, note, text)

    def _sentence_scores(self, trial: Trial, wave: np.ndarray | None, note: str) -> list[Score]:
        """One row from the closed set, if there is one: whether the wave ``(N,)`` says the trial's sentence."""
        if self.closed_set is None:
            return []
        text, identity = self.data.spoken_text(trial), self.closed_set.describe()
        reason = (
            "" if self.closed_set.knows(text) else "the sentence is not in the grammar, or not apart from another one"
        )
        if not is_english(trial):
            reason = f"language {trial['language']!r}: the grammar is English"
        recognized = "" if wave is None or reason else self.recognize(wave)
        return [
            Score(
                metric="sentence_accuracy",
                value=math.nan if reason else float(recognized == text),
                definition=definition_of("sentence_accuracy"),
                model=identity.model,
                weights_sha256=identity.weights_sha256,
                note=reason or note or ("" if recognized else "no sentence recognized"),
                text=recognized,
            )
        ]


SCORER = IntelligibilityScorer


def is_english(trial: Trial) -> bool:
    """Whether the trial's language (BCP 47) is English."""
    return trial["language"].lower().split("-")[0] == "en"


def has_words(text: str) -> bool:
    """Whether a text has a letter or a digit."""
    return any(map(str.isalnum, text))


def transcribe_sources(
    trials: Path, audio: list[Path], output: Path, options: EvaluationConfig, runtime: RuntimeConfig
) -> None:
    """What the recognizer reads in each source utterance, once for all experiments: the reference of dWER."""
    torch.set_num_threads(runtime.threads)
    record = RunRecord(device="cpu", dtype="float32")
    table, shards = read_table(trials), Shards(audio, "num_samples")
    recognizer = load_recognizer(options.asr, options.asr_revision, threads=runtime.threads)
    made = recognizer.describe()
    rows = []
    for trial in table.drop_duplicates("source_utt").sort_values("source_utt").to_dict("records"):
        text = ""
        if recognizer.speaks(trial["language"]):
            wave = int16_to_float(np.array(shards[trial["source_utt"]]))
            text = recognizer.transcribe([wave], trial["language"])[0]
        rows.append((trial["source_utt"], text, made.model, made.weights_sha256))
    params = options.model_dump(include={"asr", "asr_revision"})
    inputs = {"trials": inputs_digest([trials]), "audio": inputs_digest(audio)}
    identity = Identity("evaluation", VERSION, params, inputs)
    record.write(output, identity)
    write_table(output, pd.DataFrame(rows, columns=TRANSCRIPTS.names), identity, TRANSCRIPTS)
