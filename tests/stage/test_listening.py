"""The listening test: blind, the same for the same run, and analysed with intervals."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from report_fixture import fake_run

from bowerbird.artifacts.files import write_json
from bowerbird.cli.__main__ import main
from bowerbird.config.sections.report import ReportConfig
from bowerbird.errors import BowerbirdError
from bowerbird.metrics.statistics import Resampling
from bowerbird.stages.evaluation.listening import analyze_listening, collect_answers, summarize_answers
from bowerbird.stages.report.page import write_report


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("listening")
    run = fake_run(root / "fake", second_system=True)
    write_report(run, root / "report" / "index.html", run / "config.yaml", ReportConfig(players=3, listening_trials=2))
    return root / "report"


@pytest.fixture(scope="module")
def key(report: Path) -> dict:
    return json.loads((report / "assets/listening/key.json").read_text())


def asked(report: Path) -> list[dict]:
    page = (report / "listening.html").read_text(encoding="utf-8")
    return json.loads(re.search(r"const QUESTIONS = (.*);", page)[1])


def test_the_page_names_no_system(report: Path, key: dict) -> None:
    page = (report / "listening.html").read_text(encoding="utf-8")
    systems = {name for question in key["questions"].values() for name in question["systems"]}
    assert systems >= {"source", "knnvc", "qrvc", "knnvc-random", "vocoder"}
    assert not [name for name in systems - {"source"} if name in page]
    assert "key.json" not in page
    for question in asked(report):
        for link in [*question["clips"], *filter(None, [question["reference"]])]:
            assert (report / link).is_file() and re.fullmatch(r"assets/listening/[0-9a-f]{16}\.flac", link)


def test_every_kind_is_asked_of_the_same_trials(report: Path, key: dict) -> None:
    questions = asked(report)
    assert {question["id"] for question in questions} == set(key["questions"])
    kinds = pd.Series([question["kind"] for question in questions]).value_counts()
    assert kinds["mos"] == kinds["smos"] and kinds["abx"] == 2  # one pair of systems on two trials
    assert len({q["trial_id"] for q in key["questions"].values()}) == 2
    sides = [q["systems"] for q in key["questions"].values() if q["kind"] == "abx"]
    assert sorted(sides) == [["knnvc", "qrvc"], ["qrvc", "knnvc"]]  # each system once on either side
    assert [question["id"] for question in questions] == sorted(question["id"] for question in questions)


def test_no_test_where_none_is_wanted(tmp_path: Path) -> None:
    run = fake_run(tmp_path / "fake")
    options = ReportConfig(players=2, listening_trials=2)
    write_report(run, tmp_path / "r" / "index.html", run / "config.yaml", options)
    assert (tmp_path / "r/listening.html").exists()
    write_report(run, tmp_path / "r" / "index.html", run / "config.yaml", ReportConfig(players=2, listening_trials=0))
    assert not (tmp_path / "r/listening.html").exists()
    assert "listening.html" not in (tmp_path / "r/index.html").read_text()


OPINION = {"source": 5, "knnvc": 3, "qrvc": 4}


def answered(key: dict, listener: str, folder: Path, noise: int = 0) -> Path:
    """A listener who likes qrvc better than knnvc."""
    rng = np.random.default_rng(noise)
    answers = {}
    for name, question in key["questions"].items():
        if question["kind"] == "abx":
            value = "AB"[question["systems"].index("qrvc")]
        else:
            value = str(int(np.clip(OPINION.get(question["systems"][0], 2) + rng.integers(-1, 2) * bool(noise), 1, 5)))
        answers[name] = {"answer": value, "seconds": 2.0, "place": 0}
    path = folder / f"{listener}.json"
    write_json(path, {"test": key["test"], "version": 1, "listener": listener, "seed": 1, "answers": answers})
    return path


def test_answers_become_means_and_preferences(report: Path, key: dict, tmp_path: Path, capsys) -> None:
    paths = [answered(key, f"listener{n}", tmp_path, n) for n in range(1, 10)]
    analyze_listening(paths, report / "assets/listening/key.json", tmp_path / "opinions.csv", bootstrap=200)
    printed = capsys.readouterr().out
    assert "qrvc" in printed and "knnvc over qrvc" in printed and "0.0 %" in printed
    table = pd.read_csv(tmp_path / "opinions.csv", keep_default_na=False).set_index(["question", "system"])
    assert (
        table.loc[("mos", "source"), "mean"] > table.loc[("mos", "qrvc"), "mean"] > table.loc[("mos", "knnvc"), "mean"]
    )
    assert table.loc[("mos", "qrvc"), "low"] <= 4 <= table.loc[("mos", "qrvc"), "high"]
    assert (table["note"].str.startswith("descriptive only: 2")).all()  # two trials speak of no others


def test_intervals_know_listeners_and_trials() -> None:
    """A strict and a mild half of listeners: the interval is as wide as so few listeners make it."""
    rows = [
        {
            "listener": f"l{n}",
            "question": "mos",
            "system": "a",
            "against": "",
            "trial_id": f"t{t}",
            "value": 2.0 + 2 * (n % 2),
        }
        for n in range(10)
        for t in range(50)
    ]
    line = summarize_answers(pd.DataFrame(rows), Resampling(500)).iloc[0]
    assert line["mean"] == 3.0 and line["high"] - line["low"] > 1.0  # 500 answers taken as independent would say 0.18
    assert line["note"] == ""


def test_preference_is_of_the_system_not_of_the_side(tmp_path: Path) -> None:
    key = {
        "test": "t",
        "questions": {
            "x": {"kind": "abx", "systems": ["b", "a"], "trial_id": "1"},
            "y": {"kind": "abx", "systems": ["a", "b"], "trial_id": "2"},
        },
    }
    answers = {"x": {"answer": "B"}, "y": {"answer": "A"}}
    path = tmp_path / "one.json"
    write_json(path, {"test": "t", "listener": "one", "answers": answers})
    rows = collect_answers([path], key)
    assert (rows["system"] == "a").all() and rows["value"].tolist() == [1.0, 1.0]


def test_wrong_files_are_named(report: Path, key: dict, tmp_path: Path, capsys) -> None:
    good = answered(key, "good", tmp_path)
    answers = json.loads(good.read_text())
    place = report / "assets/listening/key.json"
    other = tmp_path / "other.json"
    write_json(other, {**answers, "test": "another"})
    with pytest.raises(BowerbirdError, match="answers to test 'another'"):
        analyze_listening([other], place)
    write_json(other, {**answers, "answers": {next(iter(key["questions"])): {"answer": "9"}}})
    with pytest.raises(BowerbirdError, match="has the answer '9'"):
        analyze_listening([other], place)
    write_json(other, answers)
    with pytest.raises(BowerbirdError, match=r"listener 'good' is in .*good\.json already"):
        analyze_listening([good, other], place)
    assert main(["analyze-listening", str(good), "--key", str(good)]) == 1
    assert "not a key of a listening test" in capsys.readouterr().err
