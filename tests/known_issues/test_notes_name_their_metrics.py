"""Two notes "descriptive only: 4 (and 3) speakers on one side" stood above the table; nobody could tell which columns each meant."""

from __future__ import annotations

import pandas as pd

from bowerbird.metrics.registry import METRICS
from bowerbird.stages.report.notes import common_notes


def rows(*notes: tuple[str, str]) -> pd.DataFrame:
    return pd.DataFrame(notes, columns=["metric", "note"])


def test_a_note_on_some_metrics_names_them() -> None:
    few, fewer = "descriptive only: 4 speakers on one side", "descriptive only: 3 speakers on one side"
    table = rows(("secs", few), ("cer", few), ("dnsmos_ovrl", fewer + "; 40 trials without a value"))
    assert common_notes(table, list(METRICS.values())) == [f"{few} (CER, SECS)", f"{fewer} (DNSMOS)"]


def test_a_note_on_all_metrics_stands_alone() -> None:
    few = "descriptive only: 4 speakers on one side"
    assert common_notes(rows(("secs", few), ("cer", few)), list(METRICS.values())) == [few]


def test_nocommon_notes() -> None:
    assert common_notes(rows(("secs", ""), ("cer", "")), list(METRICS.values())) == []
