"""`convert-trials`: trials to waveforms, one FLAC per trial and a table beside them.

Each file bears the hash of its own recipe (system, models, trial, loudness), so a run that was killed goes on where it
stopped, and a file of another recipe is made again. A trial that cannot be converted is recorded with its error and
counted; it never disappears.
"""

from __future__ import annotations

import functools
import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from bowerbird.artifacts.identity import Identity, RunRecord, input_digests
from bowerbird.artifacts.models import model_files
from bowerbird.artifacts.shards import Shards, open_spaces
from bowerbird.artifacts.tables import CONVERSIONS, read_table, write_table
from bowerbird.audio import HOP, SAMPLE_RATE, int16_to_float
from bowerbird.config.sections.conversion import ConversionConfig
from bowerbird.config.sections.runtime import RuntimeConfig
from bowerbird.config.systems.base import ExperimentBase
from bowerbird.config.systems.registry import Experiment
from bowerbird.encoders.checkpoint import parse_model_folders
from bowerbird.errors import BowerbirdError, explain_fault
from bowerbird.nn.device import pick_device
from bowerbird.nn.keys import join_spaces
from bowerbird.stages.conversion import VERSION
from bowerbird.stages.conversion.waveforms import match_loudness, read_kept, write_conversion
from bowerbird.systems.base import System, Utterance
from bowerbird.systems.load import load_system

logger = logging.getLogger(__name__)
NO_FILES: list[Path] = []
NO_MODELS: list[str] = []
DEFAULT_OPTIONS, DEFAULT_RUNTIME = ConversionConfig(), RuntimeConfig()


def convert_trials(
    manifest: Path,
    trials: Path,
    audio: list[Path],
    output: Path,
    experiment: Experiment,
    features: list[Path] = NO_FILES,
    phones: list[Path] = NO_FILES,
    search_keys: list[Path] = NO_FILES,
    models: list[str] = NO_MODELS,
    options: ConversionConfig = DEFAULT_OPTIONS,
    runtime: RuntimeConfig = DEFAULT_RUNTIME,
) -> None:
    """Convert every trial with one experiment: one FLAC per trial, and the table ``output`` beside them.

    ``models`` are ``role=folder``. A trial whose FLAC is there with the same recipe is not converted again.
    """
    torch.set_num_threads(runtime.threads)
    record = RunRecord(device=str(pick_device(runtime.device)), dtype="float32")
    folders = parse_model_folders(models)
    spoken = {"audio": audio, "features": features, "phones": phones, "search_keys": search_keys}
    inputs = input_digests({**spoken, **{role: model_files(folder) for role, folder in folders.items()}})
    params = {**experiment.conversion_params(), **options.model_dump()}
    tables = {"manifest": [manifest], "trials": [trials]}
    identity = Identity("conversion", VERSION, params, {**input_digests(tables), **inputs})
    rows = read_trials(trials).to_dict("records")
    speech = TrialSpeech.open(spoken, torch.device(record.device), experiment.key_weights())
    system = load_chunked(experiment, folders, speech.device, options.max_chunk_s)
    converter = TrialConverter(system, experiment, options, speech, output.parent)
    results = []
    for trial in rows:
        recipe = Identity("conversion", VERSION, {**params, "trial": trial_recipe(trial)}, inputs).hash
        results.append({**trial, **converter.run(trial, recipe)})
        if len(results) % 50 == 0 or len(results) == len(rows):
            logger.info("%s: %d of %d trials", output.parent.name, len(results), len(rows))
    failed = check_failures(results, output)
    record.extra |= {"trials": dict(Counter(row["status"] for row in results)), **converter.clock.as_dict()}
    record.write(output, identity)
    write_table(output, pd.DataFrame(results), identity, CONVERSIONS, extra={"failed": len(failed)})


def read_trials(path: Path) -> pd.DataFrame:
    """The table of trials; an error if it has none."""
    rows = read_table(path)
    if rows.empty:
        raise BowerbirdError(f"{path}: no trials; see what `bowerbird list-trials` prints")
    return rows


def check_failures(results: Sequence[Mapping[str, Any]], output: Path) -> list[Mapping[str, Any]]:
    """The rows of failed trials, each with a warning; an error if no trial was converted."""
    failed = [row for row in results if row["status"] == "failed"]
    if len(failed) == len(results):
        raise BowerbirdError(
            f"{output}: all {len(failed)} trials failed; the first, {failed[0]['trial_id']}: {failed[0]['error']}"
        )
    for row in failed:
        logger.warning("%s: failed: %s", row["trial_id"], row["error"])
    return failed


def trial_recipe(trial: Mapping[str, Any]) -> dict[str, Any]:
    """What of a trial determines the bytes of its conversion."""
    keys = ("trial_id", "source_utt", "reference_utts", "prompt_s", "heldout_utt", "random_speaker_utt")
    return {key: list(trial[key]) if key == "reference_utts" else trial[key] for key in keys}


def cut_speech(utterances: Sequence[Utterance], seconds: float) -> list[Utterance]:
    """The first ``seconds`` of some utterances, one after the other: the last one is cut, wave and features alike.

    Features are those of the whole utterance, whose encoder may have heard what comes after the cut.
    """
    left, kept = round(seconds * SAMPLE_RATE), []
    for utterance in utterances:
        if left <= 0:
            break
        kept.append(utterance if len(utterance.wave) <= left else cut_utterance(utterance, left))
        left -= len(utterance.wave)
    return kept


def cut_utterance(utterance: Utterance, samples: int) -> Utterance:
    """The first ``samples`` samples of an utterance, and the frames that lie whole in them."""
    frames = max(1, samples // HOP)
    rows = (utterance.features, utterance.phones, utterance.keys)
    features, phones, keys = (None if part is None else part[:frames] for part in rows)
    return Utterance(utterance.utt_id, utterance.wave[:samples], features, phones, keys)


def load_chunked(
    experiment: ExperimentBase, folders: Mapping[str, Path], device: torch.device, max_chunk_s: float
) -> System:
    """The system, its vocoder (if it has one) bound to chunks of ``max_chunk_s`` seconds."""
    system = load_system(experiment, folders, device)
    vocoder = getattr(system, "vocoder", None)
    if vocoder is not None:
        frames = max(1, int(max_chunk_s * SAMPLE_RATE) // HOP)
        vocoder.vocode = functools.partial(vocoder.vocode, chunk_frames=frames)
    return system


@dataclass(frozen=True)
class TrialSpeech:
    """Waveforms, features, phones and keys by utterance, on the device; all but waveforms where the system reads them."""

    audio: Shards
    features: Shards | None
    phones: Shards | None
    keys: Mapping[str, Shards]  # by the name of the space that is searched
    weights: Mapping[str, float]  # of these spaces
    device: torch.device

    @classmethod
    def open(
        cls, shards: Mapping[str, Sequence[Path]], device: torch.device, weights: Mapping[str, float]
    ) -> TrialSpeech:
        """Open the shards of each role: audio, features, phones, keys; ``weights`` names the spaces of the keys."""
        features, phones = (Shards(shards[role]) if shards[role] else None for role in ("features", "phones"))
        keys = open_spaces(shards["search_keys"], weights) if weights else {}
        return cls(Shards(shards["audio"], "num_samples"), features, phones, keys, weights, device)

    def __getitem__(self, utt_id: str) -> Utterance:
        wave = torch.from_numpy(int16_to_float(np.array(self.audio[utt_id])))
        spaces = [np.array(shards[utt_id], dtype=np.float32) for shards in self.keys.values()]
        keys = torch.from_numpy(join_spaces(spaces, list(self.weights.values()))).to(self.device) if spaces else None
        return Utterance(utt_id, wave, self._rows(self.features, utt_id), self._rows(self.phones, utt_id), keys)

    def _rows(self, shards: Shards | None, utt_id: str) -> torch.Tensor | None:
        if shards is None:
            return None
        return torch.from_numpy(np.array(shards[utt_id], dtype=np.float32)).to(self.device)


class Clock:
    """Seconds by step and seconds of audio made, for real-time factors."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self.audio_s = 0.0
        self.reused = 0

    def as_dict(self) -> dict[str, Any]:
        """What the run record keeps."""
        rtf = {step: round(s / self.audio_s, 5) for step, s in self.seconds.items()} if self.audio_s else {}
        seconds = {step: round(s, 4) for step, s in self.seconds.items()}
        return {"seconds_by_step": seconds, "audio_s": round(self.audio_s, 2), "rtf": rtf, "reused": self.reused}


@dataclass
class TrialConverter:
    """Everything that stays the same from trial to trial."""

    system: System
    experiment: ExperimentBase
    options: ConversionConfig
    speech: TrialSpeech
    folder: Path
    clock: Clock = field(default_factory=Clock)

    def run(self, trial: Mapping[str, Any], recipe: str) -> dict[str, Any]:
        """The trial's columns of the table, from the file that is there or from a new conversion."""
        path = self.folder / f"{trial['trial_id']}.flac"
        spoken = str(trial[self.experiment.spoken_column()])
        columns = {"spoken_utt": spoken, "path": path.name, "status": "ok", "error": ""}
        kept = read_kept(path, recipe)
        if kept is not None:
            self.clock.reused += 1
            return {**columns, **kept}
        try:
            return {**columns, **self.convert(trial, path, recipe)}
        except Exception as error:
            if explain_fault(error):
                raise  # a fault of the operating system: the next trial would meet it too
            logger.debug("%s", trial["trial_id"], exc_info=True)
            path.unlink(missing_ok=True)
            message = str(error).strip().splitlines()[0][:300] if str(error).strip() else ""
            reason = message if isinstance(error, BowerbirdError) else f"{type(error).__name__}: {message}"
            empty = {"path": "", "sha256": "", "num_samples": 0, "heard_s": 0.0, "gain_db": 0.0, "limited": False}
            return {**columns, **empty, "status": "failed", "error": reason}

    def convert(self, trial: Mapping[str, Any], path: Path, recipe: str) -> dict[str, Any]:
        """Convert one trial and write its FLAC; returns what the table records of the file."""
        started = time.perf_counter()
        source = self.speech[trial["source_utt"]]
        named = self.experiment.reference_utterances(trial)
        references = [self.speech[utt_id] for utt_id in named]
        if named == list(trial["reference_utts"]):  # an anchor plays what it names whole
            references = cut_speech(references, trial["prompt_s"])
        loaded = time.perf_counter()
        with torch.inference_mode():
            conversion = self.system.convert(source, references, trial)
        wave = conversion.wave.detach().float().cpu().numpy()
        converted = time.perf_counter()
        loud = match_loudness(wave, source.wave.numpy(), self.options.loudness)
        heard_s = sum(len(reference.wave) for reference in references) / SAMPLE_RATE
        heard_s = conversion.details.get("heard_s", heard_s)  # a system may use less than it is given
        stats = write_conversion(path, loud, self.experiment.system_name, recipe, heard_s)
        self.clock.seconds.update(
            {
                **conversion.details.get("seconds", {}),
                "reading": loaded - started,
                "conversion": converted - loaded,
                "writing": time.perf_counter() - converted,
            }
        )
        self.clock.audio_s += len(wave) / SAMPLE_RATE
        return stats
