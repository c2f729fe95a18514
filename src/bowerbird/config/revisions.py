"""Models of a study that come from a hub without a pinned commit: their owner there may change what the name means."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from bowerbird.config.base import parse_model
from bowerbird.config.sections.features import GE2E
from bowerbird.config.study import Config
from bowerbird.errors import BowerbirdError

PACKAGED = {
    "",
    "pocketsphinx",
    "whisper-base",
    "resemblyzer",
    GE2E,
}  # shipped with this package or the packages that it needs
COMMIT = re.compile(r"[0-9a-f]{40}")


def unpinned_models(config: Config) -> Iterator[str]:
    """A line for each hub id without a commit: where it stands, and what to write."""
    for name, section in config.features.items():
        if section.model() is not None:
            where = f"features.{name}"
            yield from _check(f"{where}.encoder", section.encoder, section.revision, f"set {where}.revision")
    evaluation = config.evaluation
    yield from _check("evaluation.asr", evaluation.asr, evaluation.asr_revision, "set evaluation.asr_revision")
    for key in ("verifier", "second_verifier"):
        yield from _check_named(f"evaluation.{key}", getattr(evaluation, key))
    for name, experiment in config.experiments.items():
        for key, spec in experiment.external_models():
            yield from _check_named(f"experiments.{name}.{key}", spec)


def check_pins(config: Config) -> list[str]:
    """`unpinned_models`, to be warned of; where the study says ``strict: true``, an error."""
    found = list(unpinned_models(config))
    if found and config.strict:
        raise BowerbirdError("strict: " + "\n        ".join(found))
    return found


def _check_named(where: str, spec: str) -> Iterator[str]:
    """The line for a model whose commit stands in its name, NAME@COMMIT."""
    model, _, commit = spec.partition("@")
    yield from _check(where, model, commit, f"write {model}@COMMIT and set COMMIT")


def _check(where: str, spec: str, revision: str, hint: str) -> Iterator[str]:
    """The line for one model; ``hint`` says where its commit is given."""
    if spec in PACKAGED or parse_model(spec).kind != "hub" or Path(spec).exists():
        return
    if not COMMIT.fullmatch(revision):
        what = f"{revision!r} is a name, which can be moved" if revision else "a hub id without a commit"
        yield f"{where}: {spec}: {what}; {hint} to the commit's 40 digits"
