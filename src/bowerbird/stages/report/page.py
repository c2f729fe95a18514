"""Stage *report*: one static folder that opens offline: scores with intervals, players, pictures, and what it took.

The page is ``index.html``; everything it links to lies in ``assets/`` beside it, so the folder can be moved or sent as
it is. ``listening.html`` beside it asks listeners. Nothing is loaded from elsewhere, and a policy in the page forbids it.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from pathlib import Path

import jinja2
from markupsafe import Markup

from bowerbird.artifacts.files import file_sha256, write_seal, write_text
from bowerbird.artifacts.identity import Identity, RunRecord, inputs_digest
from bowerbird.config.loading import load_config
from bowerbird.config.sections.report import ReportConfig
from bowerbird.errors import BowerbirdError
from bowerbird.stages.report import VERSION
from bowerbird.stages.report.figures import draw_figures
from bowerbird.stages.report.formats import FILTERS
from bowerbird.stages.report.players import gather_listening
from bowerbird.stages.report.questionnaire import write_test
from bowerbird.stages.report.run import Run
from bowerbird.stages.report.tables import gather_scores

HERE = Path(__file__).parent


TEST = "listening.html"


MARKER = "files of a bowerbird report; they are replaced when it is written again\n"


INPUTS = (
    "corpus/*.parquet",
    "corpus/audio/*.parquet",
    "codebook/*/summary.parquet",
    "codebook/*/residual.parquet",
    "pairs/*/quality.parquet",
    "training/*/*/metrics.jsonl",
    "conversion/*/trials.parquet",
    "evaluation/*/*.parquet",
    "evaluation/*.parquet",
)


logger = logging.getLogger(__name__)


def write_report(root: Path, output: Path, config: Path, options: ReportConfig) -> None:
    """Write the report of the run below ``root``: ``output`` (index.html) and the folder assets/ beside it.

    What a run does not have (no codebook, no pairs, a metric left out) the page says where it would stand. The page
    comes last: where it is, its sounds and pictures are.
    """
    record = RunRecord(device="cpu")
    run = Run(root, load_config([config]))
    inputs = sorted(path for pattern in INPUTS for path in root.glob(pattern))
    identity = Identity("report", VERSION, options.model_dump(), {"run": inputs_digest(inputs)})
    folder = output.parent
    _check_ours(folder / "assets")
    folder.mkdir(parents=True, exist_ok=True)
    assets = folder / f".tmp-{os.getpid()}-assets"
    try:
        page, test = _render(run, assets, options, identity)
        _replace(assets, folder / "assets")
        write_text(folder / TEST, test) if test else (folder / TEST).unlink(missing_ok=True)
    finally:
        shutil.rmtree(assets, ignore_errors=True)
    record.write(output, identity)
    beside = [p for p in (*sorted((folder / "assets").rglob("*")), folder / TEST) if p.is_file()]
    digests = {str(p.relative_to(folder)): file_sha256(p) for p in beside}
    write_seal(output, {**digests, output.name: hashlib.sha256(page.encode()).hexdigest()})
    write_text(output, page)
    logger.info("%s: written", output)


def _render(run: Run, assets: Path, options: ReportConfig, identity: Identity) -> tuple[str, str]:
    """The page and the listening test as text; its files go to ``assets``."""
    for name in ("audio", "pictures", "data"):
        (assets / name).mkdir(parents=True)
    (assets / "README.txt").write_text(MARKER, encoding="utf-8")
    scores = gather_scores(run, assets / "data")
    listening = gather_listening(run, scores.systems, assets, options.players)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(FILTERS)
    style = Markup((HERE / "style.css").read_text(encoding="utf-8"))
    test = write_test(listening[: options.listening_trials], assets, options.title, style)
    page = environment.get_template("page.html.j2").render(
        run=run,
        test=TEST if test else "",
        scores=scores,
        listening=listening,
        figures=draw_figures(run, scores),
        options=options,
        identity=identity,
        style=style,
        script=Markup((HERE / "page.js").read_text(encoding="utf-8")),
    )
    return page, test


def _check_ours(assets: Path) -> None:
    """Refuse to replace a folder that is not of an earlier report: nobody else's files are deleted."""
    readme = assets / "README.txt"
    if assets.exists() and not (readme.exists() and readme.read_text(encoding="utf-8") == MARKER):
        raise BowerbirdError(f"{assets}: is there and is not of a report; move it, or write the report elsewhere")


def _replace(new: Path, old: Path) -> None:
    """Put ``new`` in the place of ``old``."""
    shutil.rmtree(old, ignore_errors=True)
    new.rename(old)
