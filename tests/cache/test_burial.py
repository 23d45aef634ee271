"""zcserve.cache.burial: tables and lists lose all that they have, and others have their turn meanwhile."""

from __future__ import annotations

import pytest

from zcserve.cache.burial import LET_GO_AT_ONCE, empty, let_go
from zcserve.cache.shards import Shards


class Noted:
    """Something that tells when it goes."""

    def __init__(self, gone: list[int], number: int) -> None:
        self._gone = gone
        self._number = number

    def __del__(self) -> None:
        self._gone.append(self._number)


@pytest.mark.parametrize("count", [0, 1, 5000])
def test_a_table_loses_all_that_it_has(count: int) -> None:
    gone: list[int] = []
    plain = {number: Noted(gone, number) for number in range(count)}
    shards: Shards[int, Noted] = Shards()
    for number in range(count):
        shards[number] = Noted(gone, number)
    empty(plain)
    empty(shards)
    assert (len(plain), len(shards)) == (0, 0)
    assert sorted(gone) == sorted([*range(count)] * 2)


@pytest.mark.parametrize("count", [0, 1, LET_GO_AT_ONCE, 3 * LET_GO_AT_ONCE + 1])
def test_a_list_loses_all_that_it_has(count: int) -> None:
    gone: list[int] = []
    things = [Noted(gone, number) for number in range(count)]
    let_go(things)
    assert (things, sorted(gone)) == ([], [*range(count)])


def test_a_list_is_never_freed_at_a_stroke() -> None:
    lengths: list[int] = []
    things: list[object] = []

    class Looks:
        def __del__(self) -> None:
            lengths.append(len(things))

    things += [Looks() for _ in range(2 * LET_GO_AT_ONCE)]
    let_go(things)
    # A slice is out of the list when what was in it is freed.
    assert lengths == [LET_GO_AT_ONCE] * LET_GO_AT_ONCE + [0] * LET_GO_AT_ONCE
