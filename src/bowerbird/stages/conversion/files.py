"""``bowerbird convert``: one recording, or a folder of them, to the voice of other recordings."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from bowerbird.artifacts.identity import Identity, input_digests, inputs_digest
from bowerbird.artifacts.models import model_files
from bowerbird.audio import SAMPLE_RATE, SUFFIXES, WRITTEN, read_audio
from bowerbird.config.base import Variant
from bowerbird.config.graph import Graph
from bowerbird.config.paths import bundled
from bowerbird.config.sections.conversion import ConversionConfig
from bowerbird.config.sections.evaluation import INSTALL_WHISPER, installed_recognizer
from bowerbird.config.sections.features import FeaturesConfig
from bowerbird.config.sections.runtime import RuntimeConfig
from bowerbird.config.study import Config
from bowerbird.config.systems.base import ExperimentBase
from bowerbird.config.systems.knnvc import KnnvcExperiment
from bowerbird.encoders.checkpoint import model_folder
from bowerbird.errors import BowerbirdError
from bowerbird.nn.device import pick_device
from bowerbird.nn.keys import join_spaces
from bowerbird.stages.conversion import VERSION
from bowerbird.stages.conversion.trials import DEFAULT_OPTIONS, DEFAULT_RUNTIME, load_chunked
from bowerbird.stages.conversion.waveforms import match_loudness, rms_and_peak, write_conversion
from bowerbird.systems.base import System, Utterance

if TYPE_CHECKING:
    from bowerbird.encoders.extractors import Extractor

MIN_SOURCE_S, MIN_VOICE_S = 0.1, 1.0
MIN_RMS = 1e-4  # -80 dB of full scale: quieter is silence
logger = logging.getLogger(__name__)


def convert(
    source: Path,
    voice: list[Path],
    output: Path,
    system: str = "knnvc",
    run: Path | None = None,
    experiment: str = "",
    options: ConversionConfig = DEFAULT_OPTIONS,
    runtime: RuntimeConfig = DEFAULT_RUNTIME,
) -> None:
    """Convert SOURCE, a recording or a folder of them, to the voice of the VOICE recordings.

    Any format, rate and number of channels; OUTPUT is a .flac or .wav file at 16 kHz, or a folder. The result says the
    same words in the other voice and is marked as synthetic in its tags. Convert only voices whose owners agreed.

    Without --run, kNN-VC with the bundled nano models. With --run results/demo --experiment NAME, the features and the
    models of that experiment (--system alone suffices where the run has one experiment of it).
    """
    torch.set_num_threads(runtime.threads)
    device = pick_device(runtime.device)
    jobs = list(plan_files(source, output))
    recordings = [path for item in voice for path in audio_files(item, "--voice")]
    waves = [read_speech(path, "--voice", MIN_VOICE_S / len(recordings)) for path in recordings]
    plan = plan_system(system, run, experiment)
    converter = FileConverter.load(plan, options, device)
    references = [converter.utterance(path.stem, wave) for path, wave in zip(recordings, waves)]
    models = {role: model_files(folder) for role, folder in plan.models.items()}
    inputs = input_digests({"voice": recordings, **models})
    errors = []
    for path, target in jobs:
        try:
            converter.convert_file(path, target, references, inputs)
        except BowerbirdError as error:
            if len(jobs) == 1:
                raise
            logger.error("%s", error)
            errors.append(error)
    if errors:
        raise BowerbirdError(f"{source}: {len(errors)} of {len(jobs)} files were not converted; the first: {errors[0]}")


def plan_files(source: Path, output: Path) -> Iterable[tuple[Path, Path]]:
    """(source file, output file) of everything to convert."""
    if source.is_dir():
        if output.suffix.lower() in SUFFIXES:
            raise BowerbirdError(f"--output: {output}: is a file name, but {source} is a folder; give a folder")
        pairs = [
            (path, (output / path.relative_to(source)).with_suffix(".flac")) for path in audio_files(source, "source")
        ]
    else:
        audio_files(source, "source")
        inside = output.is_dir() or not output.suffix
        pairs = [(source, output / f"{source.stem}.flac" if inside else output)]
    for path, target in pairs:
        if target.suffix.lower() not in WRITTEN:
            raise BowerbirdError(f"--output: {target}: {target.suffix} is not written; use .flac or .wav")
        if target.exists() and target.resolve() == path.resolve():
            raise BowerbirdError(f"--output: {target}: is the source itself; give another name")
    if len({target for _, target in pairs}) < len(pairs):
        raise BowerbirdError(f"{source}: holds files that differ only in their suffix; their conversions would collide")
    return pairs


def audio_files(path: Path, role: str) -> list[Path]:
    """The recording ``path``, or the recordings below the folder ``path``."""
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        if not found:
            raise BowerbirdError(f"{role}: {path}: no audio in this folder; looked for {', '.join(SUFFIXES)}")
        return found
    if not path.is_file():
        raise BowerbirdError(f"{role}: {path}: no such file")
    return [path]


def read_speech(path: Path, role: str, min_s: float) -> np.ndarray:
    """A recording as float32 ``(samples,)`` at 16 kHz, long enough and not silent."""
    wave = read_audio(path)
    seconds = len(wave) / SAMPLE_RATE
    if seconds < min_s:
        hint = "; several seconds of the voice are needed, more is better" if role == "--voice" else ""
        raise BowerbirdError(f"{role}: {path}: {seconds:.2f} s is too short{hint}")
    if rms_and_peak(wave)[0] < MIN_RMS:
        raise BowerbirdError(f"{role}: {path}: is silent; give a recording of speech")
    return wave


@dataclass(frozen=True)
class ConversionPlan:
    """A system with what it needs: its models by role, and the options of each variant of features that it reads.

    ``read`` says which variants stand in the roles features, phones and keys; a role without any is absent.
    """

    experiment: ExperimentBase
    models: Mapping[str, Path]
    features: Mapping[str, FeaturesConfig]  # by the name of the variant
    read: Mapping[str, Sequence[str]]  # names by role


def plan_system(system: str, run: Path | None, name: str) -> ConversionPlan:
    """The system to convert with: the bundled models, or those of an experiment of a run."""
    if run is None:
        plan = None if name else BUNDLED.get(system)
        if plan is None:
            given = f"--experiment {name}" if name else f"--system {system}"
            known = ", ".join(BUNDLED)
            raise BowerbirdError(f"{given}: needs --run FOLDER, a run that trained it (only {known} comes bundled)")
        return plan()
    graph = Graph.of_run(run)
    key = choose_experiment(graph.config, run, system, name)
    experiment = graph.config.experiments[key]
    sources = experiment.conversion_inputs()
    if not sources:
        raise BowerbirdError(f"--experiment: {key}: an anchor converts nothing; choose a system")
    models = {}
    for role, model in graph.convert_trials(key).models.items():
        models[role] = model if isinstance(model, Path) else model_folder(str(model), f"--experiment: {key}")
        if not models[role].exists():
            raise BowerbirdError(f"--experiment: {key}: its {role} is not trained yet: {models[role]} is missing")
    read: dict[str, list[str]] = {}
    for role, source in sources.items():
        variants = source if isinstance(source, tuple) else (source,)
        if names := [v.name for v in variants if isinstance(v, Variant) and v.section == "features"]:
            read[role] = names
    used = {name for names in read.values() for name in names}
    return ConversionPlan(
        experiment, models, {name: graph.models.located(graph.config.features[name]) for name in sorted(used)}, read
    )


def plan_bundled() -> ConversionPlan:
    """kNN-VC with the bundled models: as in the demo where Whisper base is installed, else on the nano encoder alone."""
    if installed_recognizer() == "whisper-base":
        experiment = KnnvcExperiment(size="nano", features="world", search={"keys": 1.0}, vocoder="bundled:world")
        keys = FeaturesConfig(kind="phonetic", encoder="bundled:nano-key", head="keys")
        features = {"world": FeaturesConfig(encoder="world"), "keys": keys}
    else:
        logger.warning(
            "Whisper base is not installed: kNN-VC on nano-encoder, which loses most words; %s", INSTALL_WHISPER
        )
        experiment, features = KnnvcExperiment(vocoder="bundled:nano-vocoder"), {"nano": FeaturesConfig()}
    read = {"features": [experiment.features], "search_keys": list(experiment.search)}
    return ConversionPlan(experiment, {"vocoder": Path(bundled(experiment.vocoder))}, features, read)


BUNDLED = {"knnvc": plan_bundled}  # systems whose models come with the package


def choose_experiment(config: Config, run: Path, system: str, name: str) -> str:
    """``name``, or the run's only experiment of ``system``."""
    if name:
        if name not in config.experiments:
            raise BowerbirdError(f"--experiment: {name!r}: not in {run}; known: {', '.join(config.experiments)}")
        return name
    fitting = [key for key, value in config.experiments.items() if value.system_name == system]
    if len(fitting) != 1:
        which = f"has {', '.join(fitting)}" if fitting else f"has none; known: {', '.join(config.experiments)}"
        raise BowerbirdError(f"--system: {system}: {run} {which}; choose one with --experiment")
    return fitting[0]


@dataclass(frozen=True)
class FileConverter:
    """A loaded system with the encoders of what it reads."""

    plan: ConversionPlan
    options: ConversionConfig
    system: System
    extractors: Mapping[str, Extractor]  # by the name of the variant

    @classmethod
    def load(cls, plan: ConversionPlan, options: ConversionConfig, device: torch.device) -> FileConverter:
        """Load what ``plan`` names."""
        system = load_chunked(plan.experiment, plan.models, device, options.max_chunk_s)
        extractors = {name: load_extractor(section, device) for name, section in plan.features.items()}
        return cls(plan, options, system, extractors)

    def utterance(self, name: str, wave: np.ndarray) -> Utterance:
        """A recording ``(N,)`` with the features that the system reads; each encoder runs once."""
        found = {variant: extractor.extract(wave) for variant, extractor in self.extractors.items()}
        weights = self.plan.experiment.key_weights()
        keys = join_spaces([found[variant].numpy() for variant in weights], list(weights.values())) if weights else None
        features, phones = (
            found[names[0]] if (names := self.plan.read.get(role)) else None for role in ("features", "phones")
        )
        return Utterance(
            name, torch.from_numpy(wave), features, phones, None if keys is None else torch.from_numpy(keys)
        )

    def convert_file(self, path: Path, target: Path, voice: list[Utterance], inputs: Mapping[str, str]) -> None:
        """Convert one recording and write it."""
        started = time.perf_counter()
        wave = read_speech(path, "source", MIN_SOURCE_S)
        with torch.inference_mode():
            conversion = self.system.convert(self.utterance(path.stem, wave), voice, None)
        converted = conversion.wave.float().cpu().numpy()
        loud = match_loudness(converted, wave, self.options.loudness)
        params: dict[str, Any] = {**self.plan.experiment.conversion_params(), **self.options.model_dump()}
        for role, names in self.plan.read.items():
            described = [{**self.plan.features[n].model_dump(), **self.extractors[n].describe()} for n in names]
            params[role] = described if role == "search_keys" else described[0]
        identity = Identity("conversion", VERSION, params, {"source": inputs_digest([path]), **inputs})
        heard_s = conversion.details.get("heard_s", sum(len(spoken.wave) for spoken in voice) / SAMPLE_RATE)
        write_conversion(target, loud, self.plan.experiment.system_name, identity.hash, heard_s)
        took = time.perf_counter() - started
        logger.info("%s: %.1f s of speech in %.1f s", target, len(loud.samples) / SAMPLE_RATE, took)


def load_extractor(options: FeaturesConfig, device: torch.device) -> Extractor:
    """The encoder of the system's features."""
    from bowerbird.encoders.extractors import open_extractor  # it loads transformers, which takes seconds

    return open_extractor(options, device)
