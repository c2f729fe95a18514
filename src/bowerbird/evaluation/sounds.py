"""Who judges the sound: prosody against the source's, estimated quality, distortion."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from bowerbird.config import EvaluationConfig
from bowerbird.evaluation.material import SAYS_OTHER_WORDS, Material, failure, once_a_wave
from bowerbird.metrics import Score


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


class QualityJudge:
    """Estimated opinion scores without a reference, and distortion where the target says the source's words."""

    def __init__(self, options: EvaluationConfig, material: Material) -> None:
        from bowerbird.metrics import quality
        from bowerbird.metrics.opinion import OpinionJudge

        self.material, self.judge, self.metrics = material, quality.QualityJudge(), tuple(quality.METRICS)
        self.model, self.weights = quality.judge_identity()
        self.judged = once_a_wave(self.judge.score)
        opinions = [OpinionJudge(name, folder) for name, folder in sorted(options.opinions.items())]
        self.opinions = [(opinion, once_a_wave(opinion.score)) for opinion in opinions]
        ordered = sorted((str(trial["trial_id"]) for trial in material.trials), key=_shuffled)
        self.chosen = set(ordered[: options.quality_trials or None])
        self.facts: dict[str, Any] = {}

    def score(self, trial: Mapping[str, Any]) -> list[Score]:
        wave = self.material.converted_wave(trial)
        if trial["trial_id"] in self.chosen:
            values, note = self.judged(wave), ""
        else:
            values = dict.fromkeys(self.metrics, float("nan"))
            note = f"not among the evaluation.quality_trials = {len(self.chosen)} that are judged"
        scores = [self._score(name, value, note) for name, value in values.items()]
        return [*scores, *self._opinions(wave, ""), self._distortion(trial, wave)]

    def _opinions(self, wave: np.ndarray | None, note: str) -> list[Score]:
        """Of a wave, or of none where the conversion failed."""
        found = []
        for opinion, judged in self.opinions:
            values = dict.fromkeys(opinion.metrics, float("nan")) if wave is None else judged(wave)
            made = opinion.model, opinion.weights_sha256
            found += [Score(name, value, f"{name}@1", *made, note=note) for name, value in values.items()]
        return found

    def _distortion(self, trial: Mapping[str, Any], wave: np.ndarray) -> Score:
        from bowerbird.metrics.distortion import MODEL, mel_cepstral_distortion

        value, note = float("nan"), ""
        if trial["spoken_utt"] != trial["source_utt"]:
            note = SAYS_OTHER_WORDS
        elif not trial["parallel_utt"]:
            note = "the target does not say this sentence"
        else:
            value = mel_cepstral_distortion(wave, self.material.corpus_wave(trial["parallel_utt"]))
        return Score("mcd", value, "mcd@1", MODEL, note=note)

    def failed(self, trial: Mapping[str, Any]) -> list[Score]:
        from bowerbird.metrics.distortion import MODEL

        note, nothing = failure(trial), float("nan")
        scores = [self._score(name, nothing, note) for name in self.metrics]
        return [*scores, *self._opinions(None, note), Score("mcd", nothing, "mcd@1", MODEL, note=note)]

    def _score(self, name: str, value: float, note: str) -> Score:
        return Score(name, value, f"{name}@1", self.model, self.weights, note=note)


def _shuffled(trial_id: str) -> bytes:
    """A key that puts trials in an order that has nothing to do with their names."""
    return hashlib.sha256(trial_id.encode()).digest()
