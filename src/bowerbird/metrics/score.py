"""One number about one trial, with its definition."""

from __future__ import annotations

import math
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Score:
    """One number about one trial.

    ``definition`` is ``<metric>@<version>``: when the computation changes, the version goes up, and numbers of two
    versions are never put side by side. A NaN ``value`` has the reason in ``note``.
    """

    metric: str
    value: float
    definition: str
    model: str = ""  # name and settings of the recognizer, verifier or other model that it comes from
    weights_sha256: str = ""
    normalizer: str = ""  # of texts
    note: str = ""
    text: str = field(default="", repr=False)  # what a recognizer read

    def __post_init__(self) -> None:
        if math.isnan(self.value) and not self.note:
            raise ValueError(f"{self.metric}: NaN without a note that gives the reason")
