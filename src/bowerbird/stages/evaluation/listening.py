"""What listeners said: mean opinions and preferences with intervals, from saved answers and the key of their test.

Answers of one listener, and answers about one trial, are not independent: listeners and trials are resampled as two
sides (the bootstrap of the scores). ABX is the share of answers that chose the first system of the pair, whichever side
it was on; 50 % is no preference.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bowerbird.errors import BowerbirdError
from bowerbird.metrics.statistics import Resampling, estimate_mean, holm, significance_mark

ANSWERS = {"mos": ("1", "2", "3", "4", "5"), "smos": ("1", "2", "3", "4", "5"), "abx": ("A", "B")}


COLUMNS = [
    "question",
    "system",
    "against",
    "mean",
    "low",
    "high",
    "p_holm",
    "mark",
    "answers",
    "listeners",
    "trials",
    "note",
]


logger = logging.getLogger(__name__)


def analyze_listening(
    answers: list[Path],
    key: Path,
    output: Path | None = None,
    bootstrap: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> None:
    """Print means and preferences with intervals of all listeners.

    ``answers``: the JSON files that listeners saved. ``key``: report/assets/listening/key.json of the same report.
    ``output`` writes the table as CSV too.
    """
    rows = collect_answers(answers, read_json(key, "key"))
    table = analyse(rows, Resampling(bootstrap, confidence, seed))
    print(format_opinions(table, confidence))
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(output, index=False)
        logger.info("%s: written", output)


def read_json(path: Path, what: str) -> dict[str, Any]:
    """A saved file of ours, or an error that names it."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BowerbirdError(f"{path}: not a readable {what} of a listening test ({error})") from error
    fields = ("test", "questions") if what == "key" else ("test", "listener", "answers")
    missing = [name for name in fields if not isinstance(value, dict) or name not in value]
    if missing:
        raise BowerbirdError(f"{path}: not a {what} of a listening test: it has no {missing[0]!r}")
    return dict(value)


def collect_answers(paths: list[Path], key: dict[str, Any]) -> pd.DataFrame:
    """One row an answer: listener, kind, systems, trial, value (1 to 5, or 1.0 where the first system was chosen)."""
    rows: list[dict[str, Any]] = []
    seen: dict[str, Path] = {}
    for path in paths:
        saved = read_json(path, "set of answers")
        if saved["test"] != key["test"]:
            raise BowerbirdError(
                f"{path}: answers to test {saved['test']!r}, the key is of {key['test']!r}; give the key of the same report"
            )
        listener = str(saved["listener"])
        if listener in seen:
            raise BowerbirdError(f"{path}: listener {listener!r} is in {seen[listener]} already; give each one once")
        seen[listener] = path
        for name, given in saved["answers"].items():
            question = key["questions"].get(name)
            value = given.get("answer") if isinstance(given, dict) else None
            if question is None or value not in ANSWERS[question["kind"]]:
                raise BowerbirdError(
                    f"{path}: question {name!r} has the answer {value!r}, which the test does not know"
                )
            rows.append({"listener": listener, **_scored(question, str(value)), "trial_id": question["trial_id"]})
    if not rows:
        raise BowerbirdError(f"{paths[0]}: no answers in it" if paths else "analyze-listening: no files of answers")
    return pd.DataFrame(rows)


def _scored(question: dict[str, Any], value: str) -> dict[str, Any]:
    if question["kind"] != "abx":
        return {"question": question["kind"], "system": question["systems"][0], "against": "", "value": float(value)}
    first, second = sorted(question["systems"])
    chosen = question["systems"]["AB".index(value)]
    return {"question": "abx", "system": first, "against": second, "value": float(chosen == first)}


def analyse(rows: pd.DataFrame, resampling: Resampling) -> pd.DataFrame:
    """A line a system and question, and a line a pair of systems; Holm's correction over the pairs."""
    lines: list[dict[str, Any]] = []
    for (question, system, against), part in rows.groupby(["question", "system", "against"], sort=True):
        clusters = part["listener"].tolist(), part["trial_id"].tolist()
        found = estimate_mean(part["value"].to_numpy(dtype=float), *clusters, resampling)
        few = min(found.source_speakers, found.target_speakers)
        lines.append(
            {
                "question": question,
                "system": system,
                "against": against,
                "mean": found.value,
                "low": found.low,
                "high": found.high,
                "p": _preference(part, resampling) if against else float("nan"),
                "answers": len(part),
                "listeners": part["listener"].nunique(),
                "trials": part["trial_id"].nunique(),
                "note": f"descriptive only: {few} listeners or trials" if found.is_descriptive else "",
            }
        )
    for line, p in zip(lines, holm([float(line["p"]) for line in lines]), strict=True):
        line |= {"p_holm": p, "mark": significance_mark(p, bool(line["note"]))}
    return pd.DataFrame(lines, columns=COLUMNS).sort_values(
        ["question", "mean"], ascending=[True, False], ignore_index=True
    )


def _preference(part: pd.DataFrame, resampling: Resampling) -> float:
    """Two-sided p-value of no preference."""
    from bowerbird.metrics.statistics import interval, replicate

    values = part["value"].to_numpy(dtype=float) - 0.5
    clusters = part["listener"].tolist(), part["trial_id"].tolist()
    drawn = replicate((values, np.ones(len(values))), *clusters, resampling)
    return interval(float(values.mean()), drawn, *clusters, resampling, paired=True).p_value


def format_opinions(table: pd.DataFrame, confidence: float) -> str:
    """The table as text."""
    lines = [
        [
            "question",
            "system",
            "mean",
            f"{100 * confidence:g} % interval",
            "p (Holm)",
            "",
            "answers",
            "listeners",
            "note",
        ]
    ]
    for row in table.to_dict("records"):
        share = row["question"] == "abx"
        show = (lambda v: f"{100 * v:.1f} %") if share else (lambda v: f"{v:.2f}")
        name = f"{row['system']} over {row['against']}" if share else row["system"]
        p = f"{row['p_holm']:.2g}" if np.isfinite(row["p_holm"]) else ""
        numbers = [show(row["mean"]), f"{show(row['low'])} to {show(row['high'])}", p, row["mark"]]
        lines.append([row["question"].upper(), name, *numbers, str(row["answers"]), str(row["listeners"]), row["note"]])
    return "\n".join(_columns(lines))


def _columns(lines: list[list[str]]) -> Iterable[str]:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
