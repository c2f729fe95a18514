"""A "3 s" condition was whole utterances until 3 s were reached, and some systems heard 10 s whatever the condition said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from shards_fixture import CPU
from speech import IDENTITY, Study, make_study

from bowerbird.artifacts.tables import TRIALS, read_table, write_table
from bowerbird.config.sections.trials import TrialsConfig
from bowerbird.config.systems.knnvc import KnnvcExperiment
from bowerbird.stages.conversion.trials import convert_trials, cut_speech
from bowerbird.stages.corpus.draw_trials import choose_trials
from bowerbird.systems.base import Utterance


def utterance(name: str, seconds: float) -> Utterance:
    samples, frames = int(16_000 * seconds), int(50 * seconds)
    rows = torch.arange(frames, dtype=torch.float32)[:, None]
    return Utterance(name, torch.arange(samples, dtype=torch.float32), rows, rows, rows)


def test_the_last_utterance_is_cut_wave_and_features_alike() -> None:
    cut = cut_speech([utterance("a", 2.0), utterance("b", 2.0), utterance("c", 2.0)], 3.0)
    assert [(u.utt_id, len(u.wave)) for u in cut] == [("a", 32_000), ("b", 16_000)]
    for part in (cut[1].features, cut[1].phones, cut[1].keys):
        assert part is not None and part[:, 0].tolist() == list(range(50))


@pytest.mark.parametrize(("seconds", "expected"), [(4.0, [32_000, 32_000]), (9.0, [32_000, 32_000]), (0.001, [16])])
def test_no_more_is_cut_than_there_is(seconds: float, expected: list[int]) -> None:
    cut = cut_speech([utterance("a", 2.0), utterance("b", 2.0)], seconds)
    assert [len(u.wave) for u in cut] == expected
    assert all(u.features is not None and len(u.features) for u in cut)


def test_trials_say_how_much_may_be_heard() -> None:
    rows = [
        {
            "utt_id": f"s{s}_{n}",
            "speaker": f"s{s}",
            "gender": "F",
            "language": "en",
            "text": f"{s} {n}",
            "duration_s": 2.0,
        }
        for s in range(3)
        for n in range(6)
    ]
    trials = choose_trials(pd.DataFrame(rows), TrialsConfig(sources_per_speaker=1, conditions=[3.0, 60.0]))
    by = trials.groupby("condition")
    assert set(by.get_group("3s")["prompt_s"]) == {3.0} and set(by.get_group("3s")["reference_s"]) == {4.0}
    assert (by.get_group("60s")["prompt_s"] == by.get_group("60s")["reference_s"]).all()  # all that there is


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return make_study(tmp_path_factory.mktemp("study"))


def test_conditions_differ_in_what_is_heard_and_in_the_output(study: Study, tmp_path: Path) -> None:
    first = read_table(study.trials).iloc[:1]
    trials = [first.assign(trial_id=f"t--{s}s", prompt_s=s, condition=f"{s}s") for s in (0.4, 1.0)]
    write_table(tmp_path / "list.parquet", pd.concat(trials, ignore_index=True), IDENTITY, TRIALS)
    output = tmp_path / "trials.parquet"
    for _ in range(2):  # the second time from the files that are there
        convert_trials(
            study.manifest,
            tmp_path / "list.parquet",
            study.audio,
            output,
            KnnvcExperiment(k=2),
            features=study.features,
            models=study.models,
            runtime=CPU,
        )
        table = read_table(output)
        assert table["heard_s"].tolist() == [0.4, 1.0]
        assert table["sha256"].nunique() == 2
        assert np.isfinite(table["num_samples"]).all()
