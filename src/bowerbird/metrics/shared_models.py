"""Which systems share a model with a verifier.

A verifier shares a model with a system that was trained with it, that reads a speaker through it, or that works on the
features it is built on: its numbers favor such a system, or may. What is compared are families of models (GE2E, ECAPA-TDNN,
WavLM), read from the configuration; what an exported verifier was trained on is not known here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from bowerbird.config.base import Variant
from bowerbird.config.study import Config

MODEL_FAMILIES = {"resemblyzer": "GE2E", "ecapa-tdnn": "ECAPA-TDNN", "wavlm-xvector": "WavLM"}


class NamesItsModel(Protocol):
    """What is known of how a metric was made."""

    @property
    def model(self) -> str:
        """The verifier as its score rows name it."""

    @property
    def weights_sha256(self) -> str:
        """The digest of its weights."""


@dataclass(frozen=True)
class NamedVerifier:
    """A verifier as the report names it, with the systems that share a model with it."""

    place: str  # first, second
    model: str  # "" where there is none
    weights_sha256: str = ""
    family: str = ""  # "" where it is not known
    shared_with: list[tuple[str, str]] = field(default_factory=list)  # (system, the model's part in it)
    independent_of: list[str] = field(default_factory=list)  # systems; none where the family is not known


def name_verifiers(made: Mapping[str, NamesItsModel], config: Config, systems: list[str]) -> list[NamedVerifier]:
    """The first and the second verifier, also where there is no second; [] where speaker similarity was not scored.

    ``made`` says of each metric how it was made.
    """
    if "secs" not in made:
        return []
    verifiers = []
    for place, metric in (("first", "secs"), ("second", "secs_second")):
        if metric not in made:
            verifiers.append(NamedVerifier(place, ""))
            continue
        model, family = made[metric].model, family_of_verifier(made[metric].model)
        parts = {name: families_of_system(name, config).get(family, "") for name in systems}
        shared = [(name, part) for name, part in parts.items() if part]
        independent = [name for name, part in parts.items() if family and not part]
        verifiers.append(NamedVerifier(place, model, made[metric].weights_sha256, family, shared, independent))
    return verifiers


def family_of_verifier(model: str) -> str:
    """GE2E, ECAPA-TDNN or WavLM of the model that a score row names; "" where it is not known."""
    kind = model.split()[0] if model else ""
    return MODEL_FAMILIES.get(kind, "WavLM" if "wavlm" in model.lower() else "")


def families_of_system(name: str, config: Config) -> dict[str, str]:
    """Families of the models that have a part in a system, each with its part."""
    experiment = config.experiments.get(name)
    if experiment is None:
        return {}
    found: dict[str, str] = {}
    source = experiment.conversion_inputs().get("features")
    if isinstance(source, Variant) and is_wavlm(config.features[source.name].encoder):
        found["WavLM"] = "works on WavLM's features"
    verifiers = {
        "GE2E" if spec in ("ge2e", "resemblyzer") else "ECAPA-TDNN": part for spec, part in experiment.verifiers()
    }
    return found | verifiers


def is_wavlm(encoder: str) -> bool:
    """Whether features are WavLM's: by name, or by the configuration of a local folder.

    The bundled encoders have WavLM's architecture and weights of their own: they share no model with it.
    """
    if encoder.startswith("bundled:"):
        return False
    if "wavlm" in encoder.lower():
        return True
    try:
        settings = json.loads((Path(encoder).expanduser() / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(settings, dict) and settings.get("model_type") == "wavlm"
