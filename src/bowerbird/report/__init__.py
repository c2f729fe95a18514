"""Stage *report*: one static folder that opens offline: a table with intervals, players, pictures, the cost."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import jinja2

from bowerbird.artifacts import BowerbirdError, Identity, RunRecord, inputs_digest, write_text
from bowerbird.config import ReportConfig
from bowerbird.report import figures
from bowerbird.report.gather import gather

VERSION = 1
HERE = Path(__file__).parent
logger = logging.getLogger(__name__)

__all__ = ["VERSION", "write_report"]


def write_report(root: Path, output: Path, config: Path, options: ReportConfig) -> None:
    """Write the report of a run: `output` (index.html) and beside it the sounds, pictures and rows it links to.

    Everything is copied into the report's folder, which can be moved or sent as it is; nothing comes from elsewhere.
    What a run does not have (no pairs, no training) the page says in one line.
    """
    record = RunRecord()
    summary = root / "evaluation" / "summary.parquet"
    if not summary.exists():
        raise BowerbirdError(f"{summary}: no scores; run the evaluation before the report")
    folder = output.parent
    for name in ("audio", "figures", "rows"):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir(parents=True)
    run = gather(root, config, options)
    run.copy_audio(folder)
    run.copy_rows(folder)
    pictures = figures.draw_all(run, folder / "figures")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["number"] = number
    page = environment.get_template("page.html.j2").render(run=run, options=options, pictures=pictures)
    for name in ("style.css", "page.js"):
        shutil.copyfile(HERE / name, folder / name)
    record.write(output, Identity("report", VERSION, options.model_dump(), {"summary": inputs_digest([summary])}))
    write_text(output, page)
    logger.info("%s: %d systems, %d trials with players", output, len(run.systems), len(run.trials))


def number(value: float | None, digits: int = 3) -> str:
    """A number for the eye: three significant digits, a dash where there is none."""
    if value is None or value != value:
        return "–"
    if value and abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.{digits - 1 if abs(value) >= 10 else digits}f}"
