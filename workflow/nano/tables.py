"""Tables of utterances (TSV), the lists that corpora and this recipe's steps read and write."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

UTTERANCES = "utterances.tsv"  # in the folder of a corpus


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a table, each by column name."""
    with open(path, encoding="utf-8", newline="") as table:
        return list(csv.DictReader(table, delimiter="\t"))


def read_split(corpus: Path, split: str) -> list[dict[str, str]]:
    """The rows of one split of the corpus in the folder ``corpus``."""
    return [row for row in read_table(corpus / UTTERANCES) if row["split"] == split]


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a table under a temporary name, then rename it: where ``path`` is, it is whole."""
    partial = path.with_name(f"{path.name}.part")
    with open(partial, "w", encoding="utf-8", newline="") as table:
        writer = csv.writer(table, delimiter="\t", lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
    os.replace(partial, path)
