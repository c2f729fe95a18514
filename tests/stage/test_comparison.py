"""`bowerbird compare`: paired, corrected, and refused where two numbers may not meet."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
from speech import IDENTITY
from test_evaluation import grid, scores

from bowerbird.artifacts.identity import Identity
from bowerbird.artifacts.tables import read_table, write_table
from bowerbird.cli.__main__ import main
from bowerbird.errors import BowerbirdError
from bowerbird.stages.evaluation.compare import compare_runs


def run(root: Path, offsets: dict[str, float], speakers: int = 9, **columns: str) -> Path:
    """A run whose experiments differ by constants in SECS."""
    for name, offset in offsets.items():
        rows = grid("secs", lambda i, j, offset=offset: (i + 2 * j) / 100 + offset, speakers, speakers)
        scores(root / "evaluation" / name / "speaker.parquet", rows, **columns)
    return root


def test_experiments_of_one_run_are_compared_and_corrected(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    one = run(tmp_path / "one", {"best": 0.3, "same": 0.3, "worst": 0.1})
    compare_runs([one], output=tmp_path / "table.csv")
    printed = capsys.readouterr().out
    assert "best" in printed and "p (Holm)" in printed
    table = pd.read_csv(tmp_path / "table.csv", keep_default_na=False).set_index(["first", "second"])
    assert table.loc[("best", "worst"), "difference"] == pytest.approx(0.2)
    assert table.loc[("best", "worst"), "mark"] != "" and table.loc[("best", "same"), "mark"] == ""
    assert (table["p_holm"] >= table["p_value"]).all()
    assert table.loc[("best", "worst"), "p_holm"] == pytest.approx(3 * table.loc[("best", "worst"), "p_value"])


def test_few_speakers_are_described_not_tested(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    compare_runs([run(tmp_path / "one", {"a": 0.3, "b": 0.1}, speakers=4)])
    line = capsys.readouterr().out.splitlines()[1]
    assert "descriptive only: 4 speakers" in line and "*" not in line


def test_two_runs_meet_by_name_or_by_choice(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    one = run(tmp_path / "one", {"knnvc": 0.3, "only-here": 0.2})
    two = run(tmp_path / "two", {"knnvc": 0.1})
    assert main(["compare", str(one), str(two)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and "one/knnvc" in lines[1] and "two/knnvc" in lines[1] and "+0.2000" in lines[1]
    compare_runs([one, two], ["only-here=knnvc"])
    assert re.search(r"one/only-here +two/knnvc +\+0\.1000 ", capsys.readouterr().out)


def test_what_may_not_meet_is_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    one = run(tmp_path / "one", {"knnvc": 0.3})
    other = run(tmp_path / "other", {"knnvc": 0.3}, model="wavlm-sv")
    with pytest.raises(BowerbirdError, match=r"secs: not comparable: model 'verifier' in .*and 'wavlm-sv' in"):
        compare_runs([one, other])
    elsewhere = run(tmp_path / "elsewhere", {"knnvc": 0.3}, trials="another list")
    with pytest.raises(BowerbirdError, match="another list of trials"):
        compare_runs([one, elsewhere])
    assert main(["compare", str(one), str(other)]) == 1
    assert "not comparable: model" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("column", "value"),
    [("definition", "secs@2"), ("weights_sha256", "f" * 64), ("normalizer", "whisper-basic (whisper-normalizer 0.1)")],
)
def test_one_difference_is_enough_and_named(tmp_path: Path, column: str, value: str) -> None:
    one, other = run(tmp_path / "one", {"knnvc": 0.3}), run(tmp_path / "other", {"knnvc": 0.3}, **{column: value})
    with pytest.raises(BowerbirdError) as refused:
        compare_runs([one, other])
    said = str(refused.value)
    assert said.startswith(f"secs: not comparable: {column} ") and value in said
    assert not any(
        f"{name} '" in said for name in ("definition", "model", "weights_sha256", "normalizer") if name != column
    )


def test_lists_are_named_by_hash_and_length(tmp_path: Path) -> None:
    """The file's bytes may differ (a stage's version does): the list's own hash decides."""

    def listed(name: str, digest: str, trials_hash: str) -> Path:
        root = run(tmp_path / name, {"knnvc": 0.3})
        path = root / "evaluation/knnvc/speaker.parquet"
        identity = Identity("evaluation", 1, {}, {"trials": digest})
        write_table(path, read_table(path), identity, extra={"trials": 81, "trials_hash": trials_hash})
        return root

    one, same, other = listed("one", "a", "list-1"), listed("same", "b", "list-1"), listed("other", "a", "list-2")
    compare_runs([one, same])
    with pytest.raises(
        BowerbirdError, match=r"another list of trials, list-2 of 81 trials, than .*, list-1 of 81 trials"
    ):
        compare_runs([one, other])


def test_both_verifiers_are_named(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    compare_runs([run(tmp_path / "one", {"a": 0.3, "b": 0.1})])
    assert (
        "Speaker similarity by verifier; second verifier: none; scored by one verifier only." in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("experiments", "metrics", "says"),
    [
        (["knnvc", "nothing"], [], "'nothing' has no scores in .*known: knnvc"),
        (["knnvc"], [], "needs two of them"),
        ([], ["wer"], "'wer' was not scored in these runs; known: secs"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, experiments: list[str], metrics: list[str], says: str) -> None:
    one = run(tmp_path / "one", {"knnvc": 0.3, "qrvc": 0.2})
    with pytest.raises(BowerbirdError, match=says):
        compare_runs([one], experiments, metrics)
    with pytest.raises(BowerbirdError, match="no scores below evaluation"):
        compare_runs([tmp_path / "nowhere"])
    with pytest.raises(BowerbirdError, match="is given twice"):
        compare_runs([one, one])


def test_scores_of_an_earlier_version_are_named(tmp_path: Path) -> None:
    one = run(tmp_path / "one", {"knnvc": 0.3, "qrvc": 0.2})
    path = one / "evaluation/qrvc/speaker.parquet"
    write_table(path, read_table(path).drop(columns="language"), IDENTITY)
    with pytest.raises(BowerbirdError, match="no column 'language': scored by an earlier version"):
        compare_runs([one], metrics=["secs"])
