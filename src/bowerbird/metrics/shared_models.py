"""Which systems share a model with a judge: a verifier, or the recognizer.

A judge shares a model with a system that was trained with it, that reads a speaker through it, or that works on the features it
is built on: its numbers favor such a system, or may. What is compared are families of models (GE2E, ECAPA-TDNN, WavLM,
Whisper and so on), read from the configuration; what an exported verifier was trained on is not known here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from bowerbird.config.base import ModelReference, parse_model
from bowerbird.config.graph import Graph
from bowerbird.config.job import Job
from bowerbird.config.paths import bundled
from bowerbird.errors import BowerbirdError

# The only list of families: of judges by the first word of their names, of all models by a part of their names, and by what
# `config.json` calls their architecture.
JUDGES = {
    "resemblyzer": "GE2E",
    "ecapa-tdnn": "ECAPA-TDNN",
    "wavlm-xvector": "WavLM",
    "pocketsphinx": "pocketsphinx",
}
NAMES = {
    "(ctranslate2 ": "Whisper",  # what reads a Whisper from a folder of any name
    "wavlm": "WavLM",
    "hubert": "HuBERT",
    "wav2vec2": "wav2vec 2.0",
    "moonshine": "Moonshine",
    "whisper": "Whisper",
}
ARCHITECTURES = {name: NAMES[name] for name in ("wavlm", "hubert", "wav2vec2", "moonshine", "whisper")}

# Each judge's place, the option that names it, and the metrics that it gives, of which the first that was scored names it
PLACES = (
    ("first verifier", "verifier", ("secs",)),
    ("second verifier", "second_verifier", ("secs_second",)),
    ("recognizer", "asr", ("wer", "mwer")),
)


class NamesItsModel(Protocol):
    """What is known of how a metric was made."""

    @property
    def model(self) -> str:
        """The judge as its score rows name it."""

    @property
    def weights_sha256(self) -> str:
        """The digest of its weights."""


@dataclass(frozen=True)
class NamedJudge:
    """A verifier or the recognizer as the report names it, with the systems that share a model with it."""

    place: str  # first verifier, second verifier, recognizer
    model: str  # "" where there is none
    weights_sha256: str = ""
    family: str = ""  # "" where it is not known
    shared_with: list[tuple[str, str]] = field(default_factory=list)  # (system, the model's part in it)
    independent_of: list[str] = field(default_factory=list)  # systems; none where the family is not known


def name_judges(made: Mapping[str, NamesItsModel], graph: Graph, systems: list[str]) -> list[NamedJudge]:
    """The verifiers and the recognizer that scored a run; the second verifier is listed also where there is none.

    ``made`` says of each metric how it was made.
    """
    families = {name: families_of_system(name, graph) for name in systems}
    judges = []
    for place, option, metrics in PLACES:
        by = next((made[metric] for metric in metrics if metric in made), None)
        if by is None:
            judges += [NamedJudge(place, "")] if option == "second_verifier" and "secs" in made else []
            continue
        family = family_of_judge(by.model, str(getattr(graph.config.evaluation, option)))
        shared = [(name, found[family]) for name, found in families.items() if family in found]
        independent = [name for name, found in families.items() if family and family not in found]
        judges.append(NamedJudge(place, by.model, by.weights_sha256, family, shared, independent))
    return judges


def family_of_judge(model: str, spec: str = "") -> str:
    """The family of the model that a score row names; "" where it is not known.

    ``spec`` is the option that names it: a folder, whose own name may say nothing, has a configuration.
    """
    known = JUDGES.get(model.split()[0] if model else "") or family_named(model)
    return known or (family_in_folder(spec) if spec else None) or ""


def families_of_system(name: str, graph: Graph) -> dict[str, str]:
    """Families of the models that have a part in a system, each with its part."""
    experiment = graph.config.experiments.get(name)
    if experiment is None:
        return {}
    found: dict[str, str] = {}
    for variant, through in features_behind(name, graph):
        section = graph.config.features[variant]
        family = family_of_encoder(
            section.model() or parse_model(section.encoder)
        )  # what packages hold goes by its name
        if family and (family not in found or not through):
            found[family] = f"works on {family}'s features" + (f" through {through}" if through else "")
    verifiers = {
        "GE2E" if spec in ("ge2e", "resemblyzer") else "ECAPA-TDNN": part for spec, part in experiment.verifiers()
    }
    return found | verifiers


def features_behind(name: str, graph: Graph) -> Iterator[tuple[str, str]]:
    """(variant of features, what leads to it) of all that the conversions of an experiment depend on.

    Nothing ("") leads to what the experiment reads itself, in conversion or in training. A variant may come several times.
    """
    waiting: list[tuple[Job, str]] = [(graph.convert_trials(name), "")]
    seen = set()
    while waiting:
        job, through = waiting.pop()
        if (key := (job.command, job.variant, through)) in seen:  # one shard stands for all
            continue
        seen.add(key)
        if job.stage == "features":
            yield job.variant, through
        writers = (graph.writers.get(path) for path in job.files)
        waiting += [(writer, through or _leads_to(writer, name)) for writer in writers if writer]


def _leads_to(job: Job, experiment: str) -> str:
    """A codebook, pairs, or a model of another experiment, in words; "" for anything else."""
    if job.stage == "training" and job.variant.split("/")[0] == experiment:
        return ""
    words = {"codebook": "the codebook", "pairs": "the pairs", "training": "the model"}
    return f"{words[job.stage]} {job.variant}" if job.stage in words else ""


def family_of_encoder(reference: ModelReference) -> str:
    """The family of the encoder behind features, by the configuration in its folder or by its name; "" if it has none.

    A phone head is of the family of the encoder below it. The bundled encoders have WavLM's architecture and weights of their
    own: they share no model with it, and neither does what a study trains.
    """
    if reference.kind == "trained":
        return ""
    if reference.kind == "bundled":
        return family_below(_settings(str(reference))) or ""
    family = family_in_folder(reference.name) if reference.kind == "folder" else None
    return family_named(Path(reference.name).name) if family is None else family


def family_in_folder(folder: str) -> str | None:
    """The family that the configuration in a folder states; None where it states none."""
    settings = _settings(folder)
    below = family_below(settings)
    return ARCHITECTURES.get(str(settings.get("model_type"))) if below is None else below


def family_below(settings: Mapping[str, Any]) -> str | None:
    """The family of the encoder that a phone head's configuration names; None where it is no phone head's."""
    encoder = settings.get("encoder")
    return family_of_encoder(parse_model(encoder)) if isinstance(encoder, str) and encoder else None


def family_named(name: str) -> str:
    """The family that the name of a model states; "" where it states none."""
    return next((family for part, family in NAMES.items() if part in name.lower()), "")


def _settings(folder: str) -> dict[str, Any]:
    """``config.json`` of a local or bundled folder; {} where there is none."""
    try:
        path = Path(bundled(folder)).expanduser() / "config.json"
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, BowerbirdError):
        return {}
    return settings if isinstance(settings, dict) else {}
