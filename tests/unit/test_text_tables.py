"""Tables as plain text: aligned, without trailing spaces, the same for the same cells."""

from __future__ import annotations

import pytest

from bowerbird.artifacts.text_tables import TableColumn, format_table


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    columns = [TableColumn("name"), TableColumn("hours", ".1f", align="right"), TableColumn("note")]
    text = format_table(columns, [("a-long-name", 1.25, ""), ("b", 100, "so")])
    assert text.splitlines() == [
        "name         hours  note",
        "a-long-name    1.2",
        "b            100.0  so",
    ]


def test_what_is_missing_has_a_sign_of_its_own() -> None:
    columns = [TableColumn("value", ".2f", missing="-"), TableColumn("count", "d")]
    assert format_table(columns, [(float("nan"), None), (None, 3)]).splitlines() == ["value  count", "-", "-      3"]


def test_a_table_without_rows_is_its_headings() -> None:
    assert format_table([TableColumn("a"), TableColumn("b")], []) == "a  b"


def test_a_row_of_another_length_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="zip"):
        format_table([TableColumn("a")], [("x", "y")])
