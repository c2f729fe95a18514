"""Names that a study's sections use of each other: each must be defined in the section that owns it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from bowerbird.config.messages import nearest
from bowerbird.config.study import Config

TRAINED = "phonetic:trained:"  # before the name of an experiment that trains the encoder of features


def check_references(config: Config) -> None:
    """Every name a section uses must be defined in the section that owns it; a ValueError says which is not."""
    for kind in ("codebook", "pairs"):
        for name, section in getattr(config, kind).items():
            _must_be_defined(f"{kind}.{name}.features", section.features, "features", config.features)
    for name, experiment in config.experiments.items():
        owners = {"codebook": "codebook", "pairs": "pairs"}
        for field in ("features", "codebook", "pairs", "mels", "phones", "voices"):
            value, owner = getattr(experiment, field, ""), owners.get(field, "features")
            if value:
                _must_be_defined(f"experiments.{name}.{field}", value, owner, getattr(config, owner))
        vocoder = getattr(experiment, "vocoder", "")
        if isinstance(vocoder, str) and vocoder and not vocoder.startswith("bundled:"):
            _must_be_defined(f"experiments.{name}.vocoder", vocoder, "experiments", config.experiments)
            if getattr(config.experiments[vocoder], "published", "") and experiment.system != "takin":
                raise ValueError(
                    f"experiments.{name}.vocoder: {vocoder!r} is a published BigVGAN, which reads mels at 24 kHz; only "
                    "takin makes such (mels of encoder log-mel-24k)"
                )
        for stage, other in getattr(experiment, "reuse", {}).items():
            _must_be_defined(f"experiments.{name}.reuse.{stage}", other, "experiments", config.experiments)
    _check_recognizers(config)
    for name in (*config.features, *config.codebook, *config.pairs, *config.experiments):
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
            raise ValueError(f"{name!r}: a variant's name becomes a folder; use letters, digits, '-' and '_'")


def _check_recognizers(config: Config) -> None:
    """Features of a trained recognizer name who trains it, and who trains one names features that it makes."""

    def owner(name: str) -> str:
        return config.experiments[name].reuse.get("ppg", name)

    trained = [name for name, experiment in config.experiments.items() if "ppg" in experiment.stages]
    for name, variant in config.features.items():
        if variant.encoder.startswith(TRAINED):
            where, spec = f"features.{name}.encoder", variant.encoder.removeprefix(TRAINED)
            _must_be_defined(where, spec, "experiments", config.experiments)
            if spec not in trained:
                raise ValueError(f"{where}: {spec!r} trains no recognizer; give it recognizer: trained")
    for name in trained:
        phones: str = getattr(config.experiments[name], "phones", "")
        spec = config.features[phones].encoder
        if not (spec.startswith(TRAINED) and owner(spec.removeprefix(TRAINED)) == owner(name)):
            raise ValueError(
                f"experiments.{name}.recognizer: trained: its phones are {phones!r}, of encoder {spec}; name features "
                f"of encoder {TRAINED}{owner(name)}"
            )


def _must_be_defined(where: str, name: str, section: str, defined: Iterable[str]) -> None:
    if name not in defined:
        raise ValueError(f"{where}: {name!r} is not defined in `{section}`{nearest(name, defined)}")
