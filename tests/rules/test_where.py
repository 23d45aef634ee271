"""zcserve.rules.where: places in files, and what is said of them."""

from __future__ import annotations

import pytest

from zcserve.rules.where import Problem, RuleError, Where


@pytest.mark.parametrize(
    ("where", "text"),
    [
        (Where("_redirects", 12, 5), "_redirects:12:5"),
        (Where("_redirects", 12), "_redirects:12"),
        (Where("zcserve.toml"), "zcserve.toml"),
    ],
)
def test_a_place_is_written_as_compilers_do(where: Where, text: str) -> None:
    assert str(where) == where.where("set", 0) == text
    assert str(Problem(where, "no such status")) == f"{text}: no such status"


def test_places_are_ordered_by_line_and_column() -> None:
    first = Where("_headers", 2, 3)
    assert sorted([Where("_headers", 10), first.at(1), first]) == [first.at(1), first, Where("_headers", 10)]


def test_an_error_knows_its_part() -> None:
    assert RuleError("no", "to").part == "to"
    assert RuleError("no").part == "rule"
