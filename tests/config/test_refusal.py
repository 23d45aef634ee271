"""zcserve.config.refusal: how a wrong value is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from zcserve.config.refusal import refusal, shown
from zcserve.errors import UsageError


def test_a_refusal_says_the_value_what_is_wrong_and_what_is_accepted() -> None:
    error = refusal("5X", "is not a size", "bytes, or 512K")
    assert isinstance(error, UsageError)
    assert str(error) == "'5X' is not a size; accepted: bytes, or 512K"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a\nb", r"'a\nb'"),
        (Path("/a"), "'/a'"),
        (5, "5"),
        (None, "None"),
        (False, "false"),
        ("x" * 78, "'" + "x" * 78 + "'"),
        ("x" * 79, "'" + "x" * 75 + " ..."),
    ],
)
def test_a_value_is_quoted_on_one_line_and_cut_short(value: object, expected: str) -> None:
    assert shown(value) == expected
    assert len(shown(value)) <= 80
