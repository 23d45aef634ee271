"""A table of any size is a dict to all that use it, and no step of it is long."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from zcserve.cache import shards
from zcserve.cache.burial import empty
from zcserve.cache.shards import TABLES, Shards, enter, filled, marked, tables_of

MANY = 400_000
# A dict of so many keys grows in 10 to 15 ms; the longest step of shards is measured with 1 to 2 ms.
STEP_S = 0.006


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> int:
    """A dict has no more keys than these."""
    monkeypatch.setattr(shards, "DICT_KEYS_MAX", 10)
    return 10


def test_a_table_is_one_dict_as_long_as_it_is_small(few: int) -> None:
    table: Any = {}
    for number in range(few):
        assert enter(table, {number: number}) is table
    assert type(table) is dict
    more = enter(table, {few: few})
    assert isinstance(more, Shards)
    assert tables_of(more)[0] is table
    assert enter(more, {-1: -1}) is more
    assert sorted(more) == [-1, *range(few + 1)]
    assert len(table) == few + 1  # nothing is put into the dict itself any more


def test_the_bound_is_one_at_which_a_dict_need_not_grow() -> None:
    first: Any = filled(marked(range(shards.DICT_KEYS_MAX)))
    assert type(first) is dict
    size = first.__sizeof__()
    assert isinstance(enter(first, marked(range(-1000, 0))), Shards)
    assert first.__sizeof__() == size


def test_what_is_written_leaves_the_first_table(few: int) -> None:
    table = filled(marked(range(3 * few)))
    assert isinstance(table, Shards)
    first = tables_of(table)[0]
    before = len(first)
    table[0] = False
    table.update({1: False})
    assert table.pop(2) is True
    assert [len(first), table[0], table[1], 2 in table] == [before - 3, False, False, False]
    assert len(table) == 3 * few - 1


def test_no_table_is_seen_by_the_collector(few: int) -> None:
    table = filled((number, [number]) for number in range(100 * few))
    assert isinstance(table, Shards)
    table[-1] = [-1]
    table.update({number: [number] for number in range(few)})
    insides = [one for one in gc.get_referents(table) if one is not Shards]
    assert insides
    assert not any(map(gc.is_tracked, (table, *insides, *tables_of(table))))


def test_it_can_be_emptied(few: int) -> None:
    table = filled(marked(range(100)))
    empty(table)
    assert not table
    assert len(tables_of(table)) == TABLES + 1


def test_no_step_of_a_large_table_is_long() -> None:
    keys = [b"/%d" % number for number in range(MANY)]
    steps: list[float] = []

    def timed(step: Any) -> Any:
        began = time.thread_time()
        result = step()
        steps.append(time.thread_time() - began)
        return result

    table: Any = {}
    for at in range(0, MANY, 1000):
        some = keys[at : at + 1000]
        table = timed(partial(enter, table, marked(some)))
    for one in tables_of(table):
        timed(partial(list, one))
    assert sorted(steps)[-3] < STEP_S  # two may be spoilt by the machine; a dict has five such steps


class WrittenMeanwhile(dict[int, str]):
    """A first table: each time that it is looked at, its key is written, as another thread does it."""

    def __init__(self) -> None:
        super().__init__({7: "old"})
        self.table = Shards(self)

    def get(self, key: int, default: Any = None) -> Any:
        self.table[key] = "new"
        return super().get(key, default)


@pytest.mark.parametrize("look", [Shards.get, Shards.__contains__, Shards.__getitem__])
def test_a_key_that_is_written_between_two_looks_is_found(look: Callable[[Any, int], object]) -> None:
    assert look(WrittenMeanwhile().table, 7)


def test_other_threads_find_a_key_all_the_time_that_it_is_written(few: int) -> None:
    table = filled(marked(range(100)))
    missing: list[int] = []
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            missing.extend(number for number in range(100) if number not in table or not table.get(number))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        for _ in range(200):
            again: Any = Shards(dict(table))
            table = again
            for number in range(100):
                table[number] = True
    finally:
        done.set()
        thread.join()
    assert missing == []
