"""Family *quality*: estimated opinion scores without a reference, and distortion against parallel speech.

Letters: ``N`` samples.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np

from bowerbird.config.sections.evaluation import EvaluationConfig
from bowerbird.encoders.checkpoint import ModelIdentity
from bowerbird.metrics.distill_mos import DistillMosScorer
from bowerbird.metrics.distortion import MODEL, mel_cepstral_distortion
from bowerbird.metrics.opinion import OpinionScorer
from bowerbird.metrics.quality import OUTPUTS, DnsmosScorer
from bowerbird.metrics.registry import definition_of
from bowerbird.metrics.score import Score
from bowerbird.stages.evaluation.trial_data import OTHER_WORDS, Scorer, Trial, TrialData, cached_by_wave, failure_note

NO_OPINION = "the model has no value for this wave"  # Distill-MOS for silence


class QualityScorer(Scorer):
    """DNSMOS of all or some trials, other opinion scores of all, and distortion where the target says the source's words."""

    def __init__(self, options: EvaluationConfig, data: TrialData) -> None:
        self.data, dnsmos = data, DnsmosScorer()
        self.dnsmos, self.dnsmos_identity = cached_by_wave(dnsmos.score), dnsmos.describe()
        opinions: list[DistillMosScorer | OpinionScorer] = [DistillMosScorer()] if options.distill_mos else []
        opinions += [OpinionScorer(name, folder) for name, folder in sorted(options.opinions.items())]
        self.opinions = [(opinion, cached_by_wave(opinion.score)) for opinion in opinions]
        trial_ids = [str(trial["trial_id"]) for trial in data.trials]
        self.chosen = set(sorted(trial_ids, key=_mixed_order)[: options.quality_trials or None])

    def score(self, trial: Trial) -> list[Score]:
        """DNSMOS, further opinion scores and distortion."""
        wave = self.data.converted_wave(trial)
        if trial["trial_id"] in self.chosen:
            values, note = self.dnsmos(wave), ""
        else:
            values = dict.fromkeys(OUTPUTS, math.nan)
            note = f"not among the evaluation.quality_trials = {len(self.chosen)} that are scored"
        scores = _model_scores(values, self.dnsmos_identity, note)
        return [*scores, *self._opinion_scores(wave, ""), self._distortion(trial, wave)]

    def failed(self, trial: Trial) -> list[Score]:
        """No values."""
        note = failure_note(trial)
        scores = _model_scores(dict.fromkeys(OUTPUTS, math.nan), self.dnsmos_identity, note)
        return [
            *scores,
            *self._opinion_scores(None, note),
            Score("mcd", math.nan, definition_of("mcd"), MODEL, note=note),
        ]

    def _opinion_scores(self, wave: np.ndarray | None, note: str) -> list[Score]:
        """Rows of every opinion model of a wave ``(N,)``; without values where there is no wave."""
        scores = []
        for opinion, score_wave in self.opinions:
            values = dict.fromkeys(opinion.metrics, math.nan) if wave is None else score_wave(wave)
            is_missing = any(math.isnan(value) for value in values.values())
            scores += _model_scores(values, opinion.describe(), note or (NO_OPINION if is_missing else ""))
        return scores

    def _distortion(self, trial: Trial, wave: np.ndarray) -> Score:
        """Distortion of the wave ``(N,)`` against the target saying the same sentence."""
        value, note = math.nan, ""
        if trial["spoken_utt"] != trial["source_utt"]:
            note = OTHER_WORDS
        elif not trial["parallel_utt"]:
            note = "the target does not say this sentence"
        else:
            value = mel_cepstral_distortion(wave, self.data.corpus_wave(trial["parallel_utt"]))
        return Score("mcd", value, definition_of("mcd"), MODEL, note=note)


SCORER = QualityScorer


def _model_scores(values: dict[str, float], identity: ModelIdentity, note: str) -> list[Score]:
    """One row per metric of a model."""
    model, weights = identity.model, identity.weights_sha256
    return [Score(metric, value, definition_of(metric), model, weights, note=note) for metric, value in values.items()]


def _mixed_order(trial_id: str) -> bytes:
    """A key that puts trials in an order unrelated to their speakers, the same for all experiments."""
    return hashlib.sha256(trial_id.encode()).digest()
