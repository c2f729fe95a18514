"""Choices of utterances from a manifest that several commands make alike."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from bowerbird.artifacts.shards import Shards
from bowerbird.artifacts.tables import read_table
from bowerbird.errors import BowerbirdError


def first_training_utterances(manifest: Path, features: Shards, num_speakers: int, per_speaker: int) -> pd.DataFrame:
    """The first ``per_speaker`` utterances of each of the first ``num_speakers`` speakers of the training split, by name.

    Only utterances that are in ``features`` count. The result has utt_id, speaker and split, in the order of utt_id. Raises
    `BowerbirdError` where fewer than two speakers are left to tell apart.
    """
    table = read_table(manifest, ["utt_id", "speaker", "split"]).sort_values("utt_id")
    table = table[(table["split"] == "train") & table["utt_id"].map(lambda utt_id: utt_id in features)]
    kept = table[table["speaker"].isin(sorted(set(table["speaker"]))[:num_speakers])]
    chosen = kept.groupby("speaker").head(per_speaker)
    if chosen["speaker"].nunique() < 2:
        raise BowerbirdError(f"{manifest}: fewer than two speakers of split train have features; nothing to tell apart")
    return chosen
