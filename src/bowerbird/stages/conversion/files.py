"""``bowerbird convert``: one recording, or a folder of them, to the voice of other recordings."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from bowerbird.artifacts.identity import Identity, inputs_digest
from bowerbird.audio import SAMPLE_RATE, SUFFIXES, read_audio
from bowerbird.config.loading import load_config
from bowerbird.config.paths import Layout, bundled
from bowerbird.config.sections.conversion import ConversionConfig
from bowerbird.config.sections.features import FeaturesConfig
from bowerbird.config.sections.runtime import RuntimeConfig
from bowerbird.config.study import Config
from bowerbird.config.systems.base import conversion_params
from bowerbird.config.systems.knnvc import KnnvcExperiment
from bowerbird.errors import BowerbirdError
from bowerbird.nn.device import pick_device
from bowerbird.stages.conversion import VERSION
from bowerbird.stages.conversion.trials import load_chunked, model_inputs
from bowerbird.stages.conversion.waveforms import match_loudness, rms_and_peak, write_conversion
from bowerbird.systems.base import System, Utterance
from bowerbird.systems.vocoder.pretrained import HUB, locate

if TYPE_CHECKING:
    from bowerbird.encoders.extractors import FeatureExtractor

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
    options: ConversionConfig = ConversionConfig(),  # noqa: B008 - frozen
    runtime: RuntimeConfig = RuntimeConfig(),  # noqa: B008 - frozen
) -> None:
    """Convert SOURCE, a recording or a folder of them, to the voice heard in the VOICE recordings.

    Any format, rate and number of channels; OUTPUT is a .flac or .wav file at 16 kHz, or a folder. The result says the
    same words in the other voice and is marked as synthetic in its tags. Convert only voices whose owners agreed.

    Without --run, kNN-VC with the bundled nano models. With --run results/demo --experiment NAME, the features and the
    models of that experiment (--system alone suffices where the run has one experiment of it).
    """
    torch.set_num_threads(runtime.threads)
    device = pick_device(runtime.device)
    jobs = list(plan_files(source, output))
    recordings = [path for item in voice for path in audio_files(item, "--voice")]
    references = [read_speech(path, "--voice", MIN_VOICE_S / len(recordings)) for path in recordings]
    recipe = plan_system(system, run, experiment)
    converter = Converter.load(recipe, options, device)
    heard = [converter.utterance(path.stem, wave) for path, wave in zip(recordings, references)]
    inputs = {"voice": inputs_digest(recordings), **model_inputs(recipe.models)}
    errors = []
    for path, target in jobs:
        try:
            converter.convert_file(path, target, heard, inputs)
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
        if target.suffix.lower() not in (".flac", ".wav"):
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
class SystemRecipe:
    """A system with what it needs: the options of its features (None: it needs none) and its models by role."""

    experiment: Any
    features: FeaturesConfig | None
    models: dict[str, Path]
    phones: FeaturesConfig | None = None


def plan_system(system: str, run: Path | None, name: str) -> SystemRecipe:
    """The system to convert with: the bundled models, or those of an experiment of a run."""
    if run is None:
        if system != "knnvc" or name:
            given = f"--experiment {name}" if name else f"--system {system}"
            raise BowerbirdError(f"{given}: needs --run FOLDER, a run that trained it (only knnvc comes bundled)")
        experiment = KnnvcExperiment(vocoder="bundled:nano-vocoder")
        return SystemRecipe(experiment, FeaturesConfig(), {"vocoder": Path(bundled(experiment.vocoder))})
    config, layout = load_config([run / "config.yaml"]), Layout(run)
    key = choose_experiment(config, run, system, name)
    chosen: Any = config.experiments[key]
    if chosen.system == "anchor":
        raise BowerbirdError(f"--experiment: {key}: an anchor converts nothing; choose a system")
    models = model_folders(config, layout, key)
    for role, path in models.items():
        if not path.exists():
            raise BowerbirdError(f"--experiment: {key}: its {role} is not trained yet: {path} is missing")
    reads_features = "features" in chosen.converts_with
    phones = None
    if "phones?" in chosen.converts_with and chosen.phones:
        phones = layout.located(config, config.features[chosen.phones])
    return SystemRecipe(chosen, config.features[chosen.features] if reads_features else None, models, phones)


def choose_experiment(config: Config, run: Path, system: str, name: str) -> str:
    """``name``, or the run's only experiment of ``system``."""
    if name:
        if name not in config.experiments:
            raise BowerbirdError(f"--experiment: {name!r}: not in {run}; known: {', '.join(config.experiments)}")
        return name
    fitting = [key for key, value in config.experiments.items() if value.system == system]
    if len(fitting) != 1:
        which = f"has {', '.join(fitting)}" if fitting else f"has none; known: {', '.join(config.experiments)}"
        raise BowerbirdError(f"--system: {system}: {run} {which}; choose one with --experiment")
    return fitting[0]


def model_folders(config: Config, layout: Layout, name: str) -> dict[str, Path]:
    """Where the models lie that an experiment converts with, by role."""

    def trained(owner: str, stage: str) -> Path:
        if stage == "vocoder" and (published := getattr(config.experiments[owner], "published", "")):
            return locate(published if Path(published).expanduser().is_dir() else HUB + published)
        return layout.model(config.experiments[owner].reuse.get(stage, owner), stage)

    experiment: Any = config.experiments[name]
    folders = {stage: trained(name, stage) for stage in experiment.stages}
    for artifact in experiment.converts_with:
        if artifact == "vocoder":
            spec = name if experiment.system == "vocoder" else experiment.vocoder
            folders["vocoder"] = Path(bundled(spec)) if spec.startswith("bundled:") else trained(spec, "vocoder")
        elif artifact == "codebook":
            folders["codebook"] = layout.codebook(experiment.codebook)
        elif artifact.startswith("stage:"):
            stage = artifact.removeprefix("stage:")
            folders[stage] = trained(name, stage)
    return folders


def load_extractor(options: FeaturesConfig, device: torch.device) -> FeatureExtractor:
    """The encoder of the system's features."""
    from bowerbird.encoders.extractors import FeatureExtractor  # it loads transformers, which takes seconds

    return FeatureExtractor(options, device)


@dataclass(frozen=True)
class Converter:
    """A loaded system with the encoder of its features."""

    recipe: SystemRecipe
    options: ConversionConfig
    system: System
    extractor: FeatureExtractor | None
    phonetic: FeatureExtractor | None = None

    @classmethod
    def load(cls, recipe: SystemRecipe, options: ConversionConfig, device: torch.device) -> Converter:
        system = load_chunked(recipe.experiment, recipe.models, device, options.max_chunk_s)
        extractors = (load_extractor(o, device) if o else None for o in (recipe.features, recipe.phones))
        return cls(recipe, options, system, *extractors)

    def utterance(self, name: str, wave: np.ndarray) -> Utterance:
        """A recording with the features the system wants."""
        features, phones = (e.extract(wave) if e else None for e in (self.extractor, self.phonetic))
        return Utterance(name, torch.from_numpy(wave), features, phones)

    def convert_file(self, path: Path, target: Path, voice: list[Utterance], inputs: dict[str, str]) -> None:
        """Convert one recording and write it."""
        started = time.perf_counter()
        wave = read_speech(path, "source", MIN_SOURCE_S)
        with torch.inference_mode():
            converted = self.system.convert(self.utterance(path.stem, wave), voice, None).wave.float().cpu().numpy()
        loud = match_loudness(converted, wave, self.options.loudness)
        params = {**json.loads(conversion_params(self.recipe.experiment)), **self.options.model_dump()}
        if self.recipe.features is not None and self.extractor is not None:
            params["features"] = {**self.recipe.features.model_dump(), **self.extractor.describe()}
        if self.recipe.phones is not None and self.phonetic is not None:
            params["phones"] = {**self.recipe.phones.model_dump(), **self.phonetic.describe()}
        identity = Identity("conversion", VERSION, params, {"source": inputs_digest([path]), **inputs})
        write_conversion(target, loud, self.recipe.experiment.system, identity.hash)
        logger.info(
            "%s: %.1f s of speech in %.1f s", target, len(loud.samples) / SAMPLE_RATE, time.perf_counter() - started
        )
