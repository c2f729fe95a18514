"""Mistakes in the configuration's own words."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bowerbird.config.base import Section

# What a key is called now, by what it was called before version 0.2 (see CHANGELOG.md).
RENAMED = {
    "bank": "conv_bank_size",
    "bank_channels": "conv_bank_channels",
    "halvings": "num_downsamplings",
    "input": "corruption",
    "input_level": "corruption_level",
    "published": "pretrained",
    "recogniser": "recognizer",
    "training": "content_training",
    "uses": "checkpoint",
    "voice_encoder": "speaker_encoder",
    "voices": "speaker_embeddings",
}
# What a value is called now, by the end of its key.
RENAMED_VALUES = {
    ("padding", "centre"): "center",
    ("recognizer", "given"): "pretrained",
    ("corruption", "clean"): "none",
}


def explain(error: Mapping[str, Any], root: type[Section]) -> str:
    """One pydantic error in the configuration's own words."""
    location = [str(part) for part in error["loc"]]
    if len(location) > 2 and location[0] == "experiments":
        del location[2]  # the value of `system`, which is no key
    where = ".".join(location)
    if error["type"] == "extra_forbidden":
        known = known_keys(location[:-1], root)
        if (now := RENAMED.get(location[-1])) in known:
            return f"{where}: is now called {now!r}"
        return f"{where}: unknown key{nearest(location[-1], known)}"
    if error["type"] == "union_tag_invalid":
        return f"{where}.system: {error['ctx']['tag']!r} is no system; known: {error['ctx']['expected_tags']}"
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    if location and (now := RENAMED_VALUES.get((location[-1], str(error["input"])))):
        return f"{where}: {error['input']!r}: is now called {now!r}"
    return f"{where} = {error['input']!r}: {error['msg'][0].lower()}{error['msg'][1:]}"


def known_keys(location: Sequence[str], root: type[Section]) -> list[str]:
    """Field names of the section at ``location`` (names of variants are skipped over)."""
    models: list[Any] = [root]
    for part in location:
        fields = [m.model_fields[part].annotation for m in models if part in getattr(m, "model_fields", {})]
        if fields:
            models = [m for annotation in fields for m in models_of(annotation)]
    return sorted({name for m in models for name in m.model_fields})


def models_of(annotation: Any) -> list[Any]:
    """The models inside an annotation: ``Model``, ``dict[str, Model]`` or a union of models."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [m for argument in typing.get_args(annotation) for m in models_of(argument)]


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an error: the known name that is most like ``name``, or all of them."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(known)}" if known else "; nothing is defined there"
