"""Reading and merging configuration files."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pydantic
import yaml

from bowerbird.config.merging import merge
from bowerbird.config.messages import explain, models_of, nearest
from bowerbird.config.references import check_references
from bowerbird.config.study import Config
from bowerbird.errors import BowerbirdError


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML that refuses a key given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=deep)
            if key in seen:
                raise BowerbirdError(f"line {key_node.start_mark.line + 1}: key {key!r} is given twice")
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def read_yaml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """A YAML mapping from a file, with errors that name file and line."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise BowerbirdError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        loaded = yaml.load(text, _UniqueKeyLoader)  # a SafeLoader: plain values only
    except BowerbirdError as error:
        raise BowerbirdError(f"{path}: {error}") from None
    except yaml.YAMLError as error:
        raise BowerbirdError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise BowerbirdError(f"{path}: a configuration is a mapping of sections, this is a {type(loaded).__name__}")
    return loaded


def load_config(files: Sequence[str | os.PathLike[str]] = (), overrides: Mapping[str, Any] | None = None) -> Config:
    """Merge ``files`` in order, then ``overrides``, and check the result."""
    merged: dict[str, Any] = {}
    for path in files:
        merged = merge(merged, read_yaml(path))
    return parse_config(merge(merged, overrides or {}))


VARIANTS = ("features", "codebook", "pairs", "experiments")  # sections that hold variants by name


def resolve_likes(values: Mapping[str, Any]) -> dict[str, Any]:
    """Variants that say ``like: OTHER`` get the other's values, and their own over them."""
    resolved = dict(values)
    for section in VARIANTS:
        variants = values.get(section)
        if isinstance(variants, Mapping):
            resolved[section] = {name: _like(section, name, variants, ()) for name in variants}
    return resolved


def _like(section: str, name: str, variants: Mapping[str, Any], above: tuple[str, ...]) -> Any:
    variant = variants[name]
    if not isinstance(variant, Mapping) or "like" not in variant:
        return variant
    other, own = variant["like"], {key: value for key, value in variant.items() if key != "like"}
    where = f"{section}.{name}.like"
    if not isinstance(other, str) or other not in variants:
        raise BowerbirdError(
            f"configuration: {where}: {other!r} is not defined in `{section}`{nearest(str(other), variants)}"
        )
    if other == name or other in above:
        raise BowerbirdError(
            f"configuration: {where}: {other!r}: goes in a circle ({' -> '.join((*above, name, other))})"
        )
    base = _like(section, other, variants, (*above, name))
    if not isinstance(base, Mapping):
        return variant
    if own.get("system", base.get("system")) != base.get("system"):
        raise BowerbirdError(
            f"configuration: {where}: {other!r} is of system {base.get('system')}, not {own['system']}"
        )
    return merge(base, own)


def parse_config(values: Mapping[str, Any]) -> Config:
    """Check a merged mapping; every mistake found is one line of the error."""
    try:
        config = Config.model_validate(resolve_likes(merge({}, values)))
        check_references(config)
        return config
    except ValueError as error:
        if not isinstance(error, pydantic.ValidationError):
            raise BowerbirdError(f"configuration: {error}") from None
        lines = [explain(item, Config) for item in error.errors()]
        raise BowerbirdError("configuration: " + "\n               ".join(lines)) from None


def dump_config(config: Config) -> str:
    """The resolved configuration as YAML, defaults included."""
    return yaml.safe_dump(json.loads(config.model_dump_json()), sort_keys=False, allow_unicode=True, width=110)


def json_schema() -> dict[str, Any]:
    """JSON schema of the configuration, for editors."""
    schema = Config.model_json_schema()
    likes = {"type": "string", "description": "another variant of this section, whose values hold where not overridden"}
    for definition in schema["$defs"].values():
        if definition.get("title") in _variant_models():
            definition["properties"]["like"] = likes
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "bowerbird study"
    return schema


def _variant_models() -> set[str]:
    """Names of the models that variants are made of."""
    return {model.__name__ for section in VARIANTS for model in models_of(Config.model_fields[section].annotation)}
