"""What the lane knows of uses: each representation's are its own, whatever stood in their place before."""

from __future__ import annotations

import socket
import time
from contextlib import closing
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
