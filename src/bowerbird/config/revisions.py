"""Which models of a study come from a hub without a pinned commit: whoever owns the name there may change what it means."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from bowerbird.config.references import TRAINED
from bowerbird.config.sections.features import PHONETIC, SPECTROGRAMS, VOICE_PRINT
from bowerbird.config.study import Config
from bowerbird.errors import BowerbirdError

_OWN = {"", "pocketsphinx", "resemblyzer", "ge2e", *SPECTROGRAMS}  # shipped with this package or its needs


_COMMIT = re.compile(r"[0-9a-f]{40}")


def unpinned_models(config: Config) -> Iterator[str]:
    """A line for each hub id without a commit: where it stands, and what to write."""
    for name, section in config.features.items():
        yield from _check(
            f"features.{name}.encoder", section.encoder, section.revision, _set(f"features.{name}.revision")
        )
    evaluation = config.evaluation
    yield from _check("evaluation.asr", evaluation.asr, evaluation.asr_revision, _set("evaluation.asr_revision"))
    for key in ("verifier", "second_verifier"):
        yield from _check(f"evaluation.{key}", getattr(evaluation, key), "", "")
    for name, experiment in config.experiments.items():
        spec, _, commit = getattr(experiment, "published", "").partition("@")
        yield from _check(f"experiments.{name}.published", spec, commit, f"write {spec}@COMMIT, all 40 digits")
        yield from _check(f"experiments.{name}.voice_encoder", getattr(experiment, "voice_encoder", ""), "", "")
        for stage in experiment.stages:
            spec = getattr(getattr(experiment, stage, None), "speaker_encoder", "")
            yield from _check(f"experiments.{name}.{stage}.speaker_encoder", spec, "", "")


def check_pins(config: Config) -> list[str]:
    """`unpinned_models`, to be warned of; where the study says ``strict: true``, an error."""
    found = list(unpinned_models(config))
    if found and config.strict:
        raise BowerbirdError("strict: " + "\n        ".join(found))
    return found


def _set(key: str) -> str:
    """What to do about a key that holds a commit."""
    return f"set {key} to the commit's 40 digits"


def _check(where: str, spec: str, revision: str, hint: str) -> Iterator[str]:
    if spec.startswith(TRAINED):
        return  # by this study
    spec = spec.removeprefix(PHONETIC).removeprefix(VOICE_PRINT)
    if spec in _OWN or spec.startswith(("bundled:", "/", ".", "~")) or Path(spec).exists():
        return
    if not hint:
        yield (
            f"{where}: {spec}: a hub id that cannot be pinned here; fetch it at a commit "
            f"(hf download {spec} --revision COMMIT --local-dir FOLDER) and give the folder"
        )
    elif not _COMMIT.fullmatch(revision):
        said = f"{revision!r} is a name, which can be moved" if revision else "a hub id without a commit"
        yield f"{where}: {spec}: {said}; {hint}"
