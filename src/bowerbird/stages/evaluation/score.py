"""Scores of one family of metrics for one experiment: a long table, one row per trial and metric."""

from __future__ import annotations

import importlib
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from bowerbird.artifacts.identity import Identity, RunRecord, inputs_digest
from bowerbird.artifacts.tables import SCORES, read_identity, write_table
from bowerbird.config.sections.evaluation import FAMILIES, EvaluationConfig
from bowerbird.config.sections.runtime import RuntimeConfig
from bowerbird.errors import BowerbirdError
from bowerbird.stages.evaluation import VERSION
from bowerbird.stages.evaluation.trial_data import Scorer, TrialData

TRIAL_COLUMNS = (
    "trial_id",
    "source_speaker",
    "target_speaker",
    "source_gender",
    "target_gender",
    "language",
    "condition",
)

logger = logging.getLogger(__name__)


def score_trials(
    conversion: Path,
    trials: Path,
    manifest: Path,
    audio: list[Path],
    output: Path,
    family: str,
    options: EvaluationConfig,
    runtime: RuntimeConfig,
    transcripts: Path | None = None,
) -> None:
    """One family of metrics (intelligibility, speaker, prosody, quality) over one experiment's conversions.

    ``transcripts``: the table that `transcribe_sources` wrote; intelligibility then has dWER.
    """
    if family not in FAMILIES:
        raise BowerbirdError(f"--family: {family!r}: no such family; known: {', '.join(FAMILIES)}")
    torch.set_num_threads(runtime.threads)
    inputs = {
        "conversion": inputs_digest([conversion]),
        "trials": inputs_digest([trials]),
        "manifest": inputs_digest([manifest]),
        "audio": inputs_digest(audio),
        **({"transcripts": inputs_digest([transcripts])} if transcripts else {}),
    }
    params = {"family": family, **options.model_dump(include=set(FAMILIES[family]))}
    identity = Identity("evaluation", VERSION, params, inputs)
    record = RunRecord(device="cpu", dtype="float32")
    data = TrialData.load(conversion, trials, manifest, audio, transcripts)
    scorer = load_scorer(family, options, data)
    rows = score_rows(scorer, data, f"evaluation {output.parent.name}, {family}")
    record.write(output, identity)
    stats = {
        "trials": len(data.trials),
        "failed": sum(trial["status"] == "failed" for trial in data.trials),
        "trials_hash": read_identity(trials).get("trials_hash", ""),
        **scorer.stats,
    }
    write_table(output, pd.DataFrame(rows, columns=SCORES.names), identity, SCORES, extra=stats)


def load_scorer(family: str, options: EvaluationConfig, data: TrialData) -> Scorer:
    """The scorer of a family, with its models loaded."""
    module = importlib.import_module(f"bowerbird.stages.evaluation.{family}")
    scorer: type[Scorer] = module.SCORER
    return scorer(options, data)


def score_rows(scorer: Scorer, data: TrialData, label: str) -> list[dict[str, Any]]:
    """Rows of the table of scores, in the order of the trials; progress is logged under ``label``."""
    rows: list[dict[str, Any]] = []
    for number, trial in enumerate(data.trials, start=1):
        scores = scorer.failed(trial) if trial["status"] == "failed" else scorer.score(trial)
        shared = {name: trial[name] for name in TRIAL_COLUMNS}
        rows += [{**shared, **asdict(score)} for score in scores]
        if number % 50 == 0 or number == len(data.trials):
            logger.info("%s: %d of %d trials", label, number, len(data.trials))
    return rows
