"""The trials one can listen to: source, references and every system's conversion, on one time scale."""

from __future__ import annotations

import math
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soundfile
import torch
from PIL import Image

from bowerbird.artifacts.audio_files import write_audio
from bowerbird.artifacts.shards import Shards, shard_paths
from bowerbird.artifacts.tables import read_table
from bowerbird.audio import SAMPLE_RATE, read_audio
from bowerbird.errors import BowerbirdError
from bowerbird.metrics.prosody import PitchDetector, PitchTrack
from bowerbird.metrics.registry import METRICS
from bowerbird.nn.mel import LogMel
from bowerbird.stages.report.formats import slug
from bowerbird.stages.report.run import Run
from bowerbird.stages.report.tables import System

SHOWN = ("mwer", "mcer", "secs", "src", "f0_pcc", "dnsmos_ovrl")  # scores beside a player


HEADINGS = {"mwer": "WER", "mcer": "CER"}


HUNDREDTHS, LANE, LOWEST_HZ, SEMITONES = 100, 36, 60.0, 36.0  # the F0 lane holds three octaves from 60 Hz


RANGE = (-9.0, 1.0)  # of log-mel values, white to black


@dataclass(frozen=True)
class Sound:
    """One recording of the page."""

    label: str
    kind: str  # source, reference, heldout, or the kind of a system
    audio: str  # link, "" if there is none
    seconds: float = 0.0
    picture: str = ""
    width: float = 100.0  # of the picture, percent of the longest of the trial
    pitch: str = ""  # its F0 as the path of a picture `HUNDREDTHS` wide a second and `LANE` high
    heard: str = ""
    scores: list[tuple[str, str]] = field(default_factory=list)
    error: str = ""


@dataclass(frozen=True)
class Heard:
    """A trial with everything to hear."""

    number: int
    trial: dict[str, Any]
    rows: list[Sound]  # source, the target's held-out utterance and conversions, on one time scale
    references: list[Sound]

    @property
    def span(self) -> float:
        """Width of the trial's F0 pictures, in hundredths of a second."""
        return round(HUNDREDTHS * max((row.seconds for row in self.rows), default=1.0), 1) or 1.0

    @property
    def source_pitch(self) -> str:
        return next((row.pitch for row in self.rows if row.kind == "source"), "")

    @property
    def direction(self) -> str:
        genders = (self.trial["source_gender"], self.trial["target_gender"])
        return " → ".join(genders) if all(genders) else ""


def gather_listening(run: Run, systems: list[System], assets: Path, count: int) -> list[Heard]:
    """Choose ``count`` trials and copy what is to be heard and seen of them into ``assets``."""
    if run.trials.empty or not count:
        return []
    chosen = choose_trials(run.trials, count)
    desk = _Desk(run, assets)
    conversions = {s: _conversions(run, s) for s in systems if s.is_played}
    scores = _scores(run, {trial["trial_id"] for trial in chosen})
    return [_hear(number, trial, desk, conversions, scores) for number, trial in enumerate(chosen, start=1)]


def choose_trials(trials: pd.DataFrame, count: int) -> list[dict[str, Any]]:
    """``count`` trials, spread over pairs of speakers, sources and targets; the same ones for the same list."""
    left = sorted(trials.to_dict("records"), key=lambda trial: trial["trial_id"].encode())
    used: Counter[tuple[str, ...]] = Counter()
    chosen: list[dict[str, Any]] = []
    while left and len(chosen) < count:
        place = min(range(len(left)), key=lambda i: [used[key] for key in _kinds(left[i])])  # the first of the rarest
        chosen.append(left.pop(place))
        used.update(_kinds(chosen[-1]))
    return chosen


def _kinds(trial: dict[str, Any]) -> list[tuple[str, ...]]:
    """What trials should differ in, the most important first."""
    source, target = trial["source_speaker"], trial["target_speaker"]
    genders = ("genders", trial["source_gender"], trial["target_gender"])
    return [("pair", source, target), ("source", source), ("target", target), genders, ("text", trial["text"])]


@dataclass
class _Desk:
    """Copies sounds and draws spectrograms, each once."""

    run: Run
    assets: Path
    done: dict[str, tuple[str, float]] = field(default_factory=dict)
    mel: Callable[[torch.Tensor], torch.Tensor] = field(default_factory=lambda: LogMel(hop=160))

    def __post_init__(self) -> None:
        try:
            self.corpus: Shards | None = Shards(shard_paths(self.run.root / "corpus" / "audio"), length="num_samples")
        except BowerbirdError:
            self.corpus = None
        self.names: Counter[str] = Counter()
        self.contours: dict[str, str] = {}
        self.detector = PitchDetector()

    def utterance(self, utt_id: str) -> tuple[str, float]:
        """(link, seconds) of an utterance of the corpus; ("", 0) if its audio is not there."""
        if utt_id not in self.done:
            if self.corpus is None or utt_id not in self.corpus:
                return "", 0.0
            samples = np.array(self.corpus[utt_id])
            name = self._name(utt_id)
            write_audio(self.assets / "audio" / name, samples)
            self.done[utt_id] = f"assets/audio/{name}", len(samples) / SAMPLE_RATE
        return self.done[utt_id]

    def conversion(self, path: Path, name: str) -> tuple[str, float]:
        """(link, seconds) of a converted file, copied as it is with its tags."""
        name = self._name(name)
        shutil.copyfile(path, self.assets / "audio" / name)
        info = soundfile.info(path)
        return f"assets/audio/{name}", info.frames / info.samplerate

    def spectrogram(self, link: str) -> str:
        """Link to the picture of a sound, a frame each 10 ms, 80 bands; black is loud."""
        name = Path(link).with_suffix(".png").name
        target = self.assets / "pictures" / name
        if not target.exists():
            wave = torch.from_numpy(read_audio(self.assets / "audio" / Path(link).name))
            wave = torch.nn.functional.pad(wave, (0, max(0, 1024 - len(wave))))  # one window at least
            mel = self.mel(wave[None])[0].T.numpy()[::-1]  # (bands, frames), low bands below
            low, high = RANGE
            ink = np.clip((mel - low) / (high - low), 0, 1)
            Image.fromarray(np.rint(255 * (1 - ink)).astype(np.uint8), "L").save(target, optimize=True)
        return f"assets/pictures/{name}"

    def pitch(self, link: str) -> str:
        """F0 of a sound as the commands of an SVG path; a gap where it is unvoiced."""
        name = Path(link).name
        if name not in self.contours:
            wave = read_audio(self.assets / "audio" / name)
            self.contours[name] = contour(self.detector.track(wave)) if len(wave) >= 1024 else ""
        return self.contours[name]

    def _name(self, name: str) -> str:
        """A file's name that no other sound of this report has."""
        short = slug(name)
        self.names[short] += 1
        return f"{short}.flac" if self.names[short] == 1 else f"{short}.{self.names[short]}.flac"


def _hear(
    number: int,
    trial: dict[str, Any],
    desk: _Desk,
    conversions: dict[System, dict[str, dict[str, Any]]],
    scores: dict[tuple[str, str], dict[str, Any]],
) -> Heard:
    link, seconds = desk.utterance(trial["source_utt"])
    truth = scores.get((trial["trial_id"], "ground-truth"), {})
    rows = [_sound("source", "source", link, seconds, truth)]
    rows.append(_sound("target, held out", "heldout", *desk.utterance(trial["heldout_utt"]), {}))
    for system, table in conversions.items():
        converted = table.get(trial["trial_id"])
        own = scores.get((trial["trial_id"], system.name), {})
        if converted is None:
            rows.append(Sound(system.name, system.kind, "", error="not converted"))
        elif converted["status"] != "ok" or not converted["file"].exists():
            rows.append(Sound(system.name, system.kind, "", error=converted["error"] or "its file is not there"))
        else:
            link, seconds = desk.conversion(converted["file"], f"{number:02d}-{system.name}")
            rows.append(_sound(system.name, system.kind, link, seconds, own))
    longest = max((row.seconds for row in rows), default=0.0) or 1.0
    rows = [
        replace(
            row,
            picture=desk.spectrogram(row.audio),
            width=round(100 * row.seconds / longest, 2),
            pitch=desk.pitch(row.audio),
        )
        if row.audio
        else row
        for row in rows
    ]
    references = [Sound(utt_id, "reference", *desk.utterance(utt_id)) for utt_id in trial["reference_utts"]]
    return Heard(number, trial, rows, references)


def contour(track: PitchTrack) -> str:
    """A pitch track as the commands of an SVG path, x in hundredths of a second, y from the top of the lane."""
    parts, before = [], -2
    for frame in map(int, np.flatnonzero(track.voiced)):
        height = LANE * (1 - 12 * np.log2(track.hertz[frame] / LOWEST_HZ) / SEMITONES)
        command = "L" if frame == before + 1 else "M"
        parts.append(f"{command}{HUNDREDTHS * frame * 256 / SAMPLE_RATE:.1f} {min(max(height, 0.0), LANE):.1f}")
        before = frame
    return "".join(parts)


def _sound(label: str, kind: str, link: str, seconds: float, scores: dict[str, Any]) -> Sound:
    shown = [
        (HEADINGS.get(name, METRICS[name].heading), METRICS[name].show(scores[name]), METRICS[name].percent)
        for name in SHOWN
        if name in scores and math.isfinite(scores[name])
    ]
    texts = [(heading, f"{text} %" if percent else text) for heading, text, percent in shown]
    return Sound(label, kind, link, seconds, heard=scores.get("heard", ""), scores=texts)


def _conversions(run: Run, system: System) -> dict[str, dict[str, Any]]:
    """Rows of an experiment's conversions by trial, each with its ``file``."""
    folder = run.root / "conversion" / system.name
    rows = run.table(f"conversion/{system.name}/trials.parquet").to_dict("records")
    return {row["trial_id"]: {**row, "file": folder / row["path"] if row["path"] else folder / "none"} for row in rows}


def _scores(run: Run, trials: set[str]) -> dict[tuple[str, str], dict[str, Any]]:
    """(trial, experiment) -> scores by metric, and what the recognizer ``heard``."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for path in sorted((run.root / "evaluation").glob("*/*.parquet")):
        table = read_table(path)
        for row in table[table["trial_id"].isin(trials)].to_dict("records"):
            scores = found.setdefault((row["trial_id"], path.parent.name), {})
            scores[row["metric"]] = row["value"]
            if row["metric"] == "mwer" and row["text"]:
                scores["heard"] = row["text"]
    return found
