"""Eviction knows what another lane than the first serves."""

from __future__ import annotations

import time
from contextlib import ExitStack

import pytest

from tests.support.client import Client
from tests.support.site import Serve, Site
from tests.support.waiting import WaitUntil
from zcserve import Server
from zcserve.cache.entry import Entry
from zcserve.cache.evictor import tick_at
from zcserve.net.fastlane import FastLane

pytest.importorskip("zcserve.net._lane")

SIZE = 100_000
FILES = 30


def client_of_other(server: Server, stack: ExitStack) -> Client:
    """A client whose hits are another lane's."""
    assert isinstance(server.loop.front, FastLane)
    for _ in range(50):
        before = server.loop.front.lane.loads
        client = stack.enter_context(Client(server.port))
        client.get("/0")
        if server.loop.front.lane.loads[1] > before[1]:
            return client
    pytest.fail("the other lane has no client")


def test_a_file_that_only_another_lane_serves_stays_and_one_that_is_not_asked_for_goes(
    site: Site, serve: Serve, wait_until: WaitUntil
) -> None:
    for number in range(FILES):
        site.write(f"{number}", bytes([number]) * SIZE)
    server = serve(site.root, engine="native", lanes=2, memory="2M")
    assert isinstance(server, Server)

    def file(number: int) -> Entry:
        entry = server.site.live.resources[b"/%d" % number]
        assert isinstance(entry, Entry)
        return entry

    with ExitStack() as stack:
        other = client_of_other(server, stack)
        first = stack.enter_context(Client(server.port))
        resident = [number for number in range(FILES) if file(number).body is not None]
        assert 0 in resident
        for number in resident[1:]:
            first.get(f"/{number}")
        now = tick_at(time.monotonic())
        wait_until(lambda: other.get("/0").body and file(0).tick > now)  # told about once a second
        gone = [number for number in range(FILES) if number not in resident]
        for number in gone[: len(resident) // 2]:
            first.get(f"/{number}")
        assert sum(file(number).body is None for number in resident) >= len(resident) // 3
        assert file(0).body is not None
