"""zcserve.servlets.kept: results are found by their target and by their path, and go a few at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from zcserve.servlets.kept import SWEPT_AT_ONCE, Kept, Source, sweep
from zcserve.servlets.routes import Route

ROUTE = Route(lambda request: "", "it", frozenset(("GET", "HEAD")), "/it", 60.0, False, False, "servlets/it.py:1")


class Made(NamedTuple):
    """A result."""

    source: Source


def made(target: bytes) -> Made:
    return Made(Source(ROUTE, target, {}, target.partition(b"?")[0]))


@pytest.fixture
def kept() -> Kept[Made]:
    """Two results at /a, one at /b."""
    kept: Kept[Made] = Kept()
    for target in (b"/a?1", b"/a?2", b"/b"):
        kept.keep(made(target))
    return kept


def test_a_result_is_kept_by_its_target(kept: Kept[Made]) -> None:
    assert list(kept) == [b"/a?1", b"/a?2", b"/b"]
    assert kept[b"/a?2"].source.target == b"/a?2"
    assert b"/a" not in kept


@pytest.mark.parametrize("more", [0, 10])  # fewer keys than there are paths, and more
def test_of_keys_those_have_results_that_are_the_path_of_one(kept: Kept[Made], more: int) -> None:
    others = {b"/%d" % number for number in range(more)}
    assert kept.paths({b"/b", *others}) == {b"/b"}
    assert kept.paths({b"/a", b"/a?1", b"/b", *others}) == {b"/a", b"/b"}
    assert kept.paths([b"/absent", *others]) == set()


def test_at_a_path_there_are_all_its_results_in_order(kept: Kept[Made]) -> None:
    assert [one.source.target for one in kept.at([b"/a"])] == [b"/a?1", b"/a?2"]
    assert [one.source.target for one in kept.at([b"/b", b"/a"])] == [b"/b", b"/a?1", b"/a?2"]
    assert kept.at([]) == []


def test_a_result_that_is_removed_is_not_found_and_a_path_goes_with_its_last_one(kept: Kept[Made]) -> None:
    kept.remove(kept[b"/a?1"])
    assert [one.source.target for one in kept.at([b"/a"])] == [b"/a?2"]
    assert b"/a?1" not in kept
    kept.remove(kept[b"/a?2"])
    for more in ((), (b"/1", b"/2", b"/3")):
        assert kept.paths([b"/a", b"/b", *more]) == {b"/b"}
    kept.remove(kept[b"/b"])
    assert len(kept) == 0
    assert kept.paths([b"/a", b"/b"]) == set()


def test_a_result_may_take_the_place_of_one_that_was_removed(kept: Kept[Made]) -> None:
    kept.remove(kept[b"/a?1"])
    again = made(b"/a?1")
    kept.keep(again)
    assert kept[b"/a?1"] is again
    assert [one.source.target for one in kept.at([b"/a"])] == [b"/a?2", b"/a?1"]


# --- a few at a time --------------------------------------------------------------------------------------------


class Sweep:
    """What is looked at in each turn of a loop that is turned by hand."""

    def __init__(self, count: int) -> None:
        self.results = [made(b"/%d" % number) for number in range(count)]
        self.looked: list[list[Made]] = []
        self.later: list[Callable[[], object]] = []
        sweep(iter(self.results), self.looked.append, self.later.append)


@pytest.mark.parametrize("count", [2 * SWEPT_AT_ONCE - 1, 2 * SWEPT_AT_ONCE, 2 * SWEPT_AT_ONCE + 1])
def test_many_are_looked_at_in_order_a_few_between_two_turns(count: int) -> None:
    swept = Sweep(count)
    while swept.later:
        (call,) = swept.later
        swept.later.clear()
        before = len(swept.looked)
        call()
        assert len(swept.looked) <= before + 1
    assert [each for few in swept.looked for each in few] == swept.results
    assert max(map(len, swept.looked)) == SWEPT_AT_ONCE


def test_the_first_few_are_looked_at_at_once_and_the_others_not_before_the_next_turn() -> None:
    swept = Sweep(SWEPT_AT_ONCE + 1)
    assert swept.looked == [swept.results[:SWEPT_AT_ONCE]]
    assert len(swept.later) == 1


def test_when_all_was_looked_at_that_is_told_once() -> None:
    later: list[Callable[[], object]] = []
    told: list[bool] = []
    sweep(iter([made(b"/a")]), lambda few: None, later.append, lambda: told.append(True))
    assert told == []
    later.pop()()
    assert (told, later) == ([True], [])


def test_where_there_is_nothing_nothing_is_looked_at() -> None:
    swept = Sweep(0)
    assert (swept.looked, swept.later) == ([], [])
