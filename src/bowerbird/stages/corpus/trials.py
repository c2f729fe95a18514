"""Stage *corpus*: a folder of speech becomes a manifest, audio shards at 16 kHz, and a list of trials.

Every refused file is named with its reason; splits are by speaker; nothing depends on the order a disk lists its files
in, nor on where the corpus lies: the root of its paths is in the manifest's run record, not in the manifest.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pandas as pd

from bowerbird.artifacts.identity import Identity, RunRecord, inputs_digest, stable_hash
from bowerbird.artifacts.tables import TRIALS, read_table, write_table
from bowerbird.config.sections.trials import TrialsConfig
from bowerbird.stages.corpus import VERSION
from bowerbird.stages.corpus.draw_trials import _same_words, choose_trials
from bowerbird.stages.corpus.lists import read_trials

logger = logging.getLogger(__name__)


def list_trials(manifest: Path, output: Path, options: TrialsConfig) -> None:
    """Choose sources, targets and references from one split: the same list for every system, by the seed alone.

    Or take them from a published list (`file`). What would make the list unfair is counted and said.
    """
    record = RunRecord()
    table = read_table(manifest)
    inputs = {"manifest": inputs_digest([manifest])}
    if options.file:
        trials = read_trials(table, options)
        inputs["list"] = stable_hash(trials[["trial_id", "source_utt", "target_speaker"]].to_dict("records"))
    else:
        trials = choose_trials(table[table["split"] == options.split], options)
    leaks = find_trial_leaks(trials, table)
    for what, count in leaks.items():
        if count:
            level = logging.WARNING if what in GIVEN_AWAY else logging.INFO
            logger.log(level, "leak report: %d of %d trials: %s", count, len(trials), what)
    identity = Identity("corpus", VERSION, options.model_dump(exclude={"file"}), inputs)
    record.write(output, identity)
    facts = {"trials_hash": trials_hash(trials), "trials": len(trials), "leaks": leaks}
    write_table(output, trials, identity, TRIALS, extra=facts)
    logger.info(
        "%d trials from %d sources to %d speakers, list %s",
        len(trials),
        trials["source_utt"].nunique(),
        trials["target_speaker"].nunique(),
        trials_hash(trials),
    )


GIVEN_AWAY = (
    "the judge's utterance is among the references",
    "a reference says the source's words",
    "the judge's utterance says the source's words",
    "source and target are one speaker",
)  # no trial of `choose_trials` does


def find_trial_leaks(trials: pd.DataFrame, manifest: pd.DataFrame) -> dict[str, int]:
    """How many trials give something away, by what it is; ``manifest`` is of all splits.

    `GIVEN_AWAY` cannot come from `choose_trials`; published lists have them. The rest is for the reader to judge.
    """
    rows = {row["utt_id"]: row for row in manifest.to_dict("records")}
    training = set(manifest.loc[manifest["split"] == "train", "speaker"])
    trained = set(manifest.loc[manifest["split"] == "train", "utt_id"])
    counts = dict.fromkeys(
        (
            *GIVEN_AWAY,
            "a reference is of the session of the judge's utterance",
            "less speech of the target than the condition says",
            "source or target was trained on as a speaker",
            "the source utterance itself was trained on",
        ),
        0,
    )
    for trial in trials.to_dict("records"):
        source, judged = rows[trial["source_utt"]], rows[trial["heldout_utt"]]
        references = [rows[utt_id] for utt_id in trial["reference_utts"]]
        wanted = re.fullmatch(r"([\d.]+)s", trial["condition"])
        found = (
            trial["heldout_utt"] in trial["reference_utts"],
            any(_same_words(reference, source) for reference in references),
            _same_words(judged, source),
            trial["source_speaker"] == trial["target_speaker"],
            any(r.get("session", "") and r.get("session", "") == judged.get("session", "") for r in references),
            bool(wanted) and trial["reference_s"] < float(wanted[1] if wanted else 0),
            bool({trial["source_speaker"], trial["target_speaker"]} & training),
            trial["source_utt"] in trained,
        )
        for what, is_so in zip(counts, found, strict=True):
            counts[what] += bool(is_so)
    return counts


def trials_hash(trials: pd.DataFrame) -> str:
    """One name for the whole list."""
    return stable_hash(trials[TRIALS.names].to_dict("records"))
