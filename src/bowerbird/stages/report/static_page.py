"""What every page of bowerbird is made of: templates, style sheet, script, and the folder of files beside it.

A page is one file that opens from disk; everything that it links to lies in ``assets/`` beside it. The report and
``bowerbird show --output`` are such pages.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import jinja2
from markupsafe import Markup

from bowerbird.errors import BowerbirdError
from bowerbird.stages.report.formats import FILTERS

HERE = Path(__file__).parent
SUBFOLDERS = ("audio", "pictures", "data")


def template_environment(folder: Path) -> jinja2.Environment:
    """The templates in ``folder``: values are escaped, and a name that is not defined is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(FILTERS)
    return environment


def style_sheet() -> Markup:
    """The style sheet of every page."""
    return Markup((HERE / "style.css").read_text(encoding="utf-8"))


def page_script() -> Markup:
    """The script of pages with tables and players."""
    return Markup((HERE / "page.js").read_text(encoding="utf-8"))


@contextlib.contextmanager
def replaced_assets(folder: Path, marker: str, refusal: str) -> Iterator[Path]:
    """Yield a new folder for the files of a page in ``folder``; on success it takes the place of ``assets/`` there.

    ``marker`` is the text of its README.txt. An ``assets/`` with any other README.txt belongs to somebody else: it stays as it
    is, and the error says ``refusal``.
    """
    assets = folder / "assets"
    readme = assets / "README.txt"
    if assets.exists() and not (readme.is_file() and readme.read_text(encoding="utf-8") == marker):
        raise BowerbirdError(f"{assets}: {refusal}")
    folder.mkdir(parents=True, exist_ok=True)
    building = folder / f".tmp-{os.getpid()}-assets"
    try:
        for name in SUBFOLDERS:
            (building / name).mkdir(parents=True)
        (building / "README.txt").write_text(marker, encoding="utf-8")
        yield building
        shutil.rmtree(assets, ignore_errors=True)
        building.rename(assets)
    finally:
        shutil.rmtree(building, ignore_errors=True)
