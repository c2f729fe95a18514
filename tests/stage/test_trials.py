"""The list of trials: the same for every system, and fair."""

from __future__ import annotations

import pandas as pd
import pytest

from bowerbird.config.sections.trials import TrialsConfig
from bowerbird.errors import BowerbirdError
from bowerbird.stages.corpus.draw_trials import choose_trials
from bowerbird.stages.corpus.trials import trials_hash


def speakers(count: int = 4, each: int = 8) -> pd.DataFrame:
    rows = [
        {
            "utt_id": f"s{s}_{n}",
            "speaker": f"s{s}",
            "gender": "FM"[s % 2],
            "language": "en",
            "text": f"Sentence {n if n < 2 else 10 * s + n}.",
            "duration_s": 2.0,
        }
        for s in range(count)
        for n in range(each)
    ]
    return pd.DataFrame(rows)


OPTIONS = TrialsConfig(sources_per_speaker=3, targets_per_source=2, reference_s=5.0)


def test_a_trial_is_fair() -> None:
    table = speakers()
    text = dict(zip(table["utt_id"], table["text"], strict=True))
    trials = choose_trials(table, OPTIONS)
    assert len(trials) == 4 * 3 * 2 and trials["trial_id"].is_unique
    for trial in trials.to_dict("records"):
        references = trial["reference_utts"]
        assert trial["source_speaker"] != trial["target_speaker"]
        assert all(utt.startswith(trial["target_speaker"]) for utt in [*references, trial["heldout_utt"]])
        assert trial["heldout_utt"] not in references
        assert all(text[utt] != trial["text"] for utt in [*references, trial["heldout_utt"]])
        assert len(references) == 3  # whole utterances of 2 s until 5 s are reached
        assert trial["random_speaker_utt"].split("_")[0] not in (trial["source_speaker"], trial["target_speaker"])
        if trial["parallel_utt"]:
            assert text[trial["parallel_utt"]] == trial["text"]
    assert (trials["parallel_utt"] != "").any()


def test_the_list_depends_on_content_and_seed_alone() -> None:
    table = speakers()
    one = choose_trials(table, OPTIONS)
    other = choose_trials(table.sample(frac=1, random_state=3), OPTIONS)
    assert trials_hash(one) == trials_hash(other)
    assert trials_hash(one) != trials_hash(choose_trials(table, OPTIONS.model_copy(update={"seed": 1})))


def test_more_reference_speech_extends_the_same_references() -> None:
    short, long = (choose_trials(speakers(), OPTIONS.model_copy(update={"reference_s": s})) for s in (3.0, 9.0))
    for a, b in zip(short["reference_utts"], long["reference_utts"], strict=True):
        assert b[: len(a)] == a and len(b) > len(a)


@pytest.mark.parametrize(("choice", "same"), [("same", True), ("cross", False)])
def test_gender_of_the_target(choice: str, same: bool) -> None:
    trials = choose_trials(speakers(), OPTIONS.model_copy(update={"cross_gender": choice}))
    assert ((trials["source_gender"] == trials["target_gender"]) == same).all() and len(trials)


def test_two_speakers_are_too_few() -> None:
    with pytest.raises(BowerbirdError, match="2 speakers there"):
        choose_trials(speakers(2), OPTIONS)
