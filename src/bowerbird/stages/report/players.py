"""Trials with players: source, references and every system's conversion, as spectrograms and F0 on one time scale."""

from __future__ import annotations

import contextlib
import math
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soundfile
import torch
from PIL import Image

from bowerbird.artifacts.audio_files import write_audio
from bowerbird.artifacts.shards import Shards
from bowerbird.audio import SAMPLE_RATE, read_audio
from bowerbird.errors import BowerbirdError
from bowerbird.metrics.prosody import PitchDetector, PitchTrack
from bowerbird.metrics.registry import METRICS
from bowerbird.nn.mel import LogMel
from bowerbird.stages.report.formats import slug
from bowerbird.stages.report.run_data import Run
from bowerbird.stages.report.tables import ReportedSystem

# Metrics beside a player, and the metrics whose headings they bear: a pooled metric has another name for one trial.
BESIDE_PLAYERS = {
    "mwer": "wer",
    "mcer": "cer",
    "secs": "secs",
    "src": "src",
    "f0_pcc": "f0_pcc",
    "dnsmos_ovrl": "dnsmos_ovrl",
    "distill_mos": "distill_mos",
}
SOURCE = "the source"  # stands for an experiment in a table of scores
RECOGNIZED = "mwer"  # the metric whose rows hold what was recognized
MEL_HOP = 160  # samples between the frames of a spectrogram, 10 ms
MEL_RANGE = (-9.0, 1.0)  # of log-mel values, white to black
WINDOW = 1024  # samples: the shortest wave that has a spectrogram and F0
UNITS_PER_SECOND, F0_HEIGHT = 100, 36  # of the coordinates of a drawn F0
LOWEST_HZ, SEMITONES = 60.0, 36.0  # the height of a drawn F0 is three octaves from 60 Hz
F0_HOP = 256  # samples between the frames of a pitch track


@dataclass(frozen=True)
class PlayedSound:
    """One recording of the page."""

    label: str
    kind: str  # source, reference, heldout, or the kind of a system
    audio: str  # link, "" if there is none
    seconds: float = 0.0
    picture: str = ""  # link to its spectrogram
    width: float = 100.0  # of the spectrogram, percent of the longest of the trial
    f0_path: str = ""  # its F0 as an SVG path, UNITS_PER_SECOND wide per second and F0_HEIGHT high
    recognized: str = ""
    scores: list[tuple[str, str]] = field(default_factory=list)
    error: str = ""  # why there is no audio


@dataclass(frozen=True)
class ListeningTrial:
    """A trial with its recordings: ``rows`` are source, held-out utterance and conversions, on one time scale."""

    number: int
    trial: dict[str, Any]
    rows: list[PlayedSound]
    references: list[PlayedSound]

    @property
    def f0_width(self) -> float:
        """Width of a drawn F0 of the trial, in its own units."""
        return round(UNITS_PER_SECOND * max((row.seconds for row in self.rows), default=1.0), 1) or 1.0

    @property
    def source_f0(self) -> str:
        """F0 of the source as an SVG path."""
        return next((row.f0_path for row in self.rows if row.kind == "source"), "")

    @property
    def direction(self) -> str:
        """The genders of source and target, "F → M"; "" where one is not known."""
        genders = (self.trial["source_gender"], self.trial["target_gender"])
        return " → ".join(genders) if all(genders) else ""


class AssetWriter:
    """Writes recordings, spectrograms and F0 of a page into its folder of files, each once, under names of their own."""

    def __init__(self, audio: Sequence[Path], assets: Path) -> None:
        """``audio`` are the shards of the corpus, of which some may be absent; ``assets`` is the page's folder of files."""
        self.corpus: Shards | None = None
        with contextlib.suppress(BowerbirdError):  # a page without the recordings of the corpus is better than none
            self.corpus = Shards([path for path in audio if path.exists()], length="num_samples")
        self.assets = assets
        self.written: dict[str, tuple[str, float]] = {}
        self.names: Counter[str] = Counter()
        self.f0_paths: dict[str, str] = {}
        self.mel: Callable[[torch.Tensor], torch.Tensor] = LogMel(hop=MEL_HOP)
        self.detector = PitchDetector()

    def samples(self, utt_id: str) -> np.ndarray | None:
        """Samples of an utterance of the corpus, int16 ``(N,)``; None if they are not on disk."""
        if self.corpus is None or utt_id not in self.corpus:
            return None
        return np.array(self.corpus[utt_id])

    def utterance(self, utt_id: str) -> tuple[str, float]:
        """(link, seconds) of an utterance of the corpus; ("", 0) if its audio is not on disk."""
        if utt_id not in self.written:
            samples = self.samples(utt_id)
            if samples is None:
                return "", 0.0
            self.written[utt_id] = self.add_samples(utt_id, samples), len(samples) / SAMPLE_RATE
        return self.written[utt_id]

    def add_samples(self, name: str, samples: np.ndarray) -> str:
        """Write int16 samples ``(N,)`` at 16 kHz; gives the link."""
        file = self._file_name(name)
        write_audio(self.assets / "audio" / file, samples)
        return f"assets/audio/{file}"

    def add_file(self, name: str, path: Path) -> tuple[str, float]:
        """Copy a FLAC as it is, with its tags; gives (link, seconds)."""
        file = self._file_name(name)
        shutil.copyfile(path, self.assets / "audio" / file)
        info = soundfile.info(path)
        return f"assets/audio/{file}", info.frames / info.samplerate

    def spectrogram(self, link: str) -> str:
        """Link to the picture of a recording, 10 ms per column and 80 bands; black is loud."""
        name = Path(link).with_suffix(".png").name
        target = self.assets / "pictures" / name
        if not target.exists():
            wave = torch.from_numpy(read_audio(self.assets / "audio" / Path(link).name))
            wave = torch.nn.functional.pad(wave, (0, max(0, WINDOW - len(wave))))
            mel = self.mel(wave[None])[0].T.numpy()[::-1]  # (80, T), low bands at the bottom
            low, high = MEL_RANGE
            ink = np.clip((mel - low) / (high - low), 0, 1)
            Image.fromarray(np.rint(255 * (1 - ink)).astype(np.uint8), "L").save(target, optimize=True)
        return f"assets/pictures/{name}"

    def f0(self, link: str) -> str:
        """F0 of a recording as an SVG path; a gap where it is unvoiced."""
        name = Path(link).name
        if name not in self.f0_paths:
            wave = read_audio(self.assets / "audio" / name)
            self.f0_paths[name] = f0_path(self.detector.track(wave)) if len(wave) >= WINDOW else ""
        return self.f0_paths[name]

    def _file_name(self, name: str) -> str:
        """A name that no other recording of the page has."""
        short = slug(name)
        self.names[short] += 1
        return f"{short}.flac" if self.names[short] == 1 else f"{short}.{self.names[short]}.flac"


def gather_trials(run: Run, systems: Sequence[ReportedSystem], assets: Path, count: int) -> list[ListeningTrial]:
    """Choose ``count`` trials, and write their recordings and pictures into ``assets``."""
    if run.trials.empty or not count:
        return []
    chosen = choose_trials(run.trials, count)
    writer = AssetWriter(run.paths.all_shards("audio"), assets)
    conversions = {system: _conversions(run, system) for system in systems if system.is_played}
    scores = _scores(run, {trial["trial_id"] for trial in chosen})
    for system in systems:
        if system.role == "ground-truth":  # its scores are those of the source
            scores |= {(trial, SOURCE): found for (trial, name), found in scores.items() if name == system.name}
    return [_listening_trial(place, trial, writer, conversions, scores) for place, trial in enumerate(chosen, start=1)]


def choose_trials(trials: pd.DataFrame, count: int) -> list[dict[str, Any]]:
    """``count`` trials, spread over pairs of speakers, sources and targets; the same ones for the same list."""
    left = sorted(trials.to_dict("records"), key=lambda trial: trial["trial_id"].encode())
    used: Counter[tuple[str, ...]] = Counter()
    chosen: list[dict[str, Any]] = []
    while left and len(chosen) < count:
        rarest = min(range(len(left)), key=lambda place: [used[key] for key in _spread_over(left[place])])  # the first
        chosen.append(left.pop(rarest))
        used.update(_spread_over(chosen[-1]))
    return chosen


def _spread_over(trial: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """What chosen trials should differ in, the most important first."""
    source, target = trial["source_speaker"], trial["target_speaker"]
    genders = ("genders", trial["source_gender"], trial["target_gender"])
    return [("pair", source, target), ("source", source), ("target", target), genders, ("text", trial["text"])]


def _listening_trial(
    number: int,
    trial: dict[str, Any],
    writer: AssetWriter,
    conversions: Mapping[ReportedSystem, Mapping[str, Mapping[str, Any]]],
    scores: Mapping[tuple[str, str], Mapping[str, Any]],
) -> ListeningTrial:
    rows = [
        _sound("source", "source", *writer.utterance(trial["source_utt"]), scores.get((trial["trial_id"], SOURCE), {})),
        _sound("target, held out", "heldout", *writer.utterance(trial["heldout_utt"]), {}),
    ]
    for system, table in conversions.items():
        converted = table.get(trial["trial_id"])
        if converted is None:
            rows.append(PlayedSound(system.name, system.kind, "", error="not converted"))
        elif converted["status"] != "ok" or not converted["file"].is_file():
            error = converted["error"] or "its file is not there"
            rows.append(PlayedSound(system.name, system.kind, "", error=error))
        else:
            sound = writer.add_file(f"{number:02d}-{system.name}", converted["file"])
            rows.append(_sound(system.name, system.kind, *sound, scores.get((trial["trial_id"], system.name), {})))
    references = [PlayedSound(utt_id, "reference", *writer.utterance(utt_id)) for utt_id in trial["reference_utts"]]
    return ListeningTrial(number, trial, _with_pictures(rows, writer), references)


def _with_pictures(rows: Sequence[PlayedSound], writer: AssetWriter) -> list[PlayedSound]:
    """The recordings with spectrogram and F0; the longest is as wide as its place."""
    longest = max((row.seconds for row in rows), default=0.0) or 1.0
    return [
        replace(
            row,
            picture=writer.spectrogram(row.audio),
            width=round(100 * row.seconds / longest, 2),
            f0_path=writer.f0(row.audio),
        )
        if row.audio
        else row
        for row in rows
    ]


def f0_path(track: PitchTrack) -> str:
    """A pitch track ``(T,)`` as an SVG path: x in hundredths of a second, y from the top."""
    parts, before = [], -2
    for frame in map(int, np.flatnonzero(track.voiced)):
        height = F0_HEIGHT * (1 - 12 * np.log2(track.hertz[frame] / LOWEST_HZ) / SEMITONES)
        command = "L" if frame == before + 1 else "M"
        x, y = UNITS_PER_SECOND * frame * F0_HOP / SAMPLE_RATE, min(max(height, 0.0), F0_HEIGHT)
        parts.append(f"{command}{x:.1f} {y:.1f}")
        before = frame
    return "".join(parts)


def _sound(label: str, kind: str, link: str, seconds: float, scores: Mapping[str, Any]) -> PlayedSound:
    """A recording with its scores, without pictures."""
    shown = []
    for name, named_as in BESIDE_PLAYERS.items():
        if name in scores and math.isfinite(scores[name]):
            unit = " %" if METRICS[name].is_percent else ""
            shown.append((METRICS[named_as].heading, f"{METRICS[name].show(scores[name])}{unit}"))
    return PlayedSound(label, kind, link, seconds, recognized=scores.get("recognized", ""), scores=shown)


def _conversions(run: Run, system: ReportedSystem) -> dict[str, dict[str, Any]]:
    """Rows of an experiment's conversions by trial, each with the path of its ``file``."""
    path = run.paths.conversion(system.name)
    return {row["trial_id"]: {**row, "file": path.parent / row["path"]} for row in run.table(path).to_dict("records")}


def _scores(run: Run, trials: set[str]) -> dict[tuple[str, str], dict[str, Any]]:
    """Scores by metric of each trial and experiment, and the text that was ``recognized``."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for experiment in run.config.experiments:
        for family in run.config.evaluation.families:
            table = run.table(run.paths.scores(experiment, family))
            for row in table[table["trial_id"].isin(trials)].to_dict("records") if len(table) else ():
                scores = found.setdefault((row["trial_id"], experiment), {})
                scores[row["metric"]] = row["value"]
                if row["metric"] == RECOGNIZED and row["text"]:
                    scores["recognized"] = row["text"]
    return found
