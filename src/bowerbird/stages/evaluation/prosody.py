"""Family *prosody*."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from bowerbird.config.sections.evaluation import EvaluationConfig
from bowerbird.metrics.score import Score
from bowerbird.stages.evaluation.trial_data import SAYS_OTHER_WORDS, Material, failure, once_a_wave


class ProsodyJudge:
    """Pitch, voicing and energy against the source's."""

    METRICS = ("f0_pcc", "f0_rmse_centred", "vuv_f1", "epcc", "f0_pcc_zeros")

    def __init__(self, options: EvaluationConfig, material: Material) -> None:
        from bowerbird.metrics.prosody import PitchDetector, detector_identity, energy_track

        self.material, self.detector = material, PitchDetector()
        self.facts: dict[str, Any] = {}
        self.model, self.weights = detector_identity()
        self.track = once_a_wave(self.detector.track)
        self.source_energy = functools.cache(lambda utt_id: energy_track(material.corpus_wave(utt_id)))
        self.source_track = functools.cache(lambda utt_id: self.detector.track(material.corpus_wave(utt_id)))

    def score(self, trial: Mapping[str, Any]) -> list[Score]:
        from bowerbird.metrics.prosody import energy_correlation, energy_track, prosody_scores

        if trial["spoken_utt"] != trial["source_utt"]:
            return self._missing(SAYS_OTHER_WORDS)
        wave = self.material.converted_wave(trial)
        values, note = prosody_scores(self.track(wave), self.source_track(trial["source_utt"]))
        values["epcc"] = energy_correlation(energy_track(wave), self.source_energy(trial["source_utt"]))
        return [self._score(name, value, note if np.isnan(value) else "") for name, value in values.items()]

    def failed(self, trial: Mapping[str, Any]) -> list[Score]:
        return self._missing(failure(trial))

    def _missing(self, note: str) -> list[Score]:
        return [self._score(name, float("nan"), note) for name in self.METRICS]

    def _score(self, name: str, value: float, note: str) -> Score:
        from bowerbird.metrics.prosody import DEFINITIONS

        model, weights = ("energy in dB, 64 ms every 16 ms", "") if name == "epcc" else (self.model, self.weights)
        return Score(name, value, DEFINITIONS.get(name, f"{name}@1"), model, weights, note=note)
