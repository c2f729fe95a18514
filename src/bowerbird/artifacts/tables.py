"""Parquet tables, and the ragged arrays they index.

A **shard** is a pair of files: ``shard-0003.npy`` holds the rows of many utterances end to end, ``shard-0003.parquet``
has one row an utterance with ``utt_id``, ``start`` and a length column (``frames`` or ``num_samples``). Arrays are read
memory-mapped: opening a shard of 10 GB costs nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from bowerbird.artifacts.files import atomic_path
from bowerbird.artifacts.identity import IDENTITY_KEY, Identity, canonical_json
from bowerbird.errors import BowerbirdError

MANIFEST = pa.schema(
    [
        ("utt_id", pa.string()),
        ("speaker", pa.string()),
        ("gender", pa.string()),  # "F", "M" or "" where unknown
        ("language", pa.string()),
        ("session", pa.string()),  # chapter, recording session or ""
        ("text", pa.string()),  # transcript or ""
        ("path", pa.string()),
        ("sample_rate", pa.int32()),  # of the file, Hz
        ("num_samples", pa.int64()),  # of the file, one channel
        ("duration_s", pa.float64()),
        ("split", pa.string()),  # train, valid, test
        ("shard", pa.int32()),
        ("sha256", pa.string()),  # of the file's bytes
    ]
)


REJECTED = pa.schema([("utt_id", pa.string()), ("path", pa.string()), ("reason", pa.string()), ("detail", pa.string())])


TRIALS = pa.schema(
    [
        ("trial_id", pa.string()),
        ("source_utt", pa.string()),
        ("source_speaker", pa.string()),
        ("source_gender", pa.string()),
        ("target_speaker", pa.string()),
        ("target_gender", pa.string()),
        ("reference_utts", pa.list_(pa.string())),  # speech of the target that a system may use
        ("reference_s", pa.float64()),  # their total length, seconds
        ("prompt_s", pa.float64()),  # how much of that a system may hear, from the beginning: the last one is cut
        ("heldout_utt", pa.string()),  # another utterance of the target, never a reference: verifiers compare with it
        ("parallel_utt", pa.string()),  # the target speaking the source's text, or ""
        ("random_speaker_utt", pa.string()),  # an utterance of a third speaker: the lower anchor
        ("text", pa.string()),
        ("language", pa.string()),
        ("condition", pa.string()),
    ]
)


def write_table(
    path: str | os.PathLike[str],
    table: pa.Table | pd.DataFrame,
    identity: Identity,
    schema: pa.Schema | None = None,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write a Parquet table atomically with its identity (and ``extra`` deterministic values) in its metadata."""
    if isinstance(table, pd.DataFrame):
        columns = schema.names if schema is not None else None
        table = pa.Table.from_pandas(table if columns is None else table[columns], schema=schema, preserve_index=False)
    record = {**identity.as_dict(), **(extra or {})}
    table = table.replace_schema_metadata({IDENTITY_KEY: canonical_json(record).encode()})
    with atomic_path(path, seal=True) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_table(path: str | os.PathLike[str], columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read a Parquet table as a DataFrame; strings are Python strings, list columns are lists."""
    if not Path(path).exists():
        raise BowerbirdError(f"{path}: no such table; run the stage that writes it first")
    try:
        table = pq.read_table(path, columns=list(columns) if columns else None)
    except (pa.ArrowException, OSError) as error:  # a damaged file may ask for what Arrow has not implemented
        raise BowerbirdError(f"{path}: not a readable Parquet file ({error}); delete it and run again") from error
    frame = table.to_pandas(types_mapper=None)
    for name in table.schema.names:
        if pa.types.is_list(table.schema.field(name).type):
            frame[name] = [list(item) if item is not None else [] for item in frame[name]]
    return frame


def read_identity(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The identity record (and extra values) embedded in a Parquet table; {} if it has none."""
    try:
        metadata = pq.read_schema(path).metadata or {}
    except pa.ArrowException as error:
        raise BowerbirdError(f"{path}: not a readable Parquet file ({error}); delete it and run again") from error
    return json.loads(metadata[IDENTITY_KEY]) if IDENTITY_KEY in metadata else {}


CONVERSIONS = pa.schema(
    [
        *TRIALS,
        ("spoken_utt", pa.string()),  # the utterance whose words the audio says: the source, or what an anchor plays
        ("path", pa.string()),  # of the FLAC, relative to this table; "" if it failed
        ("sha256", pa.string()),  # of the FLAC's bytes
        ("num_samples", pa.int64()),
        ("heard_s", pa.float64()),  # seconds of the references that the system used
        ("gain_db", pa.float64()),  # what the loudness policy applied
        ("limited", pa.bool_()),  # the gain was held back so that no sample clips
        ("status", pa.string()),  # ok, failed
        ("error", pa.string()),
    ]
)


SCORES = pa.schema(
    [
        ("trial_id", pa.string()),
        ("metric", pa.string()),
        ("value", pa.float64()),  # NaN only with a note
        ("definition", pa.string()),  # <metric>@<version>
        ("model", pa.string()),
        ("weights_sha256", pa.string()),
        ("normalizer", pa.string()),
        ("note", pa.string()),
        ("text", pa.string()),  # what a recognizer read
        ("source_speaker", pa.string()),
        ("target_speaker", pa.string()),
        ("source_gender", pa.string()),
        ("target_gender", pa.string()),
        ("language", pa.string()),
        ("condition", pa.string()),
    ]
)


TRANSCRIPTS = pa.schema(
    [("utt_id", pa.string()), ("text", pa.string()), ("model", pa.string()), ("weights_sha256", pa.string())]
)


SUMMARY = pa.schema(
    [
        ("experiment", pa.string()),
        ("metric", pa.string()),
        ("definition", pa.string()),
        ("pooled", pa.string()),  # what was divided by what
        ("mean", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("n", pa.int64()),  # trials with a value
        ("missing", pa.int64()),  # trials without one, left out
        ("failed", pa.int64()),  # trials whose conversion failed, scored or left out
        ("source_speakers", pa.int64()),
        ("target_speakers", pa.int64()),
        ("model", pa.string()),
        ("weights_sha256", pa.string()),
        ("normalizer", pa.string()),
        ("note", pa.string()),
    ]
)


CELLS = pa.schema(
    [
        ("experiment", pa.string()),
        ("metric", pa.string()),
        ("by", pa.string()),  # gender, language, condition
        ("cell", pa.string()),  # "F → M", "en", "10s"
        ("mean", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("n", pa.int64()),
        ("note", pa.string()),
    ]
)


DIFFERENCES = pa.schema(
    [
        ("metric", pa.string()),
        ("first", pa.string()),
        ("second", pa.string()),
        ("difference", pa.float64()),  # first - second, paired by trial
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("p_value", pa.float64()),  # two-sided, of this comparison alone
        ("p_holm", pa.float64()),  # corrected for all comparisons of this metric in this table
        ("mark", pa.string()),  # *, **, *** of p_holm; "" also where there are too few speakers
        ("n", pa.int64()),  # trials with a value of both
        ("note", pa.string()),
    ]
)
