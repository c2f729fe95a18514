"""Stage *corpus*: a folder of speech becomes a manifest, audio shards at 16 kHz, and a list of trials.

Every refused file is named with its reason; splits are by speaker; nothing depends on the order a disk lists its files
in, nor on where the corpus lies: the root of its paths is in the manifest's run record, not in the manifest.
"""

from __future__ import annotations

import functools
import json
import logging
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from bowerbird.artifacts import (
    BowerbirdError,
    Identity,
    RunRecord,
    file_sha256,
    inputs_digest,
    run_record_path,
    stable_hash,
)
from bowerbird.audio import SAMPLE_RATE, float_to_int16, read_native, resample
from bowerbird.config import CorpusConfig, RuntimeConfig, TrialsConfig
from bowerbird.corpus.checks import Refusal, cut_span, inspect_all, split_span
from bowerbird.corpus.lists import export_trials, read_trials
from bowerbird.corpus.readers import read_entries
from bowerbird.corpus.splits import assign_shards, assign_splits, find_leaks, keep_seen
from bowerbird.corpus.trials import GIVEN_AWAY, choose_trials, find_trial_leaks, trials_hash
from bowerbird.tables import MANIFEST, REJECTED, TRIALS, ShardWriter, read_table, write_table

VERSION = 3
logger = logging.getLogger(__name__)

__all__ = ["VERSION", "export_trials", "list_corpus", "list_trials", "resolve_path", "store_audio"]


def list_corpus(manifest: Path, rejected: Path, options: CorpusConfig, runtime: RuntimeConfig) -> None:
    """Read a corpus into a manifest (one row an utterance) and a table of what was refused, each with its reason.

    Every file is decoded once to be checked. More than `max_rejected_fraction` refused stops the run with a hint.
    """
    record = RunRecord()
    listed, entries, refusals = read_entries(options)
    root = Path(os.path.abspath(listed))
    logger.info("%s: %d utterances listed below %s", options.kind, len(entries), root)
    accepted, refused = inspect_all(entries, root, options, runtime.threads)
    refusals += refused
    # the corpus is named by what was read of it, so that a copy of it in another place is the same corpus
    content = {"corpus": stable_hash([[row.utt_id, row.path, row.sha256] for row in accepted])}
    identity = Identity("corpus", VERSION, options.model_dump(exclude={"trim_silence", "path", "audio_root"}), content)
    table = pd.DataFrame([vars(r) for r in sorted(refusals, key=lambda r: (r.utt_id.encode(), r.path, r.reason))])
    write_table(rejected, table if len(table) else _empty(REJECTED.names), identity, REJECTED)
    _report_refusals(refusals, len(entries) + len(refusals) - len(refused), options, rejected)
    if not accepted:
        raise BowerbirdError(f"corpus.path: {options.path}: no usable utterance; see {rejected}")
    frame = pd.DataFrame([vars(row) for row in accepted])
    frame["split"] = assign_splits(frame, options)
    frame["split"] = keep_seen(frame, options)
    frame["shard"] = assign_shards(frame, options.num_shards)
    leaks = find_leaks(frame)
    for what, count in leaks.items():
        if count:
            logger.warning("leak: %d %s in more than one split", count, what)
    hours = (frame.groupby("split")["duration_s"].sum() / 3600).round(3)
    facts = {"leaks": leaks, "hours": hours.to_dict(), "rejected": len(refusals)}
    record.extra["root"] = str(root)
    record.write(manifest, identity)
    write_table(manifest, frame, identity, MANIFEST, extra=facts)
    for split, part in frame.groupby("split"):
        logger.info("%s: %d speakers, %d utterances, %.2f h", split, part["speaker"].nunique(), len(part), hours[split])


def _empty(columns: list[str]) -> pd.DataFrame:
    return pd.DataFrame({name: pd.Series(dtype="str") for name in columns})


def _report_refusals(refusals: list[Refusal], total: int, options: CorpusConfig, table: Path) -> None:
    """Log what was refused; stop where it is too much."""
    counts = Counter(r.reason for r in refusals)
    for reason, count in sorted(counts.items()):
        logger.warning("refused: %d of %d: %s", count, total, reason)
    if total and len(refusals) / total > options.max_rejected_fraction:
        listed = ", ".join(f"{count} {reason}" for reason, count in counts.most_common())
        raise BowerbirdError(
            f"corpus.max_rejected_fraction = {options.max_rejected_fraction}: {len(refusals)} of {total} files were refused "
            f"({listed}); see {table}, mend the corpus or raise the limit"
        )


def resolve_path(manifest: Path, path: str) -> Path:
    """Where an utterance's file lies: manifest paths are relative to the corpus root that the run record names."""
    return _root_of(manifest) / split_span(path)[0]


def _root_of(manifest: Path) -> Path:
    record = run_record_path(manifest)
    try:
        return Path(json.loads(record.read_text(encoding="utf-8"))["root"])
    except (OSError, ValueError, KeyError) as error:
        raise BowerbirdError(f"{record}: does not say where the corpus lies; list the corpus again") from error


def store_audio(manifest: Path, output: Path, shard: int, trim_silence: bool, runtime: RuntimeConfig) -> None:
    """Decode the utterances of one shard to 16 kHz mono int16, end to end, loudness untouched.

    `trim_silence` cuts what Silero VAD hears as silence at both ends, but for a tenth of a second.
    """
    record = RunRecord()
    table = read_table(manifest, ["utt_id", "path", "shard", "sha256"])
    rows = table[table["shard"] == shard]
    root = _root_of(manifest)
    identity = Identity(
        "corpus", VERSION, {"shard": shard, "trim_silence": trim_silence}, {"manifest": inputs_digest([manifest])}
    )
    trim = _silence_trimmer() if trim_silence else lambda wave: wave
    read = functools.lru_cache(maxsize=1)(_read_unchanged)  # segments of one recording come one after another
    with ShardWriter(output, "int16", (), length="num_samples") as writer:
        for utt_id, path, digest in zip(rows["utt_id"], rows["path"], rows["sha256"], strict=True):
            file, span = split_span(path)
            try:
                wave, rate = read(root / file, digest)
            except BowerbirdError as error:
                raise BowerbirdError(f"{utt_id}: {error}") from error
            writer.add(utt_id, float_to_int16(trim(resample(cut_span(wave, rate, span), rate))))
        writer.close(identity, record, extra={"sample_rate": SAMPLE_RATE})
    logger.info("%s: %d utterances", output, len(rows))


def _read_unchanged(path: Path, digest: str) -> tuple[np.ndarray, int]:
    """Samples and rate of a file that still has the bytes it had when the manifest was made."""
    if path.exists() and file_sha256(path) != digest:
        raise BowerbirdError(f"{path} has changed since the manifest was made; list the corpus again")
    try:
        return read_native(path)
    except BowerbirdError as error:
        raise BowerbirdError(f"{error}; it was readable when the manifest was made") from error


def _silence_trimmer():
    """A function that cuts leading and trailing silence (Silero VAD), with 0.1 s margins."""
    import torch
    from silero_vad import get_speech_timestamps, load_silero_vad

    model = load_silero_vad(onnx=True)
    margin = SAMPLE_RATE // 10

    def trim(wave: np.ndarray) -> np.ndarray:
        model.reset_states()
        speech = get_speech_timestamps(torch.from_numpy(wave), model, sampling_rate=SAMPLE_RATE)
        if not speech:
            return wave
        return wave[max(0, speech[0]["start"] - margin) : speech[-1]["end"] + margin]

    return trim


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
        len(trials), trials["source_utt"].nunique(), trials["target_speaker"].nunique(), trials_hash(trials),
    )  # fmt: skip
