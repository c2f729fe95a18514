"""A change of any option of any system makes something that depends on it stale, and the audit sees it.

At commit 030b775 the audit compared three of the options that conversion depends on, so a conversion under another
`guidance`, `sampling_steps`, `prompt_s` or `input` passed as what the configuration asks for.
"""

from __future__ import annotations

import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from recorded_run import STUDY, record_run, with_option

from bowerbird.config.base import StageOptions
from bowerbird.config.graph import Graph
from bowerbird.config.loading import parse_config
from bowerbird.config.systems.registry import SYSTEMS
from bowerbird.inspection.lineage import read_any_identity, staleness

TWINS = {"vocoder": "vocoder-other"}
REPRESENTATIVES = {
    system: next(n for n, e in STUDY["experiments"].items() if e["system"] == system) for system in SYSTEMS
}
OTHER_NAMES = {  # what an option that names something names instead
    "features": {"nano": "nano-l2", "mel": "magnitude", "world": "world-short"},
    "world": {"world": "world-short"},
    "mels": {"mel": "magnitude"},
    "phones": {"phones": "phones-short"},
    "speaker_embeddings": {"voice": "voice-short"},
    "pairs": {"knn4": "knn8", "": "knn4"},
    "codebook": {"k256": "k32"},
    "vocoder": {"vocoder": "vocoder-other", "bundled:nano-world-mel": "vocoder-mel", "bundled:world": "vocoder"},
    "start_from": {"": "bundled:nano-encoder"},
    "speaker_encoder": {"ge2e": "resemblyzer"},
}

OF_SEVERAL = {"keep": ["energy"], "search": {"nano": 2.0}}  # lists and mappings


def options() -> Iterator[tuple[str, tuple[str, ...]]]:
    """(system, path of an option) of every option of every system that can have another value.

    `recognizer` alone cannot: what `phones` names must change with it.
    """
    for system, model in SYSTEMS.items():
        for name, field in model.model_fields.items():
            inner = field.annotation
            if isinstance(inner, type) and issubclass(inner, StageOptions):
                yield from (
                    (system, (name, option)) for option, f in inner.model_fields.items() if has_choice(f.annotation)
                )
            elif name not in ("system", "size", "recognizer") and (name != "reuse" or model(system=system).stages):
                yield system, (name,)


def has_choice(annotation: Any) -> bool:
    """Whether an option has more than one value."""
    return typing.get_origin(annotation) is not typing.Literal or len(typing.get_args(annotation)) > 1


def representative(system: str, path: tuple[str, ...]) -> str:
    """An experiment of the system in which the option matters, and may change."""
    return {"ppg": "takin-ppg", "pretrained": "vocoder-other"}.get(path[0], REPRESENTATIVES[system])


def another_value(system: str, path: tuple[str, ...], value: Any, annotation: Any) -> Any:
    """A value of the option that differs from ``value``."""
    name = path[-1]
    if name == "reuse":
        name = REPRESENTATIVES[system]
        return {SYSTEMS[system].model_validate(STUDY["experiments"][name]).stages[-1]: TWINS.get(name, f"{name}-twin")}
    if name == "pretrained":
        return str(Path(__file__).parent)
    if typing.get_origin(annotation) is typing.Literal:
        return next(choice for choice in typing.get_args(annotation) if choice != value)
    if name in OTHER_NAMES and isinstance(value, str):
        return OTHER_NAMES[name].get(value, "")
    if name in OF_SEVERAL:
        return OF_SEVERAL[name]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + (2 if name in ("kernel", "layers", "heads", "width", "context_width", "memory_width") else 1)
    if isinstance(value, float):
        return value / 2 if value else 0.25
    raise AssertionError(f"{system}.{'.'.join(path)} = {value!r}: say in this test what else it can be")


def candidates(system: str, path: tuple[str, ...], value: Any, annotation: Any) -> Iterator[Any]:
    """Values to try: an option may refuse some of them beside its other options."""
    yield another_value(system, path, value, annotation)
    if isinstance(value, int) and not isinstance(value, bool):
        yield from (value * 2, value + 8, max(1, value // 2))
    if isinstance(value, float):
        yield from (value * 2, value + 1)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    return record_run(tmp_path_factory.mktemp("recorded") / "run")


def stale_artifacts(run: Graph, values: dict[str, Any], experiment: str) -> list[str]:
    """Artifacts of an experiment that are not what a study of ``values`` would make."""
    config = parse_config({**values, "results": str(run.paths.root.parent), "run": run.paths.root.name})
    graph = Graph(config, run.paths)
    jobs = [graph.convert_trials(experiment)]
    jobs += [graph.train_stage(name, stage) for name, stage in graph.trained_stages() if name == experiment]
    found = []
    for job in jobs:
        path = next(iter(job.outputs.values()))
        if not path.is_file() or staleness(graph, path, read_any_identity(path)):
            found.append(job.variant)
    return found


def test_nothing_is_stale_under_the_configuration_that_made_it(run: Graph) -> None:
    for experiment in STUDY["experiments"]:
        assert stale_artifacts(run, STUDY, experiment) == []


@pytest.mark.parametrize(("system", "path"), [pytest.param(s, p, id=f"{s}.{'.'.join(p)}") for s, p in options()])
def test_a_change_of_an_option_is_seen(run: Graph, system: str, path: tuple[str, ...]) -> None:
    experiment = representative(system, path)
    owner: Any = run.config.experiments[experiment]
    for key in path[:-1]:
        owner = getattr(owner, key)
    value, annotation = getattr(owner, path[-1]), type(owner).model_fields[path[-1]].annotation
    for changed in candidates(system, path, value, annotation):
        try:
            found = stale_artifacts(run, with_option(STUDY, experiment, path, changed), experiment)
        except Exception as error:
            refused = error
            continue
        assert found, f"{changed!r} in place of {value!r}: nothing is stale"
        return
    raise AssertionError(f"no other value is accepted: {refused}")


OF_CONVERSION = [
    (system, (name,))
    for system, model in SYSTEMS.items()
    for name in model.model_validate({"system": system}).conversion_params()
    if name != "system"
]


@pytest.mark.parametrize(("system", "path"), [pytest.param(s, p, id=f"{s}.{p[0]}") for s, p in OF_CONVERSION])
def test_an_option_of_conversion_makes_the_conversion_stale(run: Graph, system: str, path: tuple[str, ...]) -> None:
    """Not only something of the experiment, but the table of conversions itself."""
    experiment = REPRESENTATIVES[system]
    owner = run.config.experiments[experiment]
    value, annotation = getattr(owner, path[0]), type(owner).model_fields[path[0]].annotation
    changed = another_value(system, path, value, annotation)
    assert experiment in stale_artifacts(run, with_option(STUDY, experiment, path, changed), experiment)
