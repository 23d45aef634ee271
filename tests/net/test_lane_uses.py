"""What the lane knows of uses: each representation's are its own, whatever stood in their place before."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.support.client import Client
from tests.support.driver import PLAIN, Driver, packed, put
from tests.support.waiting import is_readable
from zcserve.cache.evictor import tick_at

pytest.importorskip("zcserve.net._lane")


def test_what_is_put_in_the_place_of_another_begins_with_its_own_uses(tmp_path: Path) -> None:
    with closing(Driver(tmp_path)) as driver, Client(driver.where[1]) as client:
        entries = [packed(b"x") for _ in range(50)]
        put_at = []
        for count, entry in enumerate(entries, 1):
            entry.tick = tick_at(time.monotonic())
            put_at.append(entry.tick)
            put(driver.lane, b"/a", entry)
            for _ in range(count % 3):
                driver.ask(client, PLAIN)
        driver.lane.drain_ticks()
        for count, entry in enumerate(entries, 1):
            assert entry.uses == count % 3
            assert (entry.tick > put_at[count - 1]) == bool(count % 3)
            assert driver.lane.note_use(entry, 0) == (entry.tick if entry is entries[-1] else 0)


def test_an_answer_that_was_taken_back_is_no_use(tmp_path: Path) -> None:
    """It is made again when the socket takes it."""
    with closing(Driver(tmp_path)) as driver:
        driver.listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        entry = packed(b"x" * 1000)
        put(driver.lane, b"/a", entry)
        with Client(driver.where[1]) as client:
            client.send(PLAIN * 400)
            for _ in range(10):  # the socket takes no more
                driver.turn()
            assert driver.lane.requests < 400
            while driver.lane.requests < 400:
                driver.turn()
                if is_readable(client.socket):
                    client.socket.recv(1 << 20)
        driver.lane.drain_ticks()
        assert entry.uses == driver.lane.requests == 400


def test_a_number_stands_once_among_those_to_be_told_however_often_what_has_it_changes(tmp_path: Path) -> None:
    with closing(Driver(tmp_path)) as driver, Client(driver.where[1]) as client:
        entries = [packed(b"x") for _ in range(20)]
        for entry in entries:
            put(driver.lane, b"/a", entry)
            driver.ask(client, PLAIN * 2, 2)
            driver.lane.drop(entry)
            assert entry.uses == 2  # it is told as it goes
        assert driver.lane.drain_ticks(0) < 3
        driver.lane.drain_ticks()
        assert [entry.uses for entry in entries] == [2] * 20


def test_uses_are_told_after_one_was_taken_back_that_had_been_told(tmp_path: Path) -> None:
    """Answers are gathered, a path behind them is looked for, uses are told, and then the socket takes nothing."""
    with closing(Driver(tmp_path)) as driver:
        driver.listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        entry = packed(b"x" * 1000)
        put(driver.lane, b"/a", entry)
        driver.lane.learn(lambda path: driver.lane.drain_ticks())
        with Client(driver.where, receive_buffer=4096) as client:
            client.send(PLAIN * 50 + PLAIN.replace(b"/a", b"/new"))
            driver.until(lambda: entry.uses)
            assert driver.lane.requests < 50
        driver.until(lambda: driver.lane.count == 0)
        driver.lane.drain_ticks()
        assert 50 <= entry.uses <= 100
        before = entry.uses
        with Client(driver.where) as client:
            driver.ask(client, PLAIN)
        driver.lane.drain_ticks()
        assert entry.uses == before + 1


# --- two lanes --------------------------------------------------------------------------------------------------


class Two:
    """A lane that the test turns, and another one in a thread: how each answers a client of its own."""

    def __init__(self, root: Path, stack: ExitStack) -> None:
        self.driver = stack.enter_context(closing(Driver(root)))
        self.lane = self.driver.lane
        self.first = stack.enter_context(Client(self.driver.where))
        self.driver.until(lambda: self.lane.count)
        put(self.lane, b"/", packed(b"x"))
        self.other = stack.enter_context(Client(self.driver.add_lane()))
        self.ask_other(b"/")  # before the first lane has a turn, in which it could accept this client

    def ask_first(self, path: bytes, count: int = 1) -> None:
        self.driver.ask(self.first, PLAIN.replace(b"/a", path) * count, count)

    def ask_other(self, path: bytes, count: int = 1) -> None:
        self.other.send(PLAIN.replace(b"/a", path) * count)
        for _ in range(count):
            assert self.other.read().status == 200


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    with ExitStack() as stack:
        yield Two(tmp_path, stack)


def test_uses_in_two_lanes_are_added_up_and_each_is_told_once(two: Two) -> None:
    entries = [packed(b"x") for _ in range(30)]
    for number, entry in enumerate(entries):
        put(two.lane, b"/%d" % number, entry)
    for number in range(30):
        two.ask_first(b"/%d" % number, 2)
        two.ask_other(b"/%d" % number, 3)
    two.driver.until(lambda: not two.lane.drain_ticks() and all(entry.uses == 5 for entry in entries))
    two.ask_other(b"/7", 4)
    two.driver.until(lambda: not two.lane.drain_ticks() and entries[7].uses == 9)
    assert sum(entry.uses for entry in entries) == 30 * 5 + 4


def test_one_entry_is_told_of_its_uses_in_all_lanes_at_once(two: Two) -> None:
    entry = packed(b"x")
    put(two.lane, b"/a", entry)
    two.ask_first(b"/a", 2)
    between = tick_at(time.monotonic())
    two.ask_other(b"/a", 3)
    two.lane.tell_uses(entry)
    assert entry.uses == 5
    assert between < entry.tick <= tick_at(time.monotonic())
    two.lane.drop(entry)
    assert entry.uses == 5


def test_a_number_that_goes_to_another_takes_no_uses_of_another_lane_along(two: Two) -> None:
    for _ in range(20):
        entry = packed(b"x")
        put(two.lane, b"/a", entry)
        two.ask_other(b"/a", 3)
        two.lane.drop(entry)
        two.driver.until(lambda entry=entry: not two.lane.chores() and entry.uses == 3)
    two.driver.until(lambda: not two.lane.drain_ticks())
    assert entry.uses == 3


def test_sightings_of_two_lanes_have_one_clock(two: Two) -> None:
    put(two.lane, b"/a", packed(b"x"))
    two.lane.sample(1.0, 1, 1)
    for ask in (two.ask_first, two.ask_other, two.ask_first, two.ask_other):
        ask(b"/a")
    seen: list[tuple[int, ...]] = []
    two.driver.until(lambda: seen.extend(two.lane.take_sightings()) or len(seen) == 4)
    ticks = sorted(one[2] for one in seen)
    assert sorted(one[3] for one in seen) == [0, *ticks[:3]]  # each knows of the use before, in the other lane
