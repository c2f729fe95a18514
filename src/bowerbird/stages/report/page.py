"""Stage *report*: one folder that opens offline, with scores and intervals, players, figures, and what the run took.

The page is ``index.html``; everything that it links to lies in ``assets/`` beside it, so the folder can be moved or sent as it
is. ``listening.html`` beside it is a blind listening test. Nothing is loaded from elsewhere, and a policy in the page forbids
it.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

from bowerbird.artifacts.files import file_sha256, write_seal, write_text
from bowerbird.artifacts.identity import Identity, RunRecord, input_digests
from bowerbird.config.graph import Graph
from bowerbird.config.loading import load_config
from bowerbird.config.paths import Paths
from bowerbird.config.sections.report import ReportConfig
from bowerbird.stages.report import VERSION
from bowerbird.stages.report.figures import draw_figures
from bowerbird.stages.report.ledger import Ledger, sampler_steps, steps_in_order
from bowerbird.stages.report.players import gather_trials
from bowerbird.stages.report.provenance import list_experiments, list_weights, made_with
from bowerbird.stages.report.questionnaire import write_questionnaire
from bowerbird.stages.report.run_data import Run
from bowerbird.stages.report.static_page import HERE, page_script, replaced_assets, style_sheet, template_environment
from bowerbird.stages.report.tables import gather_scores

LISTENING_TEST = "listening.html"
MARKER = "files of a bowerbird report; they are replaced when it is written again\n"
REFUSAL = "is there and is not of a report; move it, or write the report elsewhere"

logger = logging.getLogger(__name__)


def write_report(root: Path, output: Path, config: Path, options: ReportConfig) -> None:
    """Write the report of the run below ``root``: ``output`` (index.html) and the folder assets/ beside it.

    Where a run lacks something (no codebook, no pairs, a metric left out), the page says so in its place. The page is written
    last: where it is, its recordings and pictures are.
    """
    record = RunRecord(device="cpu")
    study = load_config([config])
    run = Run(Graph(study, Paths(root, study.corpus.num_shards)))
    inputs = {role: [p for p in paths if p.exists()] for role, paths in run.graph.write_report().inputs.items()}
    identity = Identity("report", VERSION, options.model_dump(), input_digests(inputs))
    folder = output.parent
    with replaced_assets(folder, MARKER, REFUSAL) as assets:
        page, test = _render(run, assets, options, identity)
    if test:
        write_text(folder / LISTENING_TEST, test)
    else:
        (folder / LISTENING_TEST).unlink(missing_ok=True)
    record.write(output, identity)
    beside = [path for path in (*sorted((folder / "assets").rglob("*")), folder / LISTENING_TEST) if path.is_file()]
    digests = {str(path.relative_to(folder)): file_sha256(path) for path in beside}
    write_seal(output, {**digests, output.name: hashlib.sha256(page.encode()).hexdigest()})
    write_text(output, page)
    logger.info("report: %s written, %d files beside it", output, len(beside))


def _render(run: Run, assets: Path, options: ReportConfig, identity: Identity) -> tuple[str, str]:
    """The page and the listening test as text; their files are written below ``assets``."""
    scores = gather_scores(run, assets / "data")
    trials = gather_trials(run, scores.systems, assets, options.players)
    test = write_questionnaire(trials[: options.listening_trials], assets, options.title)
    ledger = Ledger(run)
    page = (
        template_environment(HERE)
        .get_template("page.html.j2")
        .render(
            run=run,
            scores=scores,
            trials=trials,
            listening_test=LISTENING_TEST if test else "",
            figures=draw_figures(run, scores, ledger.sampler_speeds),
            ledger=ledger,
            speed_steps=steps_in_order(ledger.speeds),
            sampler_steps=sampler_steps(ledger.sampler_speeds),
            weights=list_weights(run),
            experiments=list_experiments(run),
            made_with=made_with(run.records),
            options=options,
            identity=identity,
            style=style_sheet(),
            script=page_script(),
        )
    )
    return page, test
