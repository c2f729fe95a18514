"""Windows that cannot advance were refused only when the job of hours before them was done."""

from __future__ import annotations

import pytest

from bowerbird.config.loading import parse_config
from bowerbird.errors import BowerbirdError


@pytest.mark.parametrize("overlap", [4, 5.5])
def test_windows_are_longer_than_their_overlap(overlap: float) -> None:
    with pytest.raises(BowerbirdError) as caught:
        parse_config({"features": {"nano": {"max_window_s": 4, "overlap_s": overlap}}})
    assert str(caught.value) == (
        f"configuration: features.overlap_s: {overlap:g}: not shorter than max_window_s = 4; "
        "lower it, or raise max_window_s"
    )


def test_a_shorter_overlap_is_fine() -> None:
    assert parse_config({"features": {"nano": {"max_window_s": 4, "overlap_s": 3.9}}}).features["nano"].overlap_s == 3.9
