"""The console script: ``bowerbird <verb>-<noun> ...``.

A command is a stage function; its options come from the function's signature and from the configuration's models, so a
description, a range or a default stands in one place. Only the module a command needs is imported.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import inspect
import json
import logging
import os
import shlex
import signal
import sys
import threading
import types
import typing
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import pydantic

from bowerbird.artifacts import BowerbirdError
from bowerbird.experiments import Experiment, Section
from bowerbird.faults import explain_fault

# command -> (module, function, one line of help); in the order of the data
COMMANDS: dict[str, tuple[str, str, str]] = {
    "list-corpus": (
        "bowerbird.corpus",
        "list_corpus",
        "read a folder of speech into a manifest; refuse bad files by name",
    ),
    "store-audio": ("bowerbird.corpus", "store_audio", "decode one shard of the manifest to 16 kHz samples"),
    "list-trials": ("bowerbird.corpus", "list_trials", "choose what is converted to which voice"),
    "export-trials": ("bowerbird.corpus", "export_trials", "write trials as a list that other tools read"),
    "extract-features": ("bowerbird.features", "extract_features", "run a self-supervised encoder over one shard"),
    "fit-codebook": ("bowerbird.codebook", "fit_codebook", "K-means over a sample of frames"),
    "assign-units": ("bowerbird.codebook", "assign_units", "the code of every frame of one shard"),
    "summarise-units": ("bowerbird.codebook", "summarise_units", "how the codes are used, and by whom"),
    "probe-residual": ("bowerbird.codebook.residual", "probe_residual", "what quantization leaves: speaker and phone"),
    "search-pairs": ("bowerbird.pairs", "search_pairs", "nearest frames of donor speakers for one shard"),
    "summarise-pairs": ("bowerbird.pairs", "summarise_pairs", "quality of retrieval against the random control"),
    "train-stage": ("bowerbird.training", "train_stage", "train one stage of one experiment"),
    "convert-trials": ("bowerbird.conversion", "convert_trials", "convert a table of trials"),
    "transcribe-sources": ("bowerbird.evaluation", "transcribe_sources", "what the recogniser hears in each source"),
    "score-trials": ("bowerbird.evaluation", "score_trials", "one family of metrics over converted trials"),
    "summarise-scores": (
        "bowerbird.evaluation",
        "summarise_scores",
        "means with confidence intervals over all experiments",
    ),
    "compare": ("bowerbird.evaluation", "compare_runs", "paired differences of two runs, or within one, as a table"),
    "write-report": ("bowerbird.report", "write_report", "the static report with players"),
    "listening-analyse": (
        "bowerbird.report",
        "analyse_listening",
        "mean opinions of saved listening tests, as a table",
    ),
    "convert": ("bowerbird.conversion", "convert", "convert one file or a folder to another voice"),
    "config-show": ("bowerbird.study", "show_config", "print the resolved configuration, defaults included"),
    "config-check": ("bowerbird.study", "check_config", "check a configuration and say what is wrong"),
    "config-schema": ("bowerbird.study", "write_schema", "JSON schema of the configuration, for editors"),
    "pairs-quality": ("bowerbird.pairs", "print_quality", "content agreement of retrieved frames, as a table"),
    "audit-residual": ("bowerbird.audit.probes", "audit_residual", "what the codebooks' residuals hold, as a table"),
    "audit-leakage": (
        "bowerbird.audit.probes",
        "audit_leakage",
        "how much of the speaker Stepback's content keeps, as a table",
    ),
    "audit": ("bowerbird.audit", "audit_run", "check every artifact of a run against what it says it is"),
    "show": ("bowerbird.audit.story", "show_artifact", "the story of one artifact: from what, how, when, its numbers"),
    "lineage": ("bowerbird.audit.story", "draw_lineage", "the ancestors of one artifact, as a tree"),
    "plan-cost": ("bowerbird.audit.cost", "plan_cost", "what a run cost, and what one over more speech would"),
    "write-crate": ("bowerbird.audit.crate", "write_crate", "describe a run as an RO-Crate, to publish it"),
}
POSITIONAL = {
    "convert": ("source",),
    "compare": ("runs",),
    "listening-analyse": ("answers",),
    "config-check": ("files",),
    "config-show": ("files",),
    "audit": ("stage",),
    "show": ("path",),
    "lineage": ("path",),
}
GROUPS = {"config", "pairs", "audit", "listening"}  # `bowerbird config show` is `config-show`


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code (1: an error the user can act on, 75: preempted, run again)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if len(words) > 1 and words[0] in GROUPS and f"{words[0]}-{words[1]}" in COMMANDS:
        words[:2] = [f"{words[0]}-{words[1]}"]
    if not words or words[0] in ("-h", "--help"):
        print(_overview())
        return 0
    if words[0] == "--version":
        print(importlib.metadata.version("bowerbird"))
        return 0
    if words[0] not in COMMANDS:
        from bowerbird.config import _nearest

        print(f"bowerbird: {words[0]!r} is no command{_nearest(words[0], COMMANDS)}", file=sys.stderr)
        return 2
    _limit_threads(words)
    logging.basicConfig(
        level=os.environ.get("BOWERBIRD_LOG", "INFO").upper(),
        stream=sys.stderr,
        format="%(asctime)s %(levelname).1s %(name)s: %(message)s",
        datefmt="%H:%M:%S",
    )
    for noisy in ("httpx", "matplotlib", "numba", "fsspec", "urllib3", "filelock"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        function = load_command(words[0])
        call = parse_call(words[0], function, words[1:])
        threading.excepthook = _helper_stopped
        with _tidy_exit():
            result = function(**call)
    except BowerbirdError as error:
        print(f"bowerbird {words[0]}: {error}", file=sys.stderr)
        return 1
    except Exception as error:
        line = explain_fault(error)
        if line is None:
            raise
        print(f"bowerbird {words[0]}: {line}", file=sys.stderr)
        return 1
    return result if isinstance(result, int) else 0


def _helper_stopped(arguments: threading.ExceptHookArgs) -> None:
    """One line for a thread of a library that the machine stops (TensorBoard's writer on a full disk)."""
    line = explain_fault(arguments.exc_value) if arguments.exc_value else None
    if line is None:
        threading.__excepthook__(arguments)
    else:
        logging.getLogger(__name__).error("%s: %s", getattr(arguments.thread, "name", "a thread"), line)


@contextlib.contextmanager
def _tidy_exit() -> Iterator[None]:
    """SIGTERM ends the command by an exception, so that temporary files go with it (training saves instead)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _limit_threads(words: Sequence[str]) -> None:
    """Numerical libraries read these when they are first imported, so ``--threads`` must reach them before."""
    threads = words[words.index("--threads") + 1] if "--threads" in words[:-1] else "1"
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = threads
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def _overview() -> str:
    width = max(map(len, COMMANDS)) + 2
    lines = [f"  {name:<{width}}{help_}" for name, (_, _, help_) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: bowerbird COMMAND ...",
            "",
            "The stages of a study, in the order of the data (the workflow calls them; so can you):",
            "",
            *lines,
            "",
            "`bowerbird COMMAND --help` lists a command's options with their defaults.",
        ]
    )


def load_command(name: str) -> Callable[..., Any]:
    """Import the function behind a command."""
    module, function, _ = COMMANDS[name]
    return getattr(importlib.import_module(module), function)


def parse_call(name: str, function: Callable[..., Any], words: Sequence[str]) -> dict[str, Any]:
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
            _add_parameter(parser, key, hint, default, positional=key in POSITIONAL.get(name, ()))
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
    from bowerbird.config import _explain

    try:
        if _is_section(hint):
            return hint.model_validate({name: given[name] for name in hint.model_fields if name in given})
        if _is_experiment(hint):
            return pydantic.TypeAdapter(Experiment).validate_json(given[key])
    except pydantic.ValidationError as error:
        raise BowerbirdError("; ".join(_explain(item) for item in error.errors())) from None
    return given[key]


def flags(section: Section, only: Collection[str] = (), exclude: Collection[str] = ()) -> str:
    """A section as command-line options, in the order of its fields: what `parse_call` reads back.

    ``only`` and ``exclude`` choose fields. The result is one flat string, so a workflow can compare it.
    """
    words: list[str] = []
    for key in type(section).model_fields:
        if (only and key not in only) or key in exclude:
            continue
        value, flag = getattr(section, key), f"--{key.replace('_', '-')}"
        if isinstance(value, bool):
            words.append(flag if value else f"--no-{key.replace('_', '-')}")
        elif isinstance(value, list):
            words += [flag, *map(str, value)]
        elif isinstance(value, dict):
            words += [flag, json.dumps(value, sort_keys=True, ensure_ascii=False)]
        else:
            words += [
                f"{flag}={value}" if str(value).startswith("-") else flag,
                *([] if str(value).startswith("-") else [str(value)]),
            ]
    return shlex.join(words)


if __name__ == "__main__":
    sys.exit(main())
