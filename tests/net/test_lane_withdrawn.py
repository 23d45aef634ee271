"""What the lane has withdrawn goes when no other lane can be reading it (net/lane/withdrawn.pxd, lanes.pxd).

A lane that was added and does not run yet is one that has not ended its first turn. Where it runs, it waits between
its clients.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client
from tests.support.driver import PLAIN, Driver, Held, packed, put
from tests.support.waiting import wait_until
from zcserve import Config

Lane: Any = pytest.importorskip("zcserve.net._lane").Lane


@contextmanager
def running(lane: Any, number: int) -> Iterator[None]:
    """Another lane's thread, until the block ends."""
    thread = threading.Thread(target=lane.run_lane, args=(number,))
    thread.start()
    try:
        yield
    finally:
        lane.stop_lanes()
        thread.join()


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Driver]:
    with closing(Driver(tmp_path)) as made:
        yield made


def taught(lane: Any, key: bytes, content: bytes = b"x") -> tuple[Any, weakref.ref[Held]]:
    """An entry that the lane is taught, and its body, which nothing else holds."""
    entry = packed(content)
    assert entry.body is not None
    put(lane, key, entry)
    body = weakref.ref(entry.body)
    entry.body = None
    return entry, body


def test_with_one_lane_what_is_dropped_goes_at_once(driver: Driver) -> None:
    entry, body = taught(driver.lane, b"/a")
    assert body() is not None
    driver.lane.drop(entry)
    assert body() is None


@pytest.mark.parametrize("how", ["drop", "forget_key", "remove_keys", "put", "clear"])
def test_what_is_withdrawn_stays_until_each_lane_has_ended_its_turn(driver: Driver, how: str) -> None:
    lane = driver.lane
    entry, body = taught(lane, b"/a")
    numbers = [lane.add_lane(), lane.add_lane()]
    if how == "drop":
        lane.drop(entry)
    elif how == "put":
        put(lane, b"/a", packed(b"new"))
    elif how == "clear":
        lane.clear()
    else:
        getattr(lane, how)(b"/a" if how == "forget_key" else [b"/a"])
    assert lane.knows(b"/a") == (how == "put")
    assert lane.holds(entry)
    with running(lane, numbers[0]):
        for _ in range(20):
            driver.turn(0.001)
        assert body() is not None  # the other one may be reading it
    with running(lane, numbers[1]):
        driver.until(lambda: body() is None)
    assert not lane.holds(entry)


def test_a_page_that_was_replaced_stays_as_long(driver: Driver) -> None:
    class Page(bytes):
        """Bytes whose end can be seen."""

    lane = driver.lane
    number = lane.add_lane()
    lane.set_not_found(b"Content-Length: 3\r\n\r\n", b"old")
    lane.know([[]], 0)
    lane.set_not_found(b"Content-Length: 3\r\n\r\n", b"new")
    assert lane.withdrawn > 0
    with running(lane, number):
        driver.until(lambda: lane.withdrawn == 0)


def test_a_burst_is_freed_in_pieces_and_what_comes_meanwhile_after_it(driver: Driver) -> None:
    lane, count = driver.lane, 3000
    number = lane.add_lane()
    bodies = [taught(lane, b"/%d" % i)[1] for i in range(count)]
    lane.clear(count)
    while lane.chores():
        pass
    assert sum(body() is not None for body in bodies) == count
    _, late = taught(lane, b"/late")
    with running(lane, number):
        driver.turn(0.01)
        lane.forget_key(b"/late")
        left = [count]
        while left[-1]:
            lane.poll(0.01)  # once: where another second begins, a driver's turn is two
            left.append(sum(body() is not None for body in bodies))
        assert max(before - after for before, after in pairwise(left)) <= 512
        driver.until(lambda: late() is None)


def test_python_looks_again_while_lanes_are_waited_for_and_does_not_spin(driver: Driver) -> None:
    lane = driver.lane
    number = lane.add_lane()
    entry, body = taught(lane, b"/a")
    lane.drop(entry)
    driver.turn(0.01)
    before = lane.turn
    driver.turn(0.05)
    assert lane.turn - before < 50
    with running(lane, number):
        began = time.monotonic()
        while body() is not None and time.monotonic() < began + 10:
            driver.turn(20)  # nothing else happens
        assert time.monotonic() < began + 10


def test_a_body_that_another_lane_sends_goes_when_that_ends_and_python_is_told(driver: Driver) -> None:
    lane = driver.lane
    number = lane.add_lane()
    entry, body = taught(lane, b"/a", b"x" * 8_000_000)
    with driver.listener.dup() as listener, running(lane, number), Client(driver.where[1]) as client:
        lane.register_listener(listener.fileno())  # that lane's, too
        client.send(PLAIN)  # this lane has no turn, so the other one accepts
        client.socket.settimeout(20)
        first = client.socket.recv(1)
        wait_until(lambda: lane.pinned(entry))
        lane.drop(entry)
        for _ in range(20):
            driver.turn(0.001)
        assert body() is not None
        received = len(first)
        while received < 8_000_000:
            received += len(client.socket.recv(1 << 20))
        driver.until(lambda: body() is None)


def test_an_epoch_has_passed_when_each_lane_has_ended_its_turn(driver: Driver) -> None:
    lane = driver.lane
    assert lane.has_passed(lane.await_lanes())
    number = lane.add_lane()
    epoch = lane.await_lanes()
    assert not lane.has_passed(epoch)
    with running(lane, number):
        driver.until(lambda: lane.has_passed(epoch))
        wait_until(lambda: lane.has_passed(lane.await_lanes()))  # it waits, so nothing is waited for


def test_a_search_beside_changes_calls_nothing_absent_that_is_there(driver: Driver) -> None:
    """Keys come and go around it, so that hashes move, the set grows, and is replaced."""
    lane, there = driver.lane, [b"/there/%d" % i for i in range(700)]
    lost: list[bytes] = []
    others = [b"/%d" % i for i in range(1000)]
    lane.set_not_found(b"Content-Length: 0\r\n\r\n", b"")
    lane.add_lane()
    lane.know([there], len(there))
    stopped = threading.Event()

    def ask() -> None:
        while not stopped.is_set():
            lost.extend(key for key in there if not stopped.is_set() and lane.is_absent(key, 50_000))

    with closing(lane):
        thread = threading.Thread(target=ask)
        thread.start()
        try:
            for _ in range(500):
                lane.add_keys(others)
                lane.remove_keys(others)
                lane.know([there], len(there))
        finally:
            stopped.set()
            thread.join()
    assert lost == []


def test_nothing_is_absent_while_the_keys_are_told(driver: Driver) -> None:
    lane, said = driver.lane, []
    lane.set_not_found(b"Content-Length: 0\r\n\r\n", b"")

    def pieces() -> Iterator[list[bytes]]:
        yield [b"/a"]
        said.append(lane.is_absent(b"/b"))
        yield [b"/b"]

    for _ in range(2):  # once without a set, once in the place of another
        lane.know(pieces(), 2)
    assert said == [0, 0]
    assert (lane.is_absent(b"/b"), lane.is_absent(b"/c")) == (0, 1)


def test_all_goes_when_the_lanes_have_ended(tmp_path: Path) -> None:
    lane = Lane(Config(root=tmp_path), False)
    number = lane.add_lane()
    taught_now = [taught(lane, b"/%d" % i) for i in range(10)]
    for entry, _ in taught_now[5:]:
        lane.drop(entry)
    with running(lane, number):
        pass
    lane.close()
    del lane
    assert [body for _, body in taught_now if body() is not None] == []
