"""Who judges the words: errors in words and characters, and which sentence was recognized."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from bowerbird.artifacts.identity import Identity, RunRecord, inputs_digest
from bowerbird.artifacts.shards import Shards
from bowerbird.artifacts.tables import TRANSCRIPTS, read_table, write_table
from bowerbird.audio import int16_to_float
from bowerbird.config.sections.evaluation import EvaluationConfig
from bowerbird.config.sections.runtime import RuntimeConfig
from bowerbird.errors import BowerbirdError
from bowerbird.metrics.score import Score
from bowerbird.stages.evaluation import VERSION
from bowerbird.stages.evaluation.trial_data import SAYS_OTHER_WORDS, Material, failure, once_a_wave

SPOKEN = ("heldout_utt", "random_speaker_utt")  # besides the source's, what anchors say


class IntelligibilityJudge:
    """Error counts in words and characters, and which sentence was recognized out of those of all trials."""

    def __init__(self, options: EvaluationConfig, material: Material) -> None:
        from bowerbird.encoders.recognizer import load_recognizer
        from bowerbird.metrics.intelligibility import load_normalizer, normalizer_id

        self.material, self.normalize = material, load_normalizer(options.normalizer)
        self.normalizer = normalizer_id(options.normalizer)
        self.recognizer = load_recognizer(options.asr, options.asr_revision)
        self.identity = self.recognizer.describe()
        self.transcribe = once_a_wave(lambda wave: self.recognizer.transcribe([wave])[0])
        self.heard_in_source = self._sources(material)
        self.closed = closed = self._closed_set(material) if options.closed_set else None
        self.recognize = once_a_wave(lambda wave: closed.recognize([wave])[0] if closed else "")
        self.facts: dict[str, Any] = {}

    def _sources(self, material: Material) -> dict[str, str] | None:
        """What this very recognizer hears in each source; None where nobody asked it."""
        if material.transcripts is None:
            return None
        table = read_table(material.transcripts)
        others = table[
            (table["model"] != self.identity.model) | (table["weights_sha256"] != self.identity.weights_sha256)
        ]
        if len(others):
            raise BowerbirdError(
                f"{material.transcripts}: heard by {others['model'].iloc[0]!r}, not by {self.identity.model!r}; "
                "transcribe the sources with the recognizer that judges"
            )
        return dict(zip(table["utt_id"], table["text"], strict=True))

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
        """Nothing was said: every word is deleted, no sentence recognized."""
        note = failure(trial)
        return [*self._errors(trial, None, note), *self._closed(trial, None, note)]

    def _errors(self, trial: Mapping[str, Any], wave: np.ndarray | None, note: str) -> list[Score]:
        reference = self.normalize(self.material.spoken_text(trial))
        unspoken = ""
        if not self.recognizer.speaks(trial["language"]):
            unspoken = f"language {trial['language']!r}: {self.identity.model.split()[0]} does not recognize it"
        heard = "" if wave is None or unspoken else self.transcribe(wave)
        said = self.normalize(heard)
        unscored = unspoken or ("" if any(map(str.isalnum, reference)) else "no reference text")
        scores = self._counted(reference, said, "word", unscored, note, {"rate": "mwer"}, heard)
        scores += self._counted(reference, said, "char", unscored, note, {"rate": "mcer"})
        if self.heard_in_source is None:
            return scores
        own = self.normalize(self.heard_in_source.get(trial["source_utt"], ""))
        missing = "" if any(map(str.isalnum, own)) else "nothing was heard in the source"
        if trial["spoken_utt"] != trial["source_utt"]:
            missing = SAYS_OTHER_WORDS
        return scores + self._counted(own, said, "word", unspoken or missing, note, {"prefix": "d"})

    def _counted(
        self, reference: str, said: str, unit: str, unscored: str, note: str, names: Mapping[str, str], text: str = ""
    ) -> list[Score]:
        """Counts of errors in ``unit``, and the utterance's own rate where it has a name."""
        from bowerbird.metrics.intelligibility import count_errors

        values = dict.fromkeys(("hits", "substitutions", "deletions", "insertions"), float("nan"))
        rate = float("nan")
        if not unscored:
            counts = count_errors(reference, said, unit)
            values, rate = asdict(counts), counts.rate
        named = {f"{names.get('prefix', '')}{unit}_{name}": value for name, value in values.items()}
        if "rate" in names:
            named[names["rate"]] = rate
        return [
            Score(
                metric=name,
                value=float(value),
                definition=f"{name}@1",
                model=self.identity.model,
                weights_sha256=self.identity.weights_sha256,
                normalizer=self.normalizer,
                note=unscored or note,
                text=text if name == names.get("rate") else "",
            )
            for name, value in named.items()
        ]

    def _closed(self, trial: Mapping[str, Any], wave: np.ndarray | None, note: str) -> list[Score]:
        if self.closed is None:
            return []
        text, identity = self.material.spoken_text(trial), self.closed.describe()
        unscored = (
            "" if self.closed.knows(text) else "the sentence is not in the grammar, or not apart from another one"
        )
        if not _english(trial):
            unscored = f"language {trial['language']!r}: the grammar is English"
        heard = "" if wave is None or unscored else self.recognize(wave)
        return [
            Score(
                metric="sentence_accuracy",
                value=float("nan") if unscored else float(heard == text),
                definition="sentence_accuracy@1",
                model=identity.model,
                weights_sha256=identity.weights_sha256,
                note=unscored or note or ("" if heard else "no sentence recognized"),
                text=heard,
            )
        ]


def _english(trial: Mapping[str, Any]) -> bool:
    return trial["language"].lower().split("-")[0] == "en"


def transcribe_sources(
    trials: Path, audio: list[Path], output: Path, options: EvaluationConfig, runtime: RuntimeConfig
) -> None:
    """What the recognizer hears in each source utterance, once for all experiments: the reference of dWER."""
    from bowerbird.encoders.recognizer import load_recognizer

    torch.set_num_threads(runtime.threads)
    with RunRecord(device="cpu", dtype="float32") as record:
        table, shards = read_table(trials), Shards(audio, "num_samples")
        recognizer = load_recognizer(options.asr, options.asr_revision)
        made = recognizer.describe()
        rows = []
        for trial in table.drop_duplicates("source_utt").sort_values("source_utt").to_dict("records"):
            text = ""
            if recognizer.speaks(trial["language"]):
                text = recognizer.transcribe([int16_to_float(np.array(shards[trial["source_utt"]]))])[0]
            rows.append((trial["source_utt"], text, made.model, made.weights_sha256))
        params = {"asr": options.asr, "asr_revision": options.asr_revision}
        inputs = {"trials": inputs_digest([trials]), "audio": inputs_digest(audio)}
        identity = Identity("evaluation", VERSION, params, inputs)
        record.write(output, identity)
        write_table(output, pd.DataFrame(rows, columns=TRANSCRIPTS.names), identity, TRANSCRIPTS)
