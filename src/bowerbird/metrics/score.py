"""One number about one trial, with its definition."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Score:
    """One number about one trial.

    ``definition`` is ``<metric>@<version>``: when the computation changes, the version goes up, and numbers of two
    versions are never put side by side. A NaN ``value`` says in ``note`` why it has none.
    """

    metric: str
    value: float
    definition: str
    model: str = ""  # what judged: name and settings
    weights_sha256: str = ""
    normalizer: str = ""
    note: str = ""
    text: str = field(default="", repr=False)  # what a recognizer heard

    def __post_init__(self) -> None:
        if self.value != self.value and not self.note:
            raise ValueError(f"{self.metric}: NaN without a note that says why")
