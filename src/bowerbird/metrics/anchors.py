"""Whether the anchors lie where they must: a table whose anchors are out of order is not to be read further.

Ground truth has the fewest word errors of all that say the source's words; the held-out target is the most similar to
itself; a third speaker is less similar to the target than any system. An experiment on the wrong side of its anchor is out
of order where the paired interval excludes zero, and undecided where it does not, which few trials and a weak recognizer
give.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import pandas as pd


@dataclass(frozen=True)
class AnchorRule:
    """One expectation: ``sign * (anchor - other)`` is not negative in a metric."""

    expectation: str
    metric: str
    anchor: str
    sign: Literal[-1, 1]
    compared_with: tuple[str, ...]  # kinds of experiments, and anchors, that it holds against


@dataclass(frozen=True)
class AnchorCheck:
    """One expectation, and the experiments that are on the wrong side of the anchor."""

    expectation: str
    num_compared: int
    out_of_order: list[str] = field(default_factory=list)  # the paired interval excludes zero
    undecided: list[str] = field(default_factory=list)  # it does not


RULES = (
    AnchorRule("Ground truth has the fewest word errors", "wer", "ground-truth", -1, ("system", "control", "vocoder")),
    AnchorRule(
        "The held-out target has the highest SECS",
        "secs",
        "heldout-target",
        1,
        ("system", "control", "ground-truth", "vocoder", "random-speaker"),
    ),
    AnchorRule("The random speaker has a lower SECS than every system", "secs", "random-speaker", -1, ("system",)),
)


def check_anchors(differences: pd.DataFrame, kinds: dict[str, str], roles: dict[str, str]) -> list[AnchorCheck]:
    """Every rule over the table of paired differences; a rule that compares nothing is left out.

    ``kinds``: system, control or anchor by experiment; ``roles``: which anchor an experiment is, by experiment.
    """
    checks = []
    for rule in RULES:
        rows = differences[differences["metric"] == rule.metric].to_dict("records") if len(differences) else []
        pairs = [pair for row in rows if (pair := _anchor_minus_other(row, rule.anchor, roles))]
        pairs = [(name, row) for name, row in pairs if {kinds.get(name), roles.get(name)} & {*rule.compared_with}]
        wrong = [(name, row) for name, row in pairs if rule.sign * row["difference"] < 0]
        out_of_order = [name for name, row in wrong if row["low"] > 0 or row["high"] < 0]
        undecided = [name for name, _ in wrong if name not in out_of_order]
        if pairs:
            checks.append(AnchorCheck(rule.expectation, len(pairs), out_of_order, undecided))
    return checks


def _anchor_minus_other(row: dict[str, Any], anchor: str, roles: dict[str, str]) -> tuple[str, dict[str, Any]] | None:
    """(the other experiment, anchor minus other) of a paired difference; None where the anchor is in neither place."""
    first, second = row["first"], row["second"]
    if roles.get(first) == anchor:
        return second, row
    if roles.get(second) == anchor:
        turned = {"difference": -row["difference"], "low": -row["high"], "high": -row["low"]}
        return first, {**row, **turned}
    return None
