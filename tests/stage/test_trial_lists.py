"""Conditions, pools and languages of drawn trials; published lists read, written, and their leaks counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from speech import IDENTITY

from bowerbird.artifacts.tables import MANIFEST, read_identity, read_table, write_table
from bowerbird.config.sections.corpus import CorpusConfig
from bowerbird.config.sections.trials import TrialsConfig
from bowerbird.errors import BowerbirdError
from bowerbird.stages.corpus.draw_trials import choose_trials
from bowerbird.stages.corpus.lists import export_trials, read_list, read_trials
from bowerbird.stages.corpus.splits import keep_seen
from bowerbird.stages.corpus.trials import find_trial_leaks, list_trials


def manifest(speakers: int = 4, each: int = 9, split: str = "test") -> pd.DataFrame:
    """Sentences 0 and 1 are said by everybody; three sessions a speaker; two languages."""
    rows = [
        {
            "utt_id": f"s{s}_{n}",
            "speaker": f"s{s}",
            "gender": "FM"[s % 2],
            "language": "en" if s < 2 else "de",
            "session": f"c{n % 3}",
            "text": f"Sentence {n if n < 2 else 10 * s + n}.",
            "path": f"wav/s{s}/s{s}_{n}_mic1.flac",
            "sample_rate": 16000,
            "num_samples": 32000,
            "duration_s": 2.0,
            "split": split,
            "shard": 0,
            "sha256": "",
        }
        for s in range(speakers)
        for n in range(each)
    ]
    return pd.DataFrame(rows)


OPTIONS = TrialsConfig(sources_per_speaker=2, targets_per_source=2)


def test_conditions_are_nested_and_share_everything_else() -> None:
    trials = choose_trials(manifest(), OPTIONS.model_copy(update={"conditions": [3.0, 5.0, 10.0]}))
    assert len(trials) == 4 * 2 * 2 * 3 and trials["trial_id"].is_unique
    assert trials["trial_id"].str.endswith(("--3s", "--5s", "--10s")).all()
    for _, group in trials.groupby(trials["trial_id"].str.rsplit("--", n=1).str[0]):
        by = group.set_index("condition")
        short, middle, long = (
            by.loc["3s", "reference_utts"],
            by.loc["5s", "reference_utts"],
            by.loc["10s", "reference_utts"],
        )
        assert middle[: len(short)] == short and long[: len(middle)] == middle and len(short) < len(middle) < len(long)
        for column in ("heldout_utt", "random_speaker_utt", "parallel_utt", "text"):
            assert by[column].nunique() == 1


def test_a_condition_alone_is_the_list_without_conditions() -> None:
    one = choose_trials(manifest(), OPTIONS.model_copy(update={"conditions": [5.0]}))
    other = choose_trials(manifest(), OPTIONS.model_copy(update={"reference_s": 5.0}))
    assert one["reference_utts"].tolist() == other["reference_utts"].tolist()
    assert one["heldout_utt"].tolist() == other["heldout_utt"].tolist()


@pytest.mark.parametrize("conditions", [[0.0, 3.0], [3.0, 3.0]])
def test_conditions_are_different_and_positive(conditions: list[float]) -> None:
    with pytest.raises(ValueError, match=r"trials\.conditions"):
        TrialsConfig(conditions=conditions)


def test_pools_by_session_keep_the_verifiers_chapter_from_the_system() -> None:
    table = manifest()
    session = dict(zip(table["utt_id"], table["session"], strict=True))
    count = "a reference is of the session of the held-out utterance"
    apart = choose_trials(table, OPTIONS.model_copy(update={"pools": "session", "reference_s": 60.0}))
    for trial in apart.to_dict("records"):
        assert session[trial["heldout_utt"]] not in {session[utt] for utt in trial["reference_utts"]}
    assert find_trial_leaks(apart, table)[count] == 0
    assert find_trial_leaks(choose_trials(table, OPTIONS.model_copy(update={"reference_s": 60.0})), table)[count] > 0
    with pytest.raises(BowerbirdError, match=r"none fit.*pools"):
        choose_trials(table.assign(session="only"), OPTIONS.model_copy(update={"pools": "session"}))


@pytest.mark.parametrize(("choice", "same"), [("same", True), ("other", False)])
def test_language_of_the_target(choice: str, same: bool) -> None:
    table = manifest()
    language = dict(zip(table["speaker"], table["language"], strict=True))
    trials = choose_trials(table, OPTIONS.model_copy(update={"cross_language": choice}))
    assert len(trials) and ((trials["language"] == trials["target_speaker"].map(language)) == same).all()


def test_seen_speakers_keep_utterances_that_training_never_hears() -> None:
    table = manifest(split="train")
    table["split"] = keep_seen(table, CorpusConfig(seen_utterances=4))
    assert (table[table["split"] == "seen"].groupby("speaker").size() == 4).all()
    assert set(table.loc[table["split"] == "train", "speaker"]) == set(table["speaker"])
    again = manifest(split="train").sample(frac=1, random_state=1)
    assert dict(zip(again["utt_id"], keep_seen(again, CorpusConfig(seen_utterances=4)), strict=True)) == dict(
        zip(table["utt_id"], table["split"], strict=True)
    )
    trials = choose_trials(table[table["split"] == "seen"], OPTIONS)
    leaks = find_trial_leaks(trials, table)
    assert leaks["source or target was trained on as a speaker"] == len(trials)
    assert leaks["the source utterance itself was trained on"] == 0
    assert (np.array(keep_seen(manifest(each=5, split="train"), CorpusConfig(seen_utterances=4))) == "train").all()


def test_the_list_says_its_hash_and_its_leaks(tmp_path: Path) -> None:
    write_table(tmp_path / "manifest.parquet", manifest(), IDENTITY, MANIFEST)
    list_trials(tmp_path / "manifest.parquet", tmp_path / "trials.parquet", OPTIONS)
    stats = read_identity(tmp_path / "trials.parquet")
    assert len(stats["trials_hash"]) >= 12 and stats["leaks"]["source and target are one speaker"] == 0


# ------------------------------------------------------------------------------------------------------ published lists
LISTS = {
    "freevc": "one|DUMMY/s0/s0_0_mic1.wav|DUMMY/s1/s1_3_mic1.wav\ntwo|s2_4|s3_5\n",
    "linearvc": "src_speaker,tgt_speaker,x_path,y_path,label\ns0,s1,s0_0/s1,s1/s1_3_mic1,0\ns0,s0,s0_0,s0/s0_1,1\n",
    "seed-tts-eval": "one|some text|prompts/s1_3_mic1.wav|Sentence 0.|wavs/s0_0_mic1.wav\n",
}


def listed(tmp_path: Path, form: str, text: str) -> TrialsConfig:
    path = tmp_path / "list.txt"
    path.write_text(text)
    return OPTIONS.model_copy(update={"file": str(path), "file_format": form, "reference_s": 5.0})


@pytest.mark.parametrize("form", LISTS)
def test_published_lists_become_trials(tmp_path: Path, form: str) -> None:
    table = manifest()
    trials = read_trials(table, listed(tmp_path, form, LISTS[form]))
    first = trials.iloc[0]
    assert (first["source_utt"], first["source_speaker"], first["target_speaker"]) == ("s0_0", "s0", "s1")
    if form == "linearvc":
        assert (
            first["heldout_utt"] == "s1_3"
            and "s1_3" not in first["reference_utts"]
            and len(first["reference_utts"]) == 3
        )
        assert len(trials) == 1  # pairs of real speech are no conversions
    else:
        assert first["reference_utts"] == ["s1_3"] and first["heldout_utt"] not in ("s1_3", "s1_0")
    assert first["random_speaker_utt"][:2] in ("s2", "s3")
    assert find_trial_leaks(trials, table)["a reference says the source's words"] == 0


@pytest.mark.parametrize("form", ["freevc", "linearvc", "seed-tts-eval", "versa"])
def test_what_is_written_is_read_again(tmp_path: Path, form: str) -> None:
    table = manifest()
    write_table(tmp_path / "manifest.parquet", table, IDENTITY, MANIFEST)
    list_trials(tmp_path / "manifest.parquet", tmp_path / "trials.parquet", OPTIONS)
    trials = read_table(tmp_path / "trials.parquet")
    out = tmp_path / "out"
    export_trials(tmp_path / "trials.parquet", tmp_path / "manifest.parquet", out, form)
    again = read_trials(table, OPTIONS.model_copy(update={"file": str(out), "file_format": form}))
    assert again["source_utt"].tolist() == trials["source_utt"].tolist()
    assert again["target_speaker"].tolist() == trials["target_speaker"].tolist()
    assert again["trial_id"].tolist() == trials["trial_id"].tolist()
    if form == "versa":
        assert again["reference_utts"].tolist() == trials["reference_utts"].tolist()
        assert (out / "text").read_text().startswith(f"{trials['trial_id'][0]} Sentence")


def test_versa_never_gets_a_list_with_failures_left_out(tmp_path: Path) -> None:
    write_table(tmp_path / "manifest.parquet", manifest(), IDENTITY, MANIFEST)
    list_trials(tmp_path / "manifest.parquet", tmp_path / "trials.parquet", OPTIONS)
    made = read_table(tmp_path / "trials.parquet").assign(status="ok", path="x.flac")
    made.loc[1, "status"] = "failed"
    write_table(tmp_path / "made.parquet", made, IDENTITY)
    with pytest.raises(BowerbirdError, match="1 trials failed"):
        export_trials(
            tmp_path / "trials.parquet",
            tmp_path / "manifest.parquet",
            tmp_path / "o",
            "versa",
            tmp_path / "made.parquet",
        )


@pytest.mark.parametrize(
    ("form", "text", "says"),
    [
        ("freevc", "one|a\n", "line 1: 2 fields; a trial is"),
        ("freevc", "one|s0_0|s9_9\n", "'s9_9': no such utterance"),
        ("freevc", "a b|s0_0|s1_3\n", "a trial's name becomes a file"),
        ("freevc", "one|s0_0|s1_3\none|s0_0|s1_3\n", "is in it 2 times"),
        ("freevc", "", "no trials of format freevc"),
        ("seed-tts-eval", "a|b|c|d\n", "lists of four fields are for synthesis"),
        ("linearvc", "a,b\n1,2\n", "has no column 'label'"),
    ],
)
def test_mistakes_in_lists_are_named(tmp_path: Path, form: str, text: str, says: str) -> None:
    with pytest.raises(BowerbirdError, match=says):
        read_trials(manifest(), listed(tmp_path, form, text))


def test_a_missing_list_is_named(tmp_path: Path) -> None:
    with pytest.raises(BowerbirdError, match="cannot be read"):
        read_list(tmp_path / "nowhere", "freevc")


def test_leaks_of_a_published_list_are_counted(tmp_path: Path) -> None:
    """VCTK's sentences: the reference says what the source says, and a converter could copy it."""
    table = manifest()
    trials = read_trials(table, listed(tmp_path, "freevc", "one|s0_0|s1_0\ntwo|s0_3|s0_4\n"))
    leaks = find_trial_leaks(trials, table)
    assert leaks["a reference says the source's words"] == 1
    assert leaks["source and target are one speaker"] == 1
