"""Splits by speaker, shards by speaker, and what is in more than one split."""

from __future__ import annotations

import hashlib

import pandas as pd

from bowerbird.config.sections.corpus import CorpusConfig
from bowerbird.errors import BowerbirdError


def assign_splits(table: pd.DataFrame, options: CorpusConfig) -> list[str]:
    """A split for each row of the manifest: the corpus's own, or whole speakers by the hash of seed and speaker.

    Where a corpus names the split of some of a speaker's utterances only, the others get the first one named.
    """
    if (table["split"] != "").all():
        return list(table["split"])
    named_of = dict(table[table["split"] != ""].drop_duplicates("speaker")[["speaker", "split"]].to_numpy().tolist())
    unnamed = set(table["speaker"]) - set(named_of)
    ranked = sorted(unnamed, key=lambda speaker: _hash(options.split_seed, speaker))
    tests = round(len(ranked) * options.test_speakers)
    valids = round(len(ranked) * options.valid_speakers)
    split = dict.fromkeys(ranked, "train")
    split |= dict.fromkeys(ranked[:tests], "test") | dict.fromkeys(ranked[tests : tests + valids], "valid")
    split |= named_of
    return [named or split[speaker] for named, speaker in zip(table["split"], table["speaker"], strict=True)]


def keep_seen(table: pd.DataFrame, options: CorpusConfig) -> list[str]:
    """The splits of the manifest's rows, with `seen_utterances` of each training speaker moved to "seen", drawn by hash.

    A speaker with fewer than twice as many keeps them all: seen speakers must be trained on.
    """
    split = dict(zip(table["utt_id"], table["split"], strict=True))
    for _, own in table[table["split"] == "train"].groupby("speaker") if options.seen_utterances else ():
        ranked = sorted(own["utt_id"], key=lambda utt_id: _hash(options.split_seed, utt_id))
        if len(ranked) >= 2 * options.seen_utterances:
            split |= dict.fromkeys(ranked[: options.seen_utterances], "seen")
    return [split[utt_id] for utt_id in table["utt_id"]]


def _hash(seed: int, name: str) -> str:
    """A key to sort names by: an order that depends on seed and name alone."""
    return hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()


def assign_shards(table: pd.DataFrame, count: int) -> list[int]:
    """A shard for each row of the manifest: whole speakers, those with most speech first, each to the emptiest shard.

    Raises `BowerbirdError` where there are more shards than speakers.
    """
    seconds = table.groupby("speaker")["duration_s"].sum()
    if count > len(seconds):
        raise BowerbirdError(
            f"corpus.num_shards = {count}: there are only {len(seconds)} speakers, and a shard holds whole ones"
        )
    load, shard = [0.0] * count, {}
    for speaker in sorted(seconds.index, key=lambda s: (-seconds[s], s.encode())):
        emptiest = min(range(count), key=lambda number: (load[number], number))
        shard[speaker] = emptiest
        load[emptiest] += float(seconds[speaker])
    return [shard[speaker] for speaker in table["speaker"]]


def find_leaks(table: pd.DataFrame) -> dict[str, int]:
    """How many speakers, sessions and sentences of the manifest are in more than one split."""
    named = table.assign(
        own_session=table["speaker"] + "/" + table["session"], sentence=table["text"].str.lower().str.strip()
    )
    keys = {
        "speakers": named,
        "sessions": named[named["session"] != ""],
        "sentences": named[named["sentence"] != ""],
    }
    columns = {"speakers": "speaker", "sessions": "own_session", "sentences": "sentence"}
    return {name: int((part.groupby(columns[name])["split"].nunique() > 1).sum()) for name, part in keys.items()}
