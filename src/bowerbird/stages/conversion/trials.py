"""Trials to waveforms: a FLAC a trial and a table beside them.

Each file bears the hash of its own recipe (system, models, trial, loudness), so a run that was killed goes on where it
stopped, and a file of another recipe is made again. A trial that cannot be converted is recorded with its error and
counted; it never disappears.
"""

from __future__ import annotations

import functools
import json
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

from bowerbird.artifacts.identity import Identity, RunRecord, inputs_digest
from bowerbird.artifacts.shards import Shards
from bowerbird.artifacts.tables import CONVERSIONS, read_table, write_table
from bowerbird.audio import HOP, SAMPLE_RATE, int16_to_float
from bowerbird.config.paths import bundled
from bowerbird.config.sections.conversion import ConversionConfig
from bowerbird.config.sections.runtime import RuntimeConfig
from bowerbird.config.systems import Experiment
from bowerbird.config.systems.base import conversion_params
from bowerbird.errors import BowerbirdError, explain_fault
from bowerbird.nn.device import pick_device
from bowerbird.stages.conversion import VERSION
from bowerbird.stages.conversion.waveforms import match_loudness, read_kept, write_conversion
from bowerbird.systems.anchors.system import played_utterance
from bowerbird.systems.base import System, Utterance
from bowerbird.systems.load import load_system
from bowerbird.systems.vocoder.pretrained import WEIGHTS, locate

logger = logging.getLogger(__name__)


def convert_trials(
    manifest: Path,
    trials: Path,
    audio: list[Path],
    output: Path,
    experiment: Experiment,
    features: list[Path] = [],  # noqa: B006 - read only
    phones: list[Path] = [],  # noqa: B006 - read only
    codebook: Path | None = None,
    models: list[str] = [],  # noqa: B006 - read only
    options: ConversionConfig = ConversionConfig(),  # noqa: B008 - frozen
    runtime: RuntimeConfig = RuntimeConfig(),  # noqa: B008 - frozen
) -> None:
    """Convert every trial with one system: a FLAC a trial and the table ``output`` beside them.

    ``models`` are ``role=folder``. A trial whose FLAC is there with the same recipe is not converted again. Failures
    are recorded trial by trial; if all fail, it is an error.
    """
    torch.set_num_threads(runtime.threads)
    device = pick_device(runtime.device)
    folders = parse_models(models) | ({"codebook": codebook} if codebook else {})
    inputs = {"audio": inputs_digest(audio), **model_inputs(folders)}
    for role, shards in (("features", features), ("phones", phones)):
        if shards:
            inputs[role] = inputs_digest(shards)
    params = {**json.loads(conversion_params(experiment)), **options.model_dump()}
    table_inputs = {**inputs, "manifest": inputs_digest([manifest]), "trials": inputs_digest([trials])}
    identity = Identity("conversion", VERSION, params, table_inputs)
    with RunRecord(device=str(device), dtype="float32") as record:
        rows = read_table(trials)
        if rows.empty:
            raise BowerbirdError(f"{trials}: no trials; see what `bowerbird list-trials` says")
        opened = [Shards(shards) if shards else None for shards in (features, phones)]
        speech = Speech(Shards(audio, "num_samples"), opened[0], opened[1], device)
        system = load_chunked(experiment, folders, device, options.max_chunk_s)
        job = _Job(system, experiment, options, speech, output.parent)
        results = []
        for number, trial in enumerate(rows.to_dict("records"), start=1):
            recipe = Identity("conversion", VERSION, {**params, "trial": trial_recipe(trial)}, inputs).hash
            results.append({**trial, **job.run(trial, recipe)})
            if number % 50 == 0 or number == len(rows):
                logger.info("%s: %d of %d trials", output.parent.name, number, len(rows))
        failed = [row for row in results if row["status"] == "failed"]
        if len(failed) == len(results):
            raise BowerbirdError(
                f"{output}: all {len(failed)} trials failed; the first, {failed[0]['trial_id']}: {failed[0]['error']}"
            )
        for row in failed:
            logger.warning("%s: failed: %s", row["trial_id"], row["error"])
        record.extra |= {"trials": dict(Counter(row["status"] for row in results)), **job.clock.as_dict()}
        record.write(output, identity)
        write_table(output, pd.DataFrame(results), identity, CONVERSIONS, extra={"failed": len(failed)})


def trial_recipe(trial: Mapping[str, Any]) -> dict[str, Any]:
    """What of a trial determines the bytes of its conversion."""
    keys = ("trial_id", "source_utt", "reference_utts", "heldout_utt", "random_speaker_utt")
    return {key: list(trial[key]) if key == "reference_utts" else trial[key] for key in keys}


def parse_models(models: Sequence[str]) -> dict[str, Path]:
    """``["vocoder=folder"]`` as a mapping of existing folders."""
    folders = {}
    for item in models:
        role, separator, folder = item.partition("=")
        if not separator or not role or not folder:
            raise BowerbirdError(f"--models: {item!r}: must be ROLE=FOLDER, for instance vocoder=results/demo/...")
        path = locate(bundled(folder))
        if not path.exists():
            raise BowerbirdError(f"--models: {item}: no such folder; train the stage first")
        folders[role] = path
    return folders


def model_inputs(folders: Mapping[str, Path]) -> dict[str, str]:
    """Digest of each model, by role: its weights and its architecture."""
    inputs = {}
    for role, path in folders.items():
        names = ("model.safetensors", "config.json", WEIGHTS)
        inputs[role] = inputs_digest([path / n for n in names if (path / n).exists()] if path.is_dir() else [path])
    return inputs


def load_chunked(experiment: Any, folders: dict[str, Path], device: torch.device, max_chunk_s: float) -> System:
    """The system, its vocoder (if it has one) bound to chunks of ``max_chunk_s`` seconds."""
    system = load_system(experiment, folders, device)
    vocoder = getattr(system, "vocoder", None)
    if vocoder is not None:
        frames = max(1, int(max_chunk_s * SAMPLE_RATE) // HOP)
        vocoder.vocode = functools.partial(vocoder.vocode, chunk_frames=frames)
    return system


@dataclass(frozen=True)
class Speech:
    """Waveforms and features by utterance, on the device."""

    audio: Shards
    features: Shards | None
    phones: Shards | None
    device: torch.device

    def __getitem__(self, utt_id: str) -> Utterance:
        wave = torch.from_numpy(int16_to_float(np.array(self.audio[utt_id])))
        return Utterance(utt_id, wave, self._rows(self.features, utt_id), self._rows(self.phones, utt_id))

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
        rtf = {step: round(s / self.audio_s, 5) for step, s in self.seconds.items()} if self.audio_s else {}
        seconds = {step: round(s, 4) for step, s in self.seconds.items()}
        return {"seconds_by_step": seconds, "audio_s": round(self.audio_s, 2), "rtf": rtf, "reused": self.reused}


@dataclass
class _Job:
    """Everything that stays the same from trial to trial."""

    system: System
    experiment: Any
    options: ConversionConfig
    speech: Speech
    folder: Path
    clock: Clock = field(default_factory=Clock)

    def run(self, trial: Mapping[str, Any], recipe: str) -> dict[str, Any]:
        """The trial's columns of the table, from the file that is there or from a new conversion."""
        path = self.folder / f"{trial['trial_id']}.flac"
        kept = read_kept(path, recipe)
        if kept is not None:
            self.clock.reused += 1
            return {**self._columns(trial, path), **kept}
        try:
            return {**self._columns(trial, path), **self._convert(trial, path, recipe)}
        except Exception as error:
            if explain_fault(error):
                raise  # the machine's fault, not the trial's: the next trial would meet it too
            logger.debug("%s", trial["trial_id"], exc_info=True)
            path.unlink(missing_ok=True)
            message = str(error).strip().splitlines()[0][:300] if str(error).strip() else ""
            reason = message if isinstance(error, BowerbirdError) else f"{type(error).__name__}: {message}"
            empty = {"path": "", "sha256": "", "num_samples": 0, "gain_db": 0.0, "limited": False}
            return {**self._columns(trial, path), **empty, "status": "failed", "error": reason}

    def _columns(self, trial: Mapping[str, Any], path: Path) -> dict[str, Any]:
        return {"spoken_utt": self._spoken(trial), "path": path.name, "status": "ok", "error": ""}

    def _spoken(self, trial: Mapping[str, Any]) -> str:
        if self.experiment.system == "anchor":
            return played_utterance(self.experiment, trial)
        return str(trial["source_utt"])

    def _convert(self, trial: Mapping[str, Any], path: Path, recipe: str) -> dict[str, Any]:
        started = time.perf_counter()
        source = self.speech[trial["source_utt"]]
        heard = list(trial["reference_utts"]) if self.experiment.system != "anchor" else [self._spoken(trial)]
        references = [self.speech[utt_id] for utt_id in heard]
        loaded = time.perf_counter()
        with torch.inference_mode():
            conversion = self.system.convert(source, references, trial)
        wave = conversion.wave.detach().float().cpu().numpy()
        converted = time.perf_counter()
        loud = match_loudness(wave, source.wave.numpy(), self.options.loudness)
        facts = write_conversion(path, loud, self.experiment.system, recipe)
        self.clock.seconds.update(
            {
                **conversion.details.get("seconds", {}),
                "reading": loaded - started,
                "conversion": converted - loaded,
                "writing": time.perf_counter() - converted,
            }
        )
        self.clock.audio_s += len(wave) / SAMPLE_RATE
        return facts
