"""Command-line options, made from signatures and configuration models."""

from __future__ import annotations

import argparse
import inspect
import json
import types
import typing
from collections.abc import Callable, Collection, Sequence
from typing import Any

import pydantic

from bowerbird.config.base import Section
from bowerbird.config.messages import explain
from bowerbird.config.study import Config
from bowerbird.config.systems.registry import Experiment
from bowerbird.errors import BowerbirdError


def parse_call(
    name: str, function: Callable[..., Any], words: Sequence[str], positional: Collection[str] = ()
) -> dict[str, Any]:
    """Parse command-line ``words`` into keyword arguments of ``function``."""
    hints = typing.get_type_hints(function, include_extras=True)
    parameters = {key: (hints[key], item.default) for key, item in inspect.signature(function).parameters.items()}
    parser = argparse.ArgumentParser(
        prog=f"bowerbird {name}",
        description=inspect.getdoc(function),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for key, (hint, default) in parameters.items():
        if _is_section(hint):
            _add_section(parser, hint, taken=parameters)
        else:
            _add_parameter(parser, key, hint, default, positional=key in positional)
    given = vars(parser.parse_args(list(words)))
    of_sections = {name: value for name, value in given.items() if name not in parameters}
    return {key: _take(key, hint, of_sections if _is_section(hint) else given) for key, (hint, _) in parameters.items()}


def _is_section(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, Section)


def _is_experiment(hint: Any) -> bool:
    return hint == Experiment


def _add_section(parser: argparse.ArgumentParser, model: type[Section], taken: Collection[str]) -> None:
    """One option a field of ``model``; values are checked by the model itself.

    Fields that are parameters of the function too (``features``: a name in the config, files on the command line)
    are the function's.
    """
    group = parser.add_argument_group((inspect.getdoc(model) or model.__name__).splitlines()[0])
    for key, field in model.model_fields.items():
        if key in taken:
            continue
        default = field.get_default(call_default_factory=True)
        help_ = f"{field.description} (default: {json.dumps(default)})".replace("%", "%%")
        flag = f"--{key.replace('_', '-')}"
        options: dict[str, Any] = {"dest": key, "default": argparse.SUPPRESS, "help": help_}
        origin = typing.get_origin(field.annotation)
        if field.annotation is bool:
            group.add_argument(flag, action=argparse.BooleanOptionalAction, **options)
        elif origin is list:
            group.add_argument(flag, nargs="*", metavar="VALUE", **options)
        elif origin is dict:
            group.add_argument(flag, type=json.loads, metavar="JSON", **options)
        elif origin is typing.Literal:
            group.add_argument(flag, choices=typing.get_args(field.annotation), **options)
        else:
            group.add_argument(flag, metavar=getattr(field.annotation, "__name__", "VALUE").upper(), **options)


def _add_parameter(parser: argparse.ArgumentParser, key: str, hint: Any, default: Any, positional: bool) -> None:
    """One option for a plain parameter: a path, a list of paths, a number, text, or an experiment as JSON."""
    required = default is inspect.Parameter.empty
    optional_of = [a for a in typing.get_args(hint) if a is not types.NoneType]
    plain = optional_of[0] if isinstance(hint, types.UnionType) and optional_of else hint
    options: dict[str, Any] = (
        {} if required else {"default": default, "help": f"(default: {default})".replace("%", "%%")}
    )
    if not positional:
        options |= {"dest": key, "required": required}
    flag = f"--{key.removeprefix('as_').replace('_', '-')}"  # as_json: --json
    names = [key] if positional else [*(["-o"] if key == "output" else []), flag]
    if positional and not required and typing.get_origin(plain) is not list:
        options["nargs"] = "?"
    if typing.get_origin(plain) is list:
        parser.add_argument(*names, nargs="+" if required else "*", type=typing.get_args(plain)[0], **options)
    elif plain is bool:
        parser.add_argument(*names, action=argparse.BooleanOptionalAction, **options)
    elif _is_experiment(plain):
        parser.add_argument(*names, metavar="JSON", **options)
    elif typing.get_origin(plain) is typing.Literal:
        parser.add_argument(*names, choices=typing.get_args(plain), **options)
    else:
        parser.add_argument(*names, type=plain, metavar=plain.__name__.upper(), **options)


def _take(key: str, hint: Any, given: dict[str, Any]) -> Any:
    """The argument for one parameter out of the parsed values."""
    try:
        if _is_section(hint):
            return hint.model_validate({name: given[name] for name in hint.model_fields if name in given})
        if _is_experiment(hint):
            return pydantic.TypeAdapter(Experiment).validate_json(given[key])
    except pydantic.ValidationError as error:
        raise BowerbirdError("; ".join(explain(item, Config) for item in error.errors())) from None
    return given[key]
