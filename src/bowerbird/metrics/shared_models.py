"""Who judges the voice, and which systems the judge is kin to: both verifiers are always named, also where one is missing.

A judge is *kin* to a system that was trained to please it, that hears a voice through it, or that works on the features it
is built on: its numbers flatter such a system, or may. Kinship is by family of models (GE2E, ECAPA-TDNN, WavLM), read from
the configuration; what an exported judge was trained on is not known here, and is said so.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bowerbird.config.base import Variant
from bowerbird.config.study import Config

FAMILIES = {"resemblyzer": "GE2E", "ecapa-tdnn": "ECAPA-TDNN", "wavlm-xvector": "WavLM"}


@dataclass(frozen=True)
class Verifier:
    """A judge of voices as the page names it."""

    place: str  # first, second
    model: str  # "" where there is none
    weights_sha256: str = ""
    family: str = ""  # "" where it is not known
    kin: list[tuple[str, str]] = field(default_factory=list)  # (system, why)
    others: list[str] = field(default_factory=list)


def name_verifiers(definitions: dict[str, Any], config: Config, systems: list[str]) -> list[Verifier]:
    """The first and the second verifier, of the `Definition` of their SECS; [] where no voices were judged."""
    if "secs" not in definitions:
        return []
    found = []
    for place, metric in (("first", "secs"), ("second", "secs_second")):
        made = definitions.get(metric)
        if made is None:
            found.append(Verifier(place, ""))
            continue
        family = family_of_judge(made.model)
        kin = [(name, why) for name in systems if (why := families_of_system(name, config).get(family, ""))]
        others = [name for name in systems if name not in dict(kin)] if family else []
        found.append(Verifier(place, made.model, made.weights_sha256, family, kin, others))
    return found


def family_of_judge(model: str) -> str:
    """GE2E, ECAPA-TDNN or WavLM of the model that a score row names; "" where it is not known."""
    kind = model.split()[0] if model else ""
    return FAMILIES.get(kind, "WavLM" if "wavlm" in model.lower() else "")


def families_of_system(name: str, config: Config) -> dict[str, str]:
    """Families of models that had a part in a system, each with what it did."""
    experiment = config.experiments.get(name)
    if experiment is None:
        return {}
    found: dict[str, str] = {}
    source = experiment.conversion_inputs().get("features")
    if isinstance(source, Variant) and is_wavlm(config.features[source.name].encoder):
        found["WavLM"] = "works on WavLM's features"
    return found | {_family(spec): what for spec, what in experiment.verifiers()}


def is_wavlm(encoder: str) -> bool:
    """Whether features are WavLM's: by name, or by the configuration of a local folder.

    The bundled encoders have its architecture and weights of their own: no kin.
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


def _family(spec: str) -> str:
    return "GE2E" if spec in ("ge2e", "resemblyzer") else "ECAPA-TDNN"
