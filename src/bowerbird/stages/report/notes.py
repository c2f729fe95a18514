"""Notes above the main table, which hold for whole columns."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pandas as pd

from bowerbird.config.sections.evaluation import INSTALL_WHISPER, EvaluationConfig
from bowerbird.metrics.registry import Metric

MOST_NOTES = 4  # that stand above the table


def substitute_notes(options: EvaluationConfig, recognizers: Collection[str]) -> list[str]:
    """One sentence where pocketsphinx stood in for the default recognizer and scored; else nothing."""
    if not (options.asr_is_substitute and "pocketsphinx" in recognizers):
        return []
    return [
        "Words were recognized by pocketsphinx, which makes many errors, because the default recognizer, whisper-base, was not "
        f"installed: WER and CER are not to be quoted; install it ({INSTALL_WHISPER}) and run again."
    ]


def common_notes(summary: pd.DataFrame, metrics: Sequence[Metric]) -> list[str]:
    """Notes of the summary's rows, each once, the most frequent first; the metrics that one holds for, unless it is all.

    Reasons of single cells stay with them.
    """
    noted = summary.loc[summary["note"].fillna("") != "", ["metric", "note"]]
    parts = noted.assign(note=noted["note"].str.split(";")).explode("note")
    parts["note"] = parts["note"].str.strip()
    parts = parts[(parts["note"] != "") & ~parts["note"].str.contains("trials without a value")]
    notes = []
    for part in parts["note"].value_counts().index[:MOST_NOTES]:
        of = set(parts.loc[parts["note"] == part, "metric"])
        every = of == set(summary["metric"])
        names = [] if every else [metric.heading for metric in metrics if metric.is_headline and metric.name in of]
        notes.append(f"{part} ({', '.join(names)})" if names else str(part))
    return notes
