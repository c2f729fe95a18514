"""Names that a study's sections use of each other: each must be defined in the section that owns it."""

from __future__ import annotations

from collections.abc import Iterable

from bowerbird.config.base import NAME, ModelReference
from bowerbird.config.messages import nearest
from bowerbird.config.study import Config
from bowerbird.config.systems.base import Inputs
from bowerbird.config.systems.takin import TakinExperiment
from bowerbird.config.systems.vocoder import VocoderExperiment


def check_references(config: Config) -> None:
    """Every name a section uses must be defined in the section that owns it; a ValueError says which is not."""
    for name in (*config.features, *config.codebook, *config.pairs, *config.experiments):
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r}: a variant's name becomes a folder; use letters, digits, '-' and '_'")
    for kind in ("codebook", "pairs"):
        for name, section in getattr(config, kind).items():
            _check_defined(f"{kind}.{name}.features", section.features, "features", config.features)
    for name, pairs in config.pairs.items():
        for space in pairs.search:
            _check_defined(f"pairs.{name}.search", space, "features", config.features)
    for name, variant in config.features.items():
        reference = variant.model()
        if reference is not None and reference.kind == "trained":
            _check_trained(config, f"features.{name}.encoder", name, reference)
    for name, experiment in config.experiments.items():
        where = f"experiments.{name}"
        for stage, other in experiment.reuse.items():
            _check_defined(f"{where}.reuse.{stage}", other, "experiments", config.experiments)
        for stage in experiment.stages:
            _check_inputs(config, name, experiment.training_inputs(stage))
        _check_inputs(config, name, experiment.conversion_inputs())
        try:
            experiment.check_features(config.features)
        except ValueError as error:
            raise ValueError(f"{where}.{error}") from None
    _check_recognizers(config)
    _check_pretrained_vocoders(config)


def _check_inputs(config: Config, name: str, inputs: Inputs) -> None:
    """Every variant and every trained model that a command of an experiment reads must be defined."""
    for role, source in inputs.items():
        if isinstance(source, ModelReference):
            if source.kind == "trained":
                _check_trained(config, f"experiments.{name}.{role}", name, source)
            continue
        for variant in source if isinstance(source, tuple) else (source,):
            if variant.section != "audio":
                section = "codebook" if variant.section == "units" else variant.section
                _check_defined(f"experiments.{name}.{role}", variant.name, section, getattr(config, section))


def _check_trained(config: Config, where: str, owner: str, reference: ModelReference) -> None:
    """The experiment must be there and have the stage, unless it takes that model from elsewhere."""
    name = reference.name or owner
    _check_defined(where, name, "experiments", config.experiments)
    experiment = config.experiments[name]
    if reference.stage not in experiment.stages and experiment.model(reference.stage).kind == "trained":
        hint = "; give it recognizer: trained" if reference.stage == "ppg" else ""
        raise ValueError(
            f"{where}: {name!r} trains no stage {reference.stage!r}{hint or nearest(reference.stage, experiment.stages)}"
        )


def _check_recognizers(config: Config) -> None:
    """An experiment that trains a recognizer must name features of that recognizer as its `phones`."""

    def owner(name: str) -> str:
        return config.experiments[name].reuse.get("ppg", name)

    for name, experiment in config.experiments.items():
        if not (isinstance(experiment, TakinExperiment) and "ppg" in experiment.stages):
            continue
        variant = config.features[experiment.phones]
        reference = variant.model()
        if reference is None or reference.kind != "trained" or owner(reference.name) != owner(name):
            raise ValueError(
                f"experiments.{name}.recognizer: trained: its phones are {experiment.phones!r}, of encoder {variant.encoder}; "
                f"name features of kind phonetic and encoder trained:{owner(name)}"
            )


def _check_pretrained_vocoders(config: Config) -> None:
    """A published BigVGAN reads mels at 24 kHz, which only Takin-VC makes."""
    for name, experiment in config.experiments.items():
        source = experiment.conversion_inputs().get("vocoder")
        if not isinstance(source, ModelReference) or source.kind != "trained" or not source.name:
            continue
        other = config.experiments[source.name]
        if isinstance(other, VocoderExperiment) and other.is_published and not isinstance(experiment, TakinExperiment):
            raise ValueError(
                f"experiments.{name}.vocoder: {source.name!r} is a published BigVGAN, which reads mels at 24 kHz; only takin "
                "makes such (mels of encoder log-mel-24k)"
            )


def _check_defined(where: str, name: str, section: str, defined: Iterable[str]) -> None:
    if name not in defined:
        raise ValueError(f"{where}: {name!r} is not defined in `{section}`{nearest(name, defined)}")
