"""zcserve.cache.room: what fits a budget now, and what will."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from zcserve.cache.memfd import PAGE_BYTES
from zcserve.cache.pages import Pages
from zcserve.cache.room import Room
from zcserve.cache.slab import Slabs

BUDGET = 100 * PAGE_BYTES


@pytest.fixture
def pages() -> Iterator[Pages]:
    pages = Pages()
    yield pages
    pages.close()


def test_entries_and_committed_pages_leave_the_rest_of_a_budget(pages: Pages) -> None:
    room = Room(BUDGET, Slabs(BUDGET), pages, PAGE_BYTES)
    room.count_index(0, 40 * PAGE_BYTES, at_least=False)
    extent = pages.allocate(50 * PAGE_BYTES)
    assert (room.limit, room.committed) == (60 * PAGE_BYTES, 50 * PAGE_BYTES)
    assert room.fits(10 * PAGE_BYTES)
    assert not room.fits(10 * PAGE_BYTES + 1)
    del extent
    room.reclaim()
    assert room.fits(60 * PAGE_BYTES)


def test_what_the_lane_lets_go_of_will_fit_until_it_was_waited_for_in_vain(pages: Pages) -> None:
    room = Room(BUDGET, Slabs(BUDGET), pages, PAGE_BYTES)
    extent = pages.allocate(BUDGET)
    pages.condemn(extent)
    assert room.awaits_lane
    assert (room.fits(BUDGET), room.will_fit(BUDGET)) == (False, True)
    room.give_up_on_lane()
    assert not room.awaits_lane
    assert not room.will_fit(1)
    del extent
    room.reclaim()
    assert (room.fits(BUDGET), room.will_fit(BUDGET), room.condemned) == (True, True, 0)
