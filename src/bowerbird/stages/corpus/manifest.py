"""`list-corpus`: a corpus as a manifest, and the table of what was refused."""

from __future__ import annotations

import logging
import os
from collections import Counter
from pathlib import Path

import pandas as pd

from bowerbird.artifacts.identity import Identity, RunRecord, stable_hash
from bowerbird.artifacts.tables import MANIFEST, REJECTED, write_table
from bowerbird.config.sections.corpus import CorpusConfig
from bowerbird.config.sections.runtime import RuntimeConfig
from bowerbird.errors import BowerbirdError
from bowerbird.stages.corpus import VERSION
from bowerbird.stages.corpus.checks import inspect_all
from bowerbird.stages.corpus.entries import Refusal
from bowerbird.stages.corpus.readers import read_entries
from bowerbird.stages.corpus.splits import assign_shards, assign_splits, find_leaks, keep_seen

logger = logging.getLogger(__name__)


def list_corpus(manifest: Path, rejected: Path, options: CorpusConfig, runtime: RuntimeConfig) -> None:
    """Read a corpus into a manifest (one row per utterance) and a table of what was refused, each with its reason.

    Every file is decoded once to be checked. Raises `BowerbirdError` where more than `max_rejected_fraction` is refused, or
    nothing is left.
    """
    record = RunRecord()
    listed, entries, refusals = read_entries(options)
    root = Path(os.path.abspath(listed))
    logger.info("%s: %d utterances listed below %s", options.kind, len(entries), root)
    accepted, refused = inspect_all(entries, root, options, runtime.threads)
    refusals += refused
    # The corpus is identified by what was read of it, so that a copy in another place is the same corpus.
    content = {"corpus": stable_hash([[row.utt_id, row.path, row.sha256] for row in accepted])}
    identity = Identity("corpus", VERSION, options.model_dump(exclude={"trim_silence", "path", "audio_root"}), content)
    ordered = sorted(refusals, key=lambda refusal: (refusal.utt_id.encode(), refusal.path, refusal.reason))
    write_table(
        rejected, pd.DataFrame([vars(refusal) for refusal in ordered], columns=REJECTED.names), identity, REJECTED
    )
    _check_refusals(refusals, len(entries) + len(refusals) - len(refused), options, rejected)
    if not accepted:
        raise BowerbirdError(f"corpus.path: {options.path}: no usable utterance; see {rejected}")
    frame = pd.DataFrame([vars(row) for row in accepted])
    frame["split"] = assign_splits(frame, options)
    frame["split"] = keep_seen(frame, options)
    frame["shard"] = assign_shards(frame, options.num_shards)
    leaks = find_leaks(frame)
    for name, count in leaks.items():
        if count:
            logger.warning("leak: %d %s in more than one split", count, name)
    hours = (frame.groupby("split")["duration_s"].sum() / 3600).round(3)
    stats = {"leaks": leaks, "hours": hours.to_dict(), "rejected": len(refusals)}
    record.extra["root"] = str(root)
    record.write(manifest, identity)
    write_table(manifest, frame, identity, MANIFEST, extra=stats)
    for split, part in frame.groupby("split"):
        logger.info("%s: %d speakers, %d utterances, %.2f h", split, part["speaker"].nunique(), len(part), hours[split])


def _check_refusals(refusals: list[Refusal], total: int, options: CorpusConfig, table: Path) -> None:
    """Log how many were refused for each reason; raises `BowerbirdError` where they are too many."""
    counts = Counter(refusal.reason for refusal in refusals)
    for reason, count in sorted(counts.items()):
        logger.warning("refused: %d of %d: %s", count, total, reason)
    if total and len(refusals) / total > options.max_rejected_fraction:
        listed = ", ".join(f"{count} {reason}" for reason, count in counts.most_common())
        raise BowerbirdError(
            f"corpus.max_rejected_fraction = {options.max_rejected_fraction}: {len(refusals)} of {total} files were refused "
            f"({listed}); see {table}, repair the corpus or raise the limit"
        )
