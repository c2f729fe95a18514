"""Family *speaker*: similarity by one verifier, or by two side by side, each with its own threshold."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from bowerbird.config.sections.evaluation import EvaluationConfig
from bowerbird.encoders.verifiers import load_verifier
from bowerbird.metrics.registry import SECOND, definition_of, trial_rows
from bowerbird.metrics.score import Score
from bowerbird.metrics.speaker import cosine, similarity_scores
from bowerbird.metrics.statistics import eer_threshold
from bowerbird.stages.evaluation.aggregate import NO_SECOND
from bowerbird.stages.evaluation.trial_data import Scorer, Trial, TrialData, cached_by_wave, failure_note


class SpeakerScorer(Scorer):
    """Cosines to the held-out target, to the references, to the source and to a third speaker, by each verifier."""

    def __init__(self, options: EvaluationConfig, data: TrialData) -> None:
        self.verifiers = [VerifierScorer(options.verifier, "", data)]
        if options.second_verifier:
            self.verifiers.append(VerifierScorer(options.second_verifier, SECOND, data))

    @property
    def stats(self) -> dict[str, Any]:
        """Both verifiers by name, or that there is one only."""
        names = [verifier.identity.model for verifier in self.verifiers]
        return {"verifiers": {"first": names[0], "second": names[1] if len(names) > 1 else NO_SECOND}}

    def score(self, trial: Trial) -> list[Score]:
        """The rows of each verifier."""
        return [score for verifier in self.verifiers for score in verifier.score(trial)]

    def failed(self, trial: Trial) -> list[Score]:
        """The rows of each verifier: not accepted, and without a cosine of the conversion."""
        return [score for verifier in self.verifiers for score in verifier.failed(trial)]


class VerifierScorer:
    """The rows of one verifier, whose names end in ``suffix``."""

    def __init__(self, spec: str, suffix: str, data: TrialData) -> None:
        self.data, self.suffix = data, suffix
        self.verifier = load_verifier(spec)
        self.identity = self.verifier.describe()
        self.embed = cached_by_wave(lambda wave: np.asarray(self.verifier.embed([wave])[0]))
        self.corpus_embedding = functools.cache(lambda utt_id: self.embed(data.corpus_wave(utt_id)))
        ordered = sorted(data.trials, key=lambda trial: str(trial["trial_id"]).encode())
        self.heldout_of = {trial["target_speaker"]: trial["heldout_utt"] for trial in reversed(ordered)}

    @functools.cached_property
    def threshold(self) -> tuple[float, str]:
        """The verifier's own threshold on real speech of the list, and how it was found."""
        genuine, impostor = set(), set()
        for trial in self.data.trials:
            genuine |= {(utt_id, trial["heldout_utt"]) for utt_id in trial["reference_utts"]}
            impostor.add((trial["source_utt"], trial["heldout_utt"]))
        accepted, rejected = (np.array([self.cosine(*pair) for pair in sorted(pairs)]) for pairs in (genuine, impostor))
        value, rate = eer_threshold(accepted, rejected)
        how = f"EER {100 * rate:.2f} % of {len(accepted)} genuine and {len(rejected)} impostor pairs"
        return value, f"threshold {value:.6f} ({how})"

    def cosine(self, one: str, other: str) -> float:
        """The cosine of two utterances of the corpus."""
        return cosine(self.corpus_embedding(one), self.corpus_embedding(other))

    def score(self, trial: Trial) -> list[Score]:
        """All cosines of a conversion, and whether it is accepted as the target."""
        compared, note = trial["heldout_utt"], ""
        if trial["spoken_utt"] == compared:  # an utterance compared with itself would score 1, whatever the verifier
            compared = trial["reference_utts"][0]
            note = "the conversion is the held-out utterance: compared with the first reference instead"
        converted = self.embed(self.data.converted_wave(trial))
        values = similarity_scores(
            converted=converted,
            heldout=self.corpus_embedding(compared),
            references=[self.corpus_embedding(utt_id) for utt_id in trial["reference_utts"]],
            source=self.corpus_embedding(trial["source_utt"]),
        )
        real = next(u for u in (*trial["reference_utts"], trial["heldout_utt"]) if u != compared)
        start, best = self.cosine(trial["source_utt"], compared), self.cosine(real, compared)
        other, reason = self._other_speaker(trial)
        values |= {
            "secs_gain": values["secs"] - start,
            "secs_span": best - start,
            "secs_real": best,
            "secs_other": math.nan if reason else cosine(converted, self.corpus_embedding(other)),
            "acc_eer": float(values["secs"] >= self.threshold[0]),
        }
        return [self._score(name, value, reason if np.isnan(value) else note) for name, value in values.items()]

    def failed(self, trial: Trial) -> list[Score]:
        """Not accepted, and without a cosine of the conversion; that of real speech needs no conversion."""
        real = self.cosine(trial["reference_utts"][0], trial["heldout_utt"])
        values = {**dict.fromkeys(trial_rows("speaker"), math.nan), "acc_eer": 0.0, "secs_real": real}
        return [self._score(name, value, failure_note(trial)) for name, value in values.items()]

    def _other_speaker(self, trial: Trial) -> tuple[str, str]:
        """An utterance of the trial's third speaker that is not the conversion itself, or why there is none."""
        drawn: str = trial["random_speaker_utt"]
        utt_id = self.heldout_of.get(self.data.speakers.get(drawn, ""), drawn)
        if utt_id == trial["spoken_utt"]:
            return "", "the third speaker has no other utterance in the trials"
        return utt_id, ""

    def _score(self, name: str, value: float, note: str) -> Score:
        metric, model = f"{name}{self.suffix}", self.identity.model
        if name == "acc_eer":
            model = f"{model}, {self.threshold[1]}"
        return Score(metric, value, definition_of(metric), model, self.identity.weights_sha256, note=note)


SCORER = SpeakerScorer
