"""Tables as plain text, for commands that print to a terminal or a file.

The layout depends on the cells alone, never on the terminal's width, so that what a command prints can be compared, piped and
read by line.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class TableColumn:
    """A column: its heading, how its values are written (a format such as ``.3f``) and what stands where there is none."""

    heading: str = ""
    format: str = ""
    align: Literal["left", "right"] = "left"
    missing: str = ""

    def show(self, value: Any) -> str:
        """A value as text: strings as they are, None and NaN as ``missing``, anything else by the format."""
        if isinstance(value, str):
            return value
        if value is None or value != value:
            return self.missing
        return format(value, self.format)


def format_table(columns: Sequence[TableColumn], rows: Iterable[Sequence[Any]]) -> str:
    """The headings and one line per row, with two spaces between columns; no line has spaces at its end."""
    lines = [[column.heading for column in columns]]
    lines += [[column.show(value) for column, value in zip(columns, row, strict=True)] for row in rows]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column.align == "right" else cell.ljust(width)
            for column, cell, width in zip(columns, line, widths, strict=True)
        ).rstrip()
        for line in lines
    )
