"""One server's side of connections: no socket, no thread, a clock and turns that the test makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.memory import HandFetcher, MemoryTransport, body_of
from zcserve import Config
from zcserve.cache.entry import Entry
from zcserve.cache.index import Generation
from zcserve.cache.root import Root
from zcserve.net.bodies import Allowance
from zcserve.net.connection import Connection
from zcserve.net.front import Front, Kind
from zcserve.net.loop import Loop
from zcserve.net.poller import READ
from zcserve.net.prefixes import Prefixes
from zcserve.net.request import Parser
from zcserve.net.service import Service
from zcserve.net.stay import Stay
from zcserve.site.site import Site

GET = b"GET /page HTTP/1.1\r\nHost: test\r\n\r\n"
LAST = b"GET /page HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
ABSENT = b"GET /absent HTTP/1.1\r\nHost: test\r\n\r\n"
COLD = b"GET /cold HTTP/1.1\r\nHost: test\r\n\r\n"
CONTENT = b"the content"


class HandFront(Front):
    """Reports what a test says, for descriptors that are numbers only."""

    def __init__(self) -> None:
        self.reports: list[tuple[int, int]] = []
        self.watched: set[int] = set()
        self.given: list[float] = []  # since when they were idle
        self.takes = False
        self.waits = False  # the loop has nothing to do now
        self.told: list[str] = []  # how its own connections are to end
        self.own = 0  # so many connections of its own are open

    def poll(self, timeout: float) -> list[tuple[int, int]]:
        self.waits = timeout != 0
        reports, self.reports = self.reports, []
        return reports

    def watch(self, fd: int, kind: Kind) -> None:
        self.watched.add(fd)

    def forget(self, fd: int) -> None:
        self.watched.remove(fd)

    def count(self, known: int) -> int:
        return known + self.own

    def drain(self) -> None:
        self.told.append("drain")

    def answer_last(self, is_last: bool) -> None:
        self.told.append("answer last" if is_last else "answer on")

    def end(self, *, idle_only: bool) -> None:
        self.told.append("end idle" if idle_only else "end all")

    def give(self, fd: int, since: float) -> bool:
        if self.takes:
            self.given.append(since)
        return self.takes


class House:
    """One server's side of connections."""

    def __init__(self, root: Path, **settings: Any) -> None:
        self.front = HandFront()
        self.loop = Loop(self.front)
        (self._wake,) = self.front.watched  # the loop's own
        self.loop.now = 1000.0
        self.fetcher = HandFetcher()
        self.body = body_of(CONTENT)
        generation = Generation(Root(root))
        for key, body in ((b"/page", self.body), (b"/cold", None)):
            entry = Entry(key, b"", len(CONTENT), None)
            entry.body, entry.etag = body, b'"tag"'
            generation.resources[key] = entry
        config = Config(root=root, **settings)
        self.log: list[tuple[int, int]] = []
        self.service = Service(
            config=config,
            loop=self.loop,
            parser=Parser(config),
            prefixes=Prefixes(),
            fetcher=self.fetcher,  # type: ignore[arg-type]
            sites=(Site(0, generation),),
            bodies=Allowance(1 << 20),
            log=lambda client, method, target, fields, status, length: self.log.append((status, length)),
        )

    def connect(self, comes: bytes = b"", **more: Any) -> tuple[Connection, MemoryTransport]:
        transport = MemoryTransport(comes, **more)
        return Connection(self.service, transport), transport

    def take_over(self, in_vain: int) -> tuple[Connection, MemoryTransport]:
        """As `take_over` in net/connection.py."""
        self.front.takes = True
        transport = MemoryTransport()
        self.front.watched.add(transport.fd)
        return Connection(self.service, transport, Stay(in_vain)), transport

    def turn(self, transport: MemoryTransport | None = None, mask: int = READ) -> None:
        """One turn of the loop, in which `transport` has something to report."""
        if transport is not None:
            self.front.reports.append((transport.fd, mask))
        self.loop.run_once()

    def hear(self) -> None:
        """One turn of the loop, which makes the calls that it was asked for (`Loop.call_soon`)."""
        self.front.reports.append((self._wake, READ))
        self.loop.run_once()

    def settle(self) -> None:
        """Turns until nothing more is to be done now."""
        for _ in range(1000):
            self.turn()
            if self.front.waits:
                return
        pytest.fail("there is always more to do")


def statuses(transport: MemoryTransport) -> list[int]:
    return [int(piece[:3]) for piece in transport.sent.split(b"HTTP/1.1 ")[1:]]
