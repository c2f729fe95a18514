"""Who judges the voice: one verifier, or two side by side, each with its own threshold."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from bowerbird.config.sections.evaluation import EvaluationConfig
from bowerbird.metrics.score import Score
from bowerbird.stages.evaluation.aggregate import NO_SECOND
from bowerbird.stages.evaluation.trial_data import Material, failure, once_a_wave


class SpeakerJudge:
    """Cosines to the held-out target, to the references, to the source and to a third speaker."""

    def __init__(self, options: EvaluationConfig, material: Material) -> None:
        self.voices = [Voice(options.verifier, "", material)]
        if options.second_verifier:
            self.voices.append(Voice(options.second_verifier, "_second", material))

    @property
    def facts(self) -> dict[str, Any]:
        """Both verifiers by name, or that there is one only."""
        names = [voice.identity.model for voice in self.voices]
        return {"verifiers": {"first": names[0], "second": names[1] if len(names) > 1 else NO_SECOND}}

    def score(self, trial: Mapping[str, Any]) -> list[Score]:
        return [score for voice in self.voices for score in voice.score(trial)]

    def failed(self, trial: Mapping[str, Any]) -> list[Score]:
        return [score for voice in self.voices for score in voice.failed(trial)]


class Voice:
    """One verifier; its metrics bear a suffix."""

    METRICS = (
        "secs",
        "secs_prompt",
        "src",
        "margin",
        "nearer_target",
        "secs_gain",
        "secs_span",
        "secs_real",
        "secs_other",
        "acc_eer",
    )

    def __init__(self, spec: str, suffix: str, material: Material) -> None:
        from bowerbird.encoders.speaker import load_verifier

        self.material, self.suffix = material, suffix
        self.verifier = load_verifier(spec)
        self.identity = self.verifier.describe()
        self.embedding = functools.cache(self._corpus_embedding)
        self._embed = once_a_wave(lambda wave: np.asarray(self.verifier.embed([wave])[0]))
        ordered = sorted(material.trials, key=lambda trial: str(trial["trial_id"]).encode())
        self.known_of = {trial["target_speaker"]: trial["heldout_utt"] for trial in reversed(ordered)}

    def _corpus_embedding(self, utt_id: str) -> np.ndarray:
        return self._embed(self.material.corpus_wave(utt_id))

    @functools.cached_property
    def threshold(self) -> tuple[float, str]:
        """The verifier's own threshold on real speech of the list, and how it came about."""
        from bowerbird.metrics.statistics import eer_threshold

        genuine, impostor = set(), set()
        for trial in self.material.trials:
            genuine |= {(utt_id, trial["heldout_utt"]) for utt_id in trial["reference_utts"]}
            impostor.add((trial["source_utt"], trial["heldout_utt"]))
        accepted, refused = (np.array([self._cosine(a, b) for a, b in sorted(pairs)]) for pairs in (genuine, impostor))
        value, rate = eer_threshold(accepted, refused)
        how = f"EER {100 * rate:.2f} % of {len(accepted)} genuine and {len(refused)} impostor pairs"
        return value, f"threshold {value:.6f} ({how})"

    def _cosine(self, one: str, other: str) -> float:
        from bowerbird.metrics.speaker import cosine

        return cosine(self.embedding(one), self.embedding(other))

    def score(self, trial: Mapping[str, Any]) -> list[Score]:
        from bowerbird.metrics.speaker import cosine, similarity_scores

        judge_utt, note = trial["heldout_utt"], ""
        if trial["spoken_utt"] == judge_utt:  # an utterance compared with itself would score 1, whatever the verifier
            judge_utt = trial["reference_utts"][0]
            note = "the conversion is the held-out utterance: compared with the first reference instead"
        converted = self._embed(self.material.converted_wave(trial))
        values = similarity_scores(
            converted=converted,
            heldout=self.embedding(judge_utt),
            references=[self.embedding(utt_id) for utt_id in trial["reference_utts"]],
            source=self.embedding(trial["source_utt"]),
        )
        real = next(u for u in (*trial["reference_utts"], trial["heldout_utt"]) if u != judge_utt)
        start, best = self._cosine(trial["source_utt"], judge_utt), self._cosine(real, judge_utt)
        third, missing = self._third(trial)
        values |= {
            "secs_gain": values["secs"] - start,
            "secs_span": best - start,
            "secs_real": best,
            "secs_other": float("nan") if missing else cosine(converted, self.embedding(third)),
            "acc_eer": float(values["secs"] >= self.threshold[0]),
        }
        return [self._score(name, value, missing if np.isnan(value) else note) for name, value in values.items()]

    def _third(self, trial: Mapping[str, Any]) -> tuple[str, str]:
        """An utterance of the trial's third speaker that is not the conversion itself, or why there is none."""
        drawn = trial["random_speaker_utt"]
        third = self.known_of.get(self.material.speakers.get(drawn, ""), drawn)
        if third == trial["spoken_utt"]:
            return "", "the third speaker has no other utterance in the trials"
        return third, ""

    def failed(self, trial: Mapping[str, Any]) -> list[Score]:
        """Not accepted, and without a cosine; the real pair needs no conversion and is there."""
        real = self._cosine(trial["reference_utts"][0], trial["heldout_utt"])
        values = {**dict.fromkeys(self.METRICS, float("nan")), "acc_eer": 0.0, "secs_real": real}
        return [self._score(name, value, failure(trial)) for name, value in values.items()]

    def _score(self, name: str, value: float, note: str) -> Score:
        metric, model = f"{name}{self.suffix}", self.identity.model
        if name == "acc_eer":
            model = f"{model}, {self.threshold[1]}"
        return Score(metric, value, f"{metric}@1", model, self.identity.weights_sha256, note=note)
