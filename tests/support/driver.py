"""The compiled lane without a server: `Driver` is the loop around it, and runs in the test's own thread."""

from __future__ import annotations

import select
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client, Response
from tests.support.waiting import Predicate, T
from zcserve import Config
from zcserve.http import status_line
from zcserve.net.fastlane import STATUSES, judge

Lane: Any = pytest.importorskip("zcserve.net._lane").Lane

PLAIN = b"GET /a HTTP/1.1\r\nHost: test\r\n\r\n"
LEAD = b"Content-Length: %d\r\nContent-Type: text/plain\r\n"


class Fake:
    """An entry or a body: something that can be held, and whose end can be seen."""

    tick = 0
    uses = 0
    modified = None


def packed(content: bytes, entry: Any = None, *, coding: int = 0, tag: bytes = b'"tag"') -> tuple[Any, ...]:
    """A representation that lies in one piece, as `Teacher` describes it."""
    lead = LEAD % len(content)
    head = lead + b"ETag: " + tag + b"\r\n\r\n"
    at = len(lead)
    entry = entry or Fake()
    return (entry, coding, head + content, len(head), at, at + 6, len(tag), -1, 0, len(content), Fake())


class Driver:
    """A lane with a listener, and the few things that the loop does for it. Seconds are the clock's."""

    def __init__(
        self, root: Path, *, log: bool = False, family: socket.AddressFamily = socket.AF_INET, **config: Any
    ) -> None:
        self.lane = Lane(Config(root=root, **config), log, judge)
        self.listener = socket.socket(family, socket.SOCK_STREAM)
        self.listener.setblocking(False)
        address: Any = {socket.AF_INET: ("127.0.0.1", 0), socket.AF_INET6: ("::1", 0)}.get(family, str(root / "socket"))
        self.listener.bind(address)
        self.listener.listen(256)
        self.lane.register_listener(self.listener.fileno())
        self.where: Any = self.listener.getsockname()
        self.second = 0
        self.taken: list[tuple[int, Any]] = []

    def turn(self, timeout: float = 0.0) -> None:
        """One turn of the loop; what is handed over is kept in `taken`."""
        self.second = int(time.time())
        prefixes = tuple(
            status_line(status) + b"Date: x\r\n" + connection
            for connection in (b"", b"Connection: keep-alive\r\n", b"Connection: close\r\n")
            for status in STATUSES
        )
        self.lane.set_second(self.second, prefixes, b"NOW")
        for fd, _ in self.lane.poll(timeout):
            taken = self.lane.take(fd)
            if taken is not None:
                self.taken.append((fd, taken))

    def until(self, condition: Predicate[T]) -> T:
        """Turn until something is true."""
        deadline = time.monotonic() + 20
        while not (value := condition()):
            assert time.monotonic() < deadline, "it never came true"
            self.turn(0.01)
        return value

    def next_taken(self) -> tuple[int, Any]:
        """What is handed over next, its descriptor and the rest, and is not kept any more."""
        self.until(lambda: self.taken)
        return self.taken.pop()

    def ask(self, client: Client, data: bytes, count: int = 1, method: str = "GET") -> list[Response]:
        """Send bytes, and read the lane's `count` answers."""
        client.send(data)
        answers = []
        for _ in range(count):
            if not client.buffer:
                self.until(lambda: select.select([client.socket], [], [], 0)[0])
            answers.append(client.read(method=method))
        return answers

    def close(self) -> None:
        """Close everything, what was handed over too."""
        for fd, _ in self.taken:
            self.lane.forget(fd)
            socket.socket(fileno=fd).close()
        self.lane.close()
        self.listener.close()
