"""Whether the anchors lie where they must: a table whose scale is bent is not to be read further.

Ground truth has the fewest word errors of all that say the source's words; the held-out target is the likest to itself;
a third speaker is less like the target than any system. What lies the wrong way round is either told apart by the paired
interval ("out of order"), or is not, which is what few trials and a weak recognizer give.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pandas as pd


@dataclass(frozen=True)
class Order:
    """One expectation, and the experiments that are on the wrong side of their anchor."""

    says: str
    against: int  # experiments it was compared with
    wrong: list[str] = field(default_factory=list)  # told apart by the interval
    unsure: list[str] = field(default_factory=list)


RULES = (  # (what must hold, metric, anchor, sign of anchor - other, kinds and anchors it holds against)
    ("Ground truth has the fewest word errors", "wer", "ground-truth", -1, ("system", "control", "vocoder")),
    (
        "The held-out target has the highest SECS",
        "secs",
        "heldout-target",
        1,
        ("system", "control", "ground-truth", "vocoder", "random-speaker"),
    ),
    ("The random speaker has a lower SECS than every system", "secs", "random-speaker", -1, ("system",)),
)


def check_anchors(differences: pd.DataFrame, kinds: dict[str, str], roles: dict[str, str]) -> list[Order]:
    """Each rule over the table of paired differences.

    ``kinds``: system, control or anchor by experiment; ``roles``: which anchor an experiment is, by experiment.
    """
    if differences.empty:
        return []
    found = []
    for says, metric, anchor, sign, against in RULES:
        rows = differences[differences["metric"] == metric].to_dict("records")
        pairs = [pair for row in rows if (pair := _seen_from(row, anchor, roles))]
        pairs = [(name, row) for name, row in pairs if kinds.get(name) in against or roles.get(name) in against]
        wrong: list[str] = []
        unsure: list[str] = []
        for name, row in pairs:
            if sign * row["difference"] >= 0:
                continue
            apart = row["low"] > 0 or row["high"] < 0
            (wrong if apart else unsure).append(name)
        if pairs:
            found.append(Order(says, len(pairs), wrong, unsure))
    return found


def _seen_from(row: dict[str, Any], anchor: str, roles: dict[str, str]) -> tuple[str, dict[str, Any]] | None:
    """(the other experiment, anchor minus other) of a difference that involves the anchor."""
    first, second = row["first"], row["second"]
    if roles.get(first) == anchor:
        return second, row
    if roles.get(second) == anchor:
        turned = {"difference": -row["difference"], "low": -row["high"], "high": -row["low"]}
        return first, {**row, **turned}
    return None
