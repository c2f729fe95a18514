"""Mean opinions and preferences of listeners with intervals, from saved answers and the key of their test.

Answers of one listener, and answers about one trial, are not independent: listeners and trials are resampled as the two
sides of the bootstrap that scores have. ABX is the share of answers that chose the first system of the pair, whichever side
it was on; 50 % is no preference.
"""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bowerbird.artifacts.text_tables import TableColumn, format_table
from bowerbird.errors import BowerbirdError
from bowerbird.metrics.statistics import Resampling, estimate_mean, holm, interval, replicate, significance_mark

CHOICES = {"mos": ("1", "2", "3", "4", "5"), "smos": ("1", "2", "3", "4", "5"), "abx": ("A", "B")}
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
    rows = collect_answers(answers, load_saved(key, "key"))
    table = summarize_answers(rows, Resampling(bootstrap, confidence, seed))
    print(format_opinions(table, confidence))
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(output, index=False)
        logger.info("%s: written", output)


def load_saved(path: Path, what: str) -> dict[str, Any]:
    """The key of a listening test (``what`` is "key"), or a set of answers to it; an error names the file."""
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
    """One row per answer: listener, question, system, against, value (1 to 5, or 1.0 where the first system was chosen),
    trial_id."""
    rows: list[dict[str, Any]] = []
    seen: dict[str, Path] = {}
    for path in paths:
        saved = load_saved(path, "set of answers")
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
            choice = given.get("answer") if isinstance(given, dict) else None
            if question is None or choice not in CHOICES[question["kind"]]:
                raise BowerbirdError(
                    f"{path}: question {name!r} has the answer {choice!r}, which the test does not know"
                )
            rows.append({"listener": listener, **answer_row(question, str(choice)), "trial_id": question["trial_id"]})
    if not rows:
        raise BowerbirdError(f"{paths[0]}: no answers in it" if paths else "analyze-listening: no files of answers")
    return pd.DataFrame(rows)


def answer_row(question: dict[str, Any], choice: str) -> dict[str, Any]:
    """What an answer says of the systems of its question; of a pair, the system that comes first by name."""
    if question["kind"] != "abx":
        return {"question": question["kind"], "system": question["systems"][0], "against": "", "value": float(choice)}
    first, second = sorted(question["systems"])
    chosen = question["systems"]["AB".index(choice)]
    return {"question": "abx", "system": first, "against": second, "value": float(chosen == first)}


def summarize_answers(rows: pd.DataFrame, resampling: Resampling) -> pd.DataFrame:
    """One line per question and system, and one per pair of systems; Holm's correction over the pairs."""
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
                "p": preference_p_value(part, resampling) if against else math.nan,
                "answers": len(part),
                "listeners": part["listener"].nunique(),
                "trials": part["trial_id"].nunique(),
                "note": f"descriptive only: {few} listeners or trials" if found.is_descriptive else "",
            }
        )
    for line, p in zip(lines, holm([float(line["p"]) for line in lines]), strict=True):
        line |= {"p_holm": p, "mark": significance_mark(p, bool(line["note"]))}
    table = pd.DataFrame(lines, columns=COLUMNS)
    return table.sort_values(["question", "mean"], ascending=[True, False], ignore_index=True)


def preference_p_value(answers: pd.DataFrame, resampling: Resampling) -> float:
    """Two-sided p-value of no preference within one pair of systems."""
    values = answers["value"].to_numpy(dtype=float) - 0.5
    clusters = answers["listener"].tolist(), answers["trial_id"].tolist()
    preference = replicate((values, np.ones(len(values))), *clusters, resampling)
    return interval(preference, with_p_value=True).p_value


def format_opinions(table: pd.DataFrame, confidence: float) -> str:
    """The table of opinions as text, one line per system or pair; preferences in per cent."""
    columns = [
        TableColumn("question"),
        TableColumn("system"),
        TableColumn("mean", align="right"),
        TableColumn(f"{100 * confidence:g} % interval", align="right"),
        TableColumn("p (Holm)", ".2g", "right"),
        TableColumn(),
        TableColumn("answers", "d", "right"),
        TableColumn("listeners", "d", "right"),
        TableColumn("note"),
    ]
    rows = []
    for row in table.to_dict("records"):
        is_preference = row["question"] == "abx"
        mean, low, high = (
            f"{100 * row[column]:.1f} %" if is_preference else f"{row[column]:.2f}"
            for column in ("mean", "low", "high")
        )
        name = f"{row['system']} over {row['against']}" if is_preference else row["system"]
        rest = [row[column] for column in ("p_holm", "mark", "answers", "listeners", "note")]
        rows.append((row["question"].upper(), name, mean, f"{low} to {high}", *rest))
    return format_table(columns, rows)
