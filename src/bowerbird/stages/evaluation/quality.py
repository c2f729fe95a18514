"""Family *quality*."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from bowerbird.config.sections.evaluation import EvaluationConfig
from bowerbird.metrics.score import Score
from bowerbird.stages.evaluation.trial_data import SAYS_OTHER_WORDS, Material, failure, once_a_wave


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
