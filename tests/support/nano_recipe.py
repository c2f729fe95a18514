"""The scripts of workflow/nano, which are no package: they import each other from their folder."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

NANO = Path(__file__).resolve().parents[2] / "workflow" / "nano"


def import_script(name: str) -> ModuleType:
    """A script of the recipe as a module; the tests are skipped where a package that it needs is not installed."""
    if str(NANO) not in sys.path:
        sys.path.insert(0, str(NANO))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name == name:
            raise
        pytest.skip(f"{error.name} is not installed", allow_module_level=True)
