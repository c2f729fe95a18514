"""Trials that gave the answer away, and splits that cut a speaker in two."""

from __future__ import annotations

import pandas as pd
import pytest

from bowerbird.config.sections.corpus import CorpusConfig
from bowerbird.config.sections.trials import TrialsConfig
from bowerbird.errors import BowerbirdError
from bowerbird.stages.corpus.draw_trials import choose_trials
from bowerbird.stages.corpus.splits import assign_splits


def utterances(genders: str = "FMF", texts: tuple[str, ...] = ("One.", "Two.", "Three.")) -> pd.DataFrame:
    rows = [
        {
            "utt_id": f"s{s}_{n}",
            "speaker": f"s{s}",
            "gender": gender.strip(),
            "language": "en",
            "text": text,
            "duration_s": 2.0,
        }
        for s, gender in enumerate(genders)
        for n, text in enumerate(texts)
    ]
    return pd.DataFrame(rows)


def test_a_target_that_only_says_the_sources_words_is_no_target() -> None:
    """Its parallel utterance used to become a reference: the system was given the answer."""
    with pytest.raises(BowerbirdError, match="trials: none fit"):
        choose_trials(utterances(texts=("One.", "one", "ONE!")), TrialsConfig())


def test_the_held_out_utterance_is_never_a_reference() -> None:
    """With one utterance free it used to be both what the system was given and what it was compared with."""
    with pytest.raises(BowerbirdError, match="trials: none fit"):
        choose_trials(utterances(texts=("One.", "Two.")), TrialsConfig())
    trials = choose_trials(utterances(), TrialsConfig())
    assert not any(t["heldout_utt"] in t["reference_utts"] for t in trials.to_dict("records"))


def test_an_unknown_gender_is_neither_the_same_nor_the_other() -> None:
    trials = choose_trials(utterances("FM "), TrialsConfig(cross_gender="cross"))
    assert set(zip(trials["source_speaker"], trials["target_speaker"], strict=True)) == {("s0", "s1"), ("s1", "s0")}


def test_a_speaker_whose_split_is_named_in_part_stays_whole() -> None:
    table = utterances("FMFMFM").assign(split="")
    table.loc[table["utt_id"].str.endswith("_0"), "split"] = "test"
    table["split"] = assign_splits(table, CorpusConfig())
    assert (table.groupby("speaker")["split"].nunique() == 1).all()
