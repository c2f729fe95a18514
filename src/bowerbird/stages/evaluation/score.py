"""Scores of one family of metrics for one experiment: a long table, one row a trial and metric."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from bowerbird.artifacts.identity import Identity, RunRecord, inputs_digest
from bowerbird.artifacts.tables import SCORES, read_identity, write_table
from bowerbird.config.sections.evaluation import EvaluationConfig
from bowerbird.config.sections.runtime import RuntimeConfig
from bowerbird.errors import BowerbirdError
from bowerbird.stages.evaluation import VERSION
from bowerbird.stages.evaluation.intelligibility import IntelligibilityJudge
from bowerbird.stages.evaluation.prosody import ProsodyJudge
from bowerbird.stages.evaluation.quality import QualityJudge
from bowerbird.stages.evaluation.speaker import SpeakerJudge
from bowerbird.stages.evaluation.trial_data import Material

TRIAL_COLUMNS = ("source_speaker", "target_speaker", "source_gender", "target_gender", "language", "condition")


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

    ``transcripts``: what `transcribe_sources` heard in the sources; intelligibility then has dWER.
    """
    if family not in FAMILIES:
        raise BowerbirdError(f"--family: {family!r}: no such family; known: {', '.join(FAMILIES)}")
    torch.set_num_threads(runtime.threads)
    judged, fields = FAMILIES[family]
    params = {"family": family, **{name: getattr(options, name) for name in fields}}
    inputs = {
        "conversion": inputs_digest([conversion]),
        "trials": inputs_digest([trials]),
        "manifest": inputs_digest([manifest]),
        "audio": inputs_digest(audio),
        **({"transcripts": inputs_digest([transcripts])} if transcripts else {}),
    }
    identity = Identity("evaluation", VERSION, params, inputs)
    with RunRecord(device="cpu", dtype="float32") as record:
        material = Material.load(conversion, trials, manifest, audio, transcripts)
        judge = judged(options, material)
        rows: list[dict[str, Any]] = []
        for number, trial in enumerate(material.trials, start=1):
            scores = judge.failed(trial) if trial["status"] == "failed" else judge.score(trial)
            shared = {name: trial[name] for name in ("trial_id", *TRIAL_COLUMNS)}
            rows += [{**shared, **asdict(score)} for score in scores]
            if number % 50 == 0 or number == len(material.trials):
                logger.info("%s, %s: %d of %d trials", output.parent.name, family, number, len(material.trials))
        record.write(output, identity)
        frame = pd.DataFrame(rows, columns=SCORES.names)
        facts = {
            "trials": len(material.trials),
            "failed": sum(t["status"] == "failed" for t in material.trials),
            "trials_hash": read_identity(trials).get("trials_hash", ""),
            **judge.facts,
        }
        write_table(output, frame, identity, SCORES, extra=facts)


# family -> (judge, the options it depends on)
FAMILIES: dict[str, tuple[Any, tuple[str, ...]]] = {
    "intelligibility": (IntelligibilityJudge, ("asr", "asr_revision", "normalizer", "closed_set")),
    "speaker": (SpeakerJudge, ("verifier", "second_verifier")),
    "prosody": (ProsodyJudge, ()),
    "quality": (QualityJudge, ("quality_trials", "opinions")),
}
