"""Family *prosody*: pitch, voicing and energy against the source's."""

from __future__ import annotations

import functools
import math

import numpy as np

from bowerbird.config.sections.evaluation import EvaluationConfig
from bowerbird.metrics.prosody import (
    ENERGY_MODEL,
    PitchDetector,
    energy_correlation,
    energy_track,
    prosody_scores,
)
from bowerbird.metrics.registry import definition_of, trial_rows
from bowerbird.metrics.score import Score
from bowerbird.stages.evaluation.trial_data import OTHER_WORDS, Scorer, Trial, TrialData, cached_by_wave, failure_note


class ProsodyScorer(Scorer):
    """Compares the tracks of pitch and energy with the source's; anchors that say other words have no value."""

    def __init__(self, options: EvaluationConfig, data: TrialData) -> None:
        self.data, detector = data, PitchDetector()
        self.identity = detector.describe()
        self.track = cached_by_wave(detector.track)
        self.source_track = functools.cache(lambda utt_id: detector.track(data.corpus_wave(utt_id)))
        self.source_energy = functools.cache(lambda utt_id: energy_track(data.corpus_wave(utt_id)))

    def score(self, trial: Trial) -> list[Score]:
        """All metrics of prosody, NaN with the reason where too little is voiced."""
        if trial["spoken_utt"] != trial["source_utt"]:
            return self._without_values(OTHER_WORDS)
        wave = self.data.converted_wave(trial)
        values, reason = prosody_scores(self.track(wave), self.source_track(trial["source_utt"]))
        values["epcc"] = energy_correlation(energy_track(wave), self.source_energy(trial["source_utt"]))
        return [self._score(metric, value, reason if np.isnan(value) else "") for metric, value in values.items()]

    def failed(self, trial: Trial) -> list[Score]:
        """No values."""
        return self._without_values(failure_note(trial))

    def _without_values(self, note: str) -> list[Score]:
        return [self._score(metric, math.nan, note) for metric in trial_rows("prosody")]

    def _score(self, metric: str, value: float, note: str) -> Score:
        made = (ENERGY_MODEL, "") if metric == "epcc" else (self.identity.model, self.identity.weights_sha256)
        return Score(metric, value, definition_of(metric), *made, note=note)


SCORER = ProsodyScorer
