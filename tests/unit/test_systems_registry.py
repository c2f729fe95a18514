"""The registry of systems: the built-in ones, and those that entry points of other packages add."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from bowerbird.config.systems.base import ExperimentBase
from bowerbird.config.systems.registry import BUILT_IN, GROUP, SYSTEMS, load_systems
from bowerbird.errors import BowerbirdError

OPTIONS = '''
from typing import Literal
from bowerbird.config.systems.base import ExperimentBase

class EchoExperiment(ExperimentBase):
    """Echo."""

    system: Literal["echo"] = "echo"
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An importable package with a module of options."""
    folder = tmp_path / "echo_system"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "options.py").write_text(OPTIONS, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    return folder.name


def test_each_built_in_system_has_a_package_of_the_name_of_its_options() -> None:
    assert {SYSTEMS[model().system_name] for model in BUILT_IN} == set(BUILT_IN)
    for model in BUILT_IN:
        assert model.package() == f"bowerbird.systems.{model.__module__.rpartition('.')[2]}"


def test_an_entry_point_adds_a_system_whose_package_holds_its_options(package: str) -> None:
    systems = load_systems([EntryPoint("echo", f"{package}.options:EchoExperiment", GROUP)])
    assert list(systems)[:-1] == [model().system_name for model in BUILT_IN]
    added = systems["echo"]
    assert issubclass(added, ExperimentBase) and added().system_name == "echo" and added.package() == package


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("knnvc", "bowerbird.config.systems.knnvc:KnnvcExperiment", "there is a system of this name"),
        (
            "other",
            "bowerbird.config.systems.knnvc:KnnvcExperiment",
            "its system is 'knnvc'; .* must have the same name",
        ),
        ("absent", "no_such_package.options:Options", "cannot be loaded .*No module named 'no_such_package'"),
        ("absent", "bowerbird.config.base:Nothing", "cannot be loaded .*Nothing"),
        ("section", "bowerbird.config.base:Section", "is no subclass of ExperimentBase"),
    ],
)
def test_an_entry_point_that_cannot_be_used_is_named(name: str, value: str, message: str) -> None:
    with pytest.raises(BowerbirdError, match=rf"entry point bowerbird\.systems: {name} = {value}: {message}"):
        load_systems([EntryPoint(name, value, GROUP)])
