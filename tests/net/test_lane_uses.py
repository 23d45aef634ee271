"""What the lane knows of uses: each representation's are its own, whatever stood in their place before."""

from __future__ import annotations

import socket
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.client import Client
from tests.support.driver import PLAIN, Driver, packed, put
from tests.support.waiting import is_readable

pytest.importorskip("zcserve.net._lane")


def test_what_is_put_in_the_place_of_another_begins_with_its_own_uses(tmp_path: Path) -> None:
    with closing(Driver(tmp_path)) as driver, Client(driver.where[1]) as client:
        entries = [packed(b"x") for _ in range(50)]
        put_at = []
        for count, entry in enumerate(entries, 1):
            entry.tick = driver.lane.turn
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
