"""The layers of the package, the direction of imports, no circles; and what stays light."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from source_tree import PACKAGE, circles, foreign_imports, imports, modules

from bowerbird.stages import STAGES

# Top to bottom; a layer imports what stands below it, and itself. Layers on one line do not import each other.
LAYERS = (
    ("cli", "inspection"),
    ("stages",),
    ("systems", "metrics"),
    ("encoders",),
    ("nn",),
    ("artifacts",),
    ("config",),
    ("audio",),
    ("errors",),
)
HEIGHT = {name: -number for number, layer in enumerate(LAYERS) for name in layer}


def test_the_root_lists_the_layers_and_nothing_else() -> None:
    entries = {path.name for path in PACKAGE.iterdir() if path.name != "__pycache__"}
    assert entries == {"__init__.py", "assets", "audio.py", "errors.py", *(HEIGHT.keys() - {"audio", "errors"})}
    assert len(entries) == 13


@pytest.mark.parametrize("name", [name for name in modules() if name])
def test_imports_go_one_way(name: str) -> None:
    own = name.split(".")[0]
    for other in imports(name):
        other_layer = other.split(".")[0]
        if other_layer == own or not other_layer:
            continue
        assert HEIGHT[other_layer] < HEIGHT[own], f"{name} imports {other}: against the direction, or sideways"


@pytest.mark.parametrize("name", [name for name in modules() if name.startswith("stages.")])
def test_stages_meet_in_files(name: str) -> None:
    stage = name.split(".")[1]
    others = {other for other in imports(name) if other.startswith("stages.") and other.split(".")[1] != stage}
    assert others == set(), "a stage imports another one: the reader of a file belongs to artifacts/"


def test_no_files_import_each_other_in_a_circle() -> None:
    assert circles() == []


def test_nobody_imports_the_workflow_engine() -> None:
    assert [name for name in modules() if "snakemake" in foreign_imports(name)] == []


def test_stages_are_listed_once() -> None:
    folders = {path.parent.name for path in (PACKAGE / "stages").glob("*/__init__.py")}
    assert sorted(folders) == sorted(STAGES)


HEAVY = ("torch", "transformers", "faiss", "pandas", "pyarrow", "matplotlib", "scipy")


@pytest.mark.parametrize(
    "statement",
    [
        "import bowerbird.config.graph, bowerbird.config.revisions, bowerbird.artifacts.versions, bowerbird.artifacts.files",
        "from bowerbird.cli.__main__ import main; main(['--help'])",
        "from bowerbird.cli.__main__ import main; main(['config', 'check', '--help'])",
    ],
    ids=["configuration", "help", "help of a command of the configuration"],
)
def test_what_starts_often_loads_no_heavy_library(statement: str) -> None:
    code = (
        "import sys, contextlib\nwith contextlib.suppress(SystemExit): "
        f"exec({statement!r})\nprint('LOADED', *[m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1].split() == ["LOADED"]


def test_help_comes_at_once() -> None:
    """Half a second on an idle core; the best of three, as another job may be running."""
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "bowerbird.cli", "--help"], capture_output=True, check=True)
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 0.5
