"""`list-trials`: which source is converted to which voice, and what of that voice a system may use."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pandas as pd

from bowerbird.artifacts.identity import Identity, RunRecord, input_digests, stable_hash
from bowerbird.artifacts.tables import TRIALS, read_table, write_table
from bowerbird.config.sections.trials import TrialsConfig
from bowerbird.stages.corpus import VERSION
from bowerbird.stages.corpus.draw_trials import choose_trials
from bowerbird.stages.corpus.lists import read_trials
from bowerbird.stages.corpus.trial_rows import have_same_words

logger = logging.getLogger(__name__)

# Leaks by the names that the table of trials records.
GIVEN_AWAY = (
    "the held-out utterance is among the references",
    "a reference says the source's words",
    "the held-out utterance says the source's words",
    "source and target are one speaker",
)  # no trial of `choose_trials` has one
TO_BE_WEIGHED = (
    "a reference is of the session of the held-out utterance",
    "less speech of the target than the condition says",
    "source or target was trained on as a speaker",
    "the source utterance itself was trained on",
)


def list_trials(manifest: Path, output: Path, options: TrialsConfig) -> None:
    """Choose sources, targets and references from one split: the same list for every system, by the seed alone.

    Or take them from a published list (`file`). Trials that give something away are counted, logged and recorded.
    """
    record = RunRecord()
    table = read_table(manifest)
    inputs = input_digests({"manifest": [manifest]})
    if options.file:
        trials = read_trials(table, options)
        inputs["list"] = stable_hash(trials[["trial_id", "source_utt", "target_speaker"]].to_dict("records"))
    else:
        trials = choose_trials(table[table["split"] == options.split], options)
    leaks = find_trial_leaks(trials, table)
    for name, count in leaks.items():
        if count:
            level = logging.WARNING if name in GIVEN_AWAY else logging.INFO
            logger.log(level, "leak report: %d of %d trials: %s", count, len(trials), name)
    identity = Identity("corpus", VERSION, options.model_dump(exclude={"file"}), inputs)
    record.write(output, identity)
    stats = {"trials_hash": trials_hash(trials), "trials": len(trials), "leaks": leaks}
    write_table(output, trials, identity, TRIALS, extra=stats)
    logger.info(
        "%d trials from %d sources to %d speakers, list %s",
        len(trials),
        trials["source_utt"].nunique(),
        trials["target_speaker"].nunique(),
        stats["trials_hash"],
    )


def find_trial_leaks(trials: pd.DataFrame, manifest: pd.DataFrame) -> dict[str, int]:
    """How many trials give something away, by the name of the leak; ``manifest`` is of all splits.

    `GIVEN_AWAY` makes a trial unfair; drawn trials have none of them, published lists may. Whether `TO_BE_WEIGHED` matters
    depends on what the study asks.
    """
    rows = {row["utt_id"]: row for row in manifest.to_dict("records")}
    training = manifest[manifest["split"] == "train"]
    trained_speakers, trained_utterances = set(training["speaker"]), set(training["utt_id"])
    counts = dict.fromkeys((*GIVEN_AWAY, *TO_BE_WEIGHED), 0)
    for trial in trials.to_dict("records"):
        source, heldout = rows[trial["source_utt"]], rows[trial["heldout_utt"]]
        references = [rows[utt_id] for utt_id in trial["reference_utts"]]
        session = heldout.get("session", "")
        condition = re.fullmatch(r"([\d.]+)s", trial["condition"])
        found = (
            trial["heldout_utt"] in trial["reference_utts"],
            any(have_same_words(reference, source) for reference in references),
            have_same_words(heldout, source),
            trial["source_speaker"] == trial["target_speaker"],
            bool(session) and any(reference.get("session", "") == session for reference in references),
            condition is not None and trial["reference_s"] < float(condition[1]),
            bool({trial["source_speaker"], trial["target_speaker"]} & trained_speakers),
            trial["source_utt"] in trained_utterances,
        )
        for name, is_so in zip(counts, found, strict=True):
            counts[name] += bool(is_so)
    return counts


def trials_hash(trials: pd.DataFrame) -> str:
    """One name for the whole list: equal lists have the same."""
    return stable_hash(trials[TRIALS.names].to_dict("records"))
