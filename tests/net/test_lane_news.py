"""What another lane has for Python: the log's lines come in order and in time, and are counted where they are lost."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client
from tests.support.site import Site
from tests.support.waiting import WaitUntil
from zcserve import Config, Server
from zcserve.cache.curve import MissRatioCurve
from zcserve.net import fastlane
from zcserve.net.access_log import FLUSH_INTERVAL_S
from zcserve.net.fastlane import NEWS_S, FastLane

pytest.importorskip("zcserve.net._lane")

WITHIN_S = 20.0
PAGE = b"page" * 2500
ASKED = re.compile(r"/page\?(\d+)&(\d+)")
Start = Callable[[], AbstractContextManager[Server]]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Where the server's log is."""
    return tmp_path / "access.log"


@pytest.fixture
def start(site: Site, log: Path, wait_until: WaitUntil) -> Start:
    """`with start() as server`: of two lanes, and a page that they know."""
    site.write("page", PAGE)
    listen = ("127.0.0.1:0", f"unix:{site.root.parent / 'socket'}")
    config = Config(root=site.root, engine="native", lanes=2, access_log=str(log), listen=listen)

    @contextmanager
    def started() -> Iterator[Server]:
        with Server(config) as server:
            with Client(server.port) as client:
                while not first_lane(server).requests:
                    client.get("/page")
            wait_until(lambda: not any(first_lane(server).loads))  # else `client_of` may see this one go
            yield server

    return started


def first_lane(server: Server) -> Any:
    """The first lane, which Python's thread is in."""
    assert isinstance(server.loop.front, FastLane)
    return server.loop.front.lane


def client_of(server: Server, stack: ExitStack, *, first: bool, where: str = "") -> Client:
    """A client of the first lane, or of the other one."""
    lane = first_lane(server)
    for _ in range(50):
        before = lane.loads  # before it connects: a lane may accept it before it asks
        client = stack.enter_context(Client(where or server.port))
        client.get("/page")
        if (lane.loads[0] > before[0]) == first:
            return client
    pytest.fail("the lane has no client")


def numbers_in(log: Path) -> dict[int, list[int]]:
    """For each client the numbers of its requests, as the log has them."""
    found: dict[int, list[int]] = defaultdict(list)
    for line in log.read_text().splitlines():
        if match := ASKED.search(line):
            found[int(match[1])].append(int(match[2]))
    return found


def test_each_answer_has_its_line_in_the_order_of_its_lane(start: Start, log: Path) -> None:
    """Up to the last one: the server ends at once."""
    with start() as server, ExitStack() as stack:
        clients = [client_of(server, stack, first=first) for first in (True, False, False)]
        for number in range(300):
            for which, client in enumerate(clients):
                client.get(f"/page?{which}&{number}")
    assert numbers_in(log) == {which: list(range(300)) for which in range(3)}


def test_a_line_is_no_later_than_the_interval(start: Start, log: Path, wait_until: WaitUntil) -> None:
    """A second later without `NEWS_S`. One of five tries is to be in time: this machine may be busy."""
    with start() as server, ExitStack() as stack:
        client = client_of(server, stack, first=False)
        for number in range(5):
            began = time.monotonic()
            for of_two in range(2):  # the first one is sent at once
                client.get(f"/page?{of_two}&{number}")
            wait_until(lambda number=number: number in numbers_in(log)[1])
            if time.monotonic() - began < FLUSH_INTERVAL_S + 0.1:
                return
    pytest.fail("lines are late")


def test_what_came_while_python_was_held_is_taken_then_though_no_more_is_asked(
    start: Start, log: Path, wait_until: WaitUntil
) -> None:
    with start() as server, ExitStack() as stack:
        client = client_of(server, stack, first=False)
        server.loop.call_soon(lambda: time.sleep(3 * NEWS_S))
        asked, until = 0, time.monotonic() + 2 * NEWS_S
        while time.monotonic() < until:
            client.get(f"/page?0&{asked}")
            asked += 1
        client.close()  # no sweep of connections has the lane turn again
        wait_until(lambda: numbers_in(log)[0] == list(range(asked)))


def test_news_come_as_often_as_is_said() -> None:
    unit = (Path(fastlane.__file__).parent / "lane/news.pxd").read_text()
    assert f"#define ZC_NEWS_S {NEWS_S}\n" in unit


def test_a_lane_goes_on_while_python_is_held_and_lines_that_find_no_room_are_counted(
    start: Start, site: Site, log: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One request after the other: of a part of one, which a read may bring else, Python would have to hear."""
    count, released = 6000, threading.Event()
    with start() as server, ExitStack() as stack:
        client = client_of(server, stack, first=False, where=str(site.root.parent / "socket"))
        server.loop.call_soon(lambda: released.wait(WITHIN_S))
        lines = b" HTTP/1.1\r\nHost: test\r\n\r\n"
        requests = [(b"GET /page?1&%04d&" % number).ljust(8192 - len(lines), b"x") + lines for number in range(count)]
        for request in requests:
            client.send(request)
            assert client.read().body == PAGE
        released.set()
        for number in range(10):
            client.get(f"/page?2&{number}")
    told = sum(int(match[1]) for match in re.finditer(r"access log: (\d+) lines are lost", caplog.text))
    numbers = numbers_in(log)
    assert told > 0
    assert len(numbers[1]) + told == count
    assert numbers[1] == sorted(numbers[1])
    assert numbers[2] == list(range(10))


def test_sightings_of_a_lane_that_find_no_room_while_python_is_held_are_counted_and_told(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """Two rooms are filled at most: the one that was sent, and the one that is gathered in."""
    count, released = 41_000, threading.Event()
    caplog.set_level(logging.DEBUG)
    with start() as server, ExitStack() as stack:
        client = client_of(server, stack, first=False)
        held = threading.Event()
        server.loop.call_soon(lambda: (server.loop.front.sample(MissRatioCurve()), held.set(), released.wait(WITHIN_S)))
        held.wait(WITHIN_S)
        for _ in range(count // 100):
            client.send(b"GET /page HTTP/1.1\r\nHost: test\r\nIf-None-Match: *\r\n\r\n" * 100)
            for _ in range(100):
                client.read()
        lost = first_lane(server).lost[1]
        released.set()
    told = [int(match[1]) for match in re.finditer(r"give: (\d+) sampled uses found no room", caplog.text)]
    assert lost >= count - 2 * 16384
    assert sum(told) == lost
