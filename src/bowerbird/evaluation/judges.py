"""Who judges: one class a family of metrics, each with the models it needs, loaded once for all trials."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from bowerbird.artifacts import BowerbirdError, file_sha256
from bowerbird.audio import int16_to_float, read_audio
from bowerbird.config import EvaluationConfig
from bowerbird.metrics import Score
from bowerbird.tables import Shards, read_table

T = TypeVar("T")


@dataclass(frozen=True)
class Material:
    """What judges look at: the trials with their conversions, the corpus's speech and texts."""

    folder: Path
    trials: list[dict[str, Any]]
    texts: Mapping[str, str]
    audio: Shards

    @classmethod
    def load(cls, conversion: Path, trials: Path, manifest: Path, audio: list[Path]) -> Material:
        """Read and check that the conversions are of these trials, all of them, and that no file was changed."""
        converted, listed = read_table(conversion), read_table(trials)
        missing = sorted(set(listed["trial_id"]) ^ set(converted["trial_id"]))
        if missing:
            raise BowerbirdError(
                f"{conversion}: {len(missing)} trials are not the ones of {trials} (first: {missing[0]}); convert again"
            )
        texts = read_table(manifest, ["utt_id", "text"]).set_index("utt_id")["text"].to_dict()
        return cls(conversion.parent, converted.to_dict("records"), texts, Shards(audio, "num_samples"))

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


SPOKEN = ("heldout_utt", "random_speaker_utt")  # besides the source's, what anchors say


def once_a_wave(function: Callable[[np.ndarray], T]) -> Callable[[np.ndarray], T]:
    """``function`` of a wave ``(samples,)``, remembered: anchors say the same recording in several trials."""
    known: dict[bytes, T] = {}

    def remembering(wave: np.ndarray) -> T:
        key = hashlib.sha256(np.ascontiguousarray(wave).tobytes()).digest()
        if key not in known:
            known[key] = function(wave)
        return known[key]

    return remembering


class Judge(Protocol):
    """One family of metrics."""

    def score(self, trial: Mapping[str, Any]) -> Iterable[Score]:
        """Scores of a converted trial."""

    def failed(self, trial: Mapping[str, Any]) -> Iterable[Score]:
        """Scores of a trial whose conversion failed: the worst where there is a worst, else NaN with a note."""


def _failure(trial: Mapping[str, Any]) -> str:
    return f"conversion failed: {trial['error']}"


class IntelligibilityJudge:
    """Error counts in words and characters, and which sentence was recognised out of those of all trials."""

    def __init__(self, options: EvaluationConfig, material: Material) -> None:
        from bowerbird.encoders.recognizer import load_recognizer
        from bowerbird.metrics.intelligibility import load_normalizer, normalizer_id

        self.material, self.normalize = material, load_normalizer(options.normalizer)
        self.normalizer = normalizer_id(options.normalizer)
        self.recognizer = load_recognizer(options.asr, options.asr_revision)
        self.identity = self.recognizer.describe()
        self.transcribe = once_a_wave(lambda wave: self.recognizer.transcribe([wave])[0])
        self.closed = closed = self._closed_set(material) if options.closed_set else None
        self.recognise = once_a_wave(lambda wave: closed.recognise([wave])[0] if closed else "")

    def _closed_set(self, material: Material) -> Any:
        """Over all sentences a system or an anchor could say in these trials: the same set for every experiment."""
        from bowerbird.encoders.recognizer import ClosedSetRecognizer

        texts = {material.texts.get(trial[name], "") for trial in material.trials if _english(trial) for name in SPOKEN}
        texts |= {trial["text"] for trial in material.trials if _english(trial)}
        return ClosedSetRecognizer(sorted(texts - {""})) if texts - {""} else None

    def score(self, trial: Mapping[str, Any]) -> list[Score]:
        wave = self.material.converted_wave(trial)
        return [*self._errors(trial, wave, ""), *self._closed(trial, wave, "")]

    def failed(self, trial: Mapping[str, Any]) -> list[Score]:
        """Nothing was said: every word is deleted, no sentence recognised."""
        note = _failure(trial)
        return [*self._errors(trial, None, note), *self._closed(trial, None, note)]

    def _errors(self, trial: Mapping[str, Any], wave: np.ndarray | None, note: str) -> list[Score]:
        from bowerbird.metrics.intelligibility import UNITS, count_errors

        reference = self.normalize(self.material.spoken_text(trial))
        unscored = "" if any(map(str.isalnum, reference)) else "no reference text"
        if not self.recognizer.speaks(trial["language"]):
            unscored = f"language {trial['language']!r}: {self.identity.model.split()[0]} does not recognise it"
        heard = "" if wave is None or unscored else self.transcribe(wave)
        scores = []
        for unit in UNITS:
            values = dict.fromkeys(("hits", "substitutions", "deletions", "insertions"), float("nan"))
            rate = float("nan")
            if not unscored:
                counts = count_errors(reference, self.normalize(heard), unit)
                values, rate = asdict(counts), counts.rate
            named = {f"{unit}_{name}": value for name, value in values.items()}
            named["wer_utterance" if unit == "word" else "cer_utterance"] = rate
            scores += [
                Score(
                    metric=name,
                    value=float(value),
                    definition=f"{name}@1",
                    model=self.identity.model,
                    weights_sha256=self.identity.weights_sha256,
                    normalizer=self.normalizer,
                    note=unscored or note,
                    text=heard if name == "wer_utterance" else "",
                )
                for name, value in named.items()
            ]
        return scores

    def _closed(self, trial: Mapping[str, Any], wave: np.ndarray | None, note: str) -> list[Score]:
        if self.closed is None:
            return []
        text, identity = self.material.spoken_text(trial), self.closed.describe()
        unscored = (
            "" if self.closed.knows(text) else "the sentence is not in the grammar, or not apart from another one"
        )
        if not _english(trial):
            unscored = f"language {trial['language']!r}: the grammar is English"
        heard = "" if wave is None or unscored else self.recognise(wave)
        return [
            Score(
                metric="sentence_accuracy",
                value=float("nan") if unscored else float(heard == text),
                definition="sentence_accuracy@1",
                model=identity.model,
                weights_sha256=identity.weights_sha256,
                note=unscored or note or ("" if heard else "no sentence recognised"),
                text=heard,
            )
        ]


def _english(trial: Mapping[str, Any]) -> bool:
    return trial["language"].lower().split("-")[0] == "en"


class SpeakerJudge:
    """Cosines to the held-out target, to the references and to the source."""

    METRICS = ("secs", "secs_prompt", "src", "margin", "nearer_target")

    def __init__(self, options: EvaluationConfig, material: Material) -> None:
        from bowerbird.encoders.speaker import load_verifier

        self.material = material
        self.verifier = load_verifier(options.verifier)
        self.identity = self.verifier.describe()
        self.embedding = functools.cache(self._corpus_embedding)
        self._embed = once_a_wave(lambda wave: np.asarray(self.verifier.embed([wave])[0]))

    def _corpus_embedding(self, utt_id: str) -> np.ndarray:
        return self._embed(self.material.corpus_wave(utt_id))

    def score(self, trial: Mapping[str, Any]) -> list[Score]:
        from bowerbird.metrics.speaker import similarity_scores

        judge_utt, note = trial["heldout_utt"], ""
        if trial["spoken_utt"] == judge_utt:  # an utterance compared with itself would score 1, whatever the verifier
            judge_utt = trial["reference_utts"][0]
            note = "the conversion is the held-out utterance: compared with the first reference instead"
        values = similarity_scores(
            converted=self._embed(self.material.converted_wave(trial)),
            heldout=self.embedding(judge_utt),
            references=[self.embedding(utt_id) for utt_id in trial["reference_utts"]],
            source=self.embedding(trial["source_utt"]),
        )
        return [self._score(name, value, note) for name, value in values.items()]

    def failed(self, trial: Mapping[str, Any]) -> list[Score]:
        return [self._score(name, float("nan"), _failure(trial)) for name in self.METRICS]

    def _score(self, name: str, value: float, note: str) -> Score:
        return Score(name, value, f"{name}@1", self.identity.model, self.identity.weights_sha256, note=note)


class ProsodyJudge:
    """Pitch and voicing against the source's."""

    METRICS = ("f0_pcc", "f0_rmse_centred", "vuv_f1")

    def __init__(self, options: EvaluationConfig, material: Material) -> None:
        from bowerbird.metrics.prosody import PitchDetector, detector_identity

        self.material, self.detector = material, PitchDetector()
        self.model, self.weights = detector_identity()
        self.track = once_a_wave(self.detector.track)
        self.source_track = functools.cache(lambda utt_id: self.detector.track(material.corpus_wave(utt_id)))

    def score(self, trial: Mapping[str, Any]) -> list[Score]:
        from bowerbird.metrics.prosody import prosody_scores

        if trial["spoken_utt"] != trial["source_utt"]:
            return self._missing("says other words than the source")
        track = self.track(self.material.converted_wave(trial))
        values, note = prosody_scores(track, self.source_track(trial["source_utt"]))
        return [self._score(name, value, note if np.isnan(value) else "") for name, value in values.items()]

    def failed(self, trial: Mapping[str, Any]) -> list[Score]:
        return self._missing(_failure(trial))

    def _missing(self, note: str) -> list[Score]:
        return [self._score(name, float("nan"), note) for name in self.METRICS]

    def _score(self, name: str, value: float, note: str) -> Score:
        return Score(name, value, f"{name}@1", self.model, self.weights, note=note)


class QualityJudge:
    """Estimated opinion scores without a reference."""

    def __init__(self, options: EvaluationConfig, material: Material) -> None:
        from bowerbird.metrics import quality

        self.material, self.judge, self.metrics = material, quality.QualityJudge(), tuple(quality.METRICS)
        self.model, self.weights = quality.judge_identity()
        self.judged = once_a_wave(self.judge.score)
        ordered = sorted((str(trial["trial_id"]) for trial in material.trials), key=_shuffled)
        self.chosen = set(ordered[: options.quality_trials or None])

    def score(self, trial: Mapping[str, Any]) -> list[Score]:
        if trial["trial_id"] not in self.chosen:
            note = f"not among the evaluation.quality_trials = {len(self.chosen)} that are judged"
            return [self._score(name, float("nan"), note) for name in self.metrics]
        values = self.judged(self.material.converted_wave(trial))
        return [self._score(name, value, "") for name, value in values.items()]

    def failed(self, trial: Mapping[str, Any]) -> list[Score]:
        return [self._score(name, float("nan"), _failure(trial)) for name in self.metrics]

    def _score(self, name: str, value: float, note: str) -> Score:
        return Score(name, value, f"{name}@1", self.model, self.weights, note=note)


def _shuffled(trial_id: str) -> bytes:
    """A key that puts trials in an order that has nothing to do with their names."""
    return hashlib.sha256(trial_id.encode()).digest()


# family -> (judge, the options it depends on)
FAMILIES: dict[str, tuple[Any, tuple[str, ...]]] = {
    "intelligibility": (IntelligibilityJudge, ("asr", "asr_revision", "normalizer", "closed_set")),
    "speaker": (SpeakerJudge, ("verifier",)),
    "prosody": (ProsodyJudge, ()),
    "quality": (QualityJudge, ("quality_trials",)),
}
