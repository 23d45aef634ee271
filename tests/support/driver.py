"""The compiled lane without a server: `Driver` is the loop around it, and runs in the test's own thread."""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.client import Client, Response
from tests.support.waiting import Predicate, T, is_readable
from zcserve import Config
from zcserve.http import status_line
from zcserve.net.fastlane import CODINGS, STATUSES, judge

Lane: Any = pytest.importorskip("zcserve.net._lane").Lane

PLAIN = b"GET /a HTTP/1.1\r\nHost: test\r\n\r\n"
DATE = b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
LEAD = b"Content-Length: %d\r\nContent-Type: text/plain\r\n"


def at_one_time(answers: bytes) -> bytes:
    """Answers, as if all had been made in the second of DATE."""
    return re.sub(rb"(?<=\r\n)Date: .{25} GMT\r\n", DATE, answers)


class Held:
    """A body: something that can be held, and whose end can be seen."""

    def __init__(self, head: bytes, content: bytes, *, fd: int = -1, offset: int = 0) -> None:
        """`fd`: where the content lies, from `offset` on; -1: behind the head."""
        self.head = head
        self.size = len(content)
        buffer = head + content if fd < 0 else head
        self.where: tuple[Any, ...] | None = (buffer, 0, len(head), fd, offset)

    def place(self) -> tuple[Any, ...] | None:
        """As `Body.place`."""
        return self.where


class Fake:
    """An entry: likewise. It has the first key that it is `put` under."""

    key = b""
    tick = 0
    uses = 0
    modified = None

    def __init__(self, body: Held | None = None, encoding: bytes = b"", etag: bytes = b'"tag"') -> None:
        self.body = body
        self.encoding = encoding
        self.etag = etag


def packed(content: bytes, entry: Fake | None = None, *, coding: int = 0, tag: bytes = b'"tag"') -> Fake:
    """An entry, another or this one, whose body lies in one piece."""
    entry = entry or Fake()
    head = LEAD % len(content) + b"ETag: " + tag + b"\r\n\r\n"
    entry.body, entry.encoding, entry.etag = Held(head, content), CODINGS[coding], tag
    return entry


def head_of(entry: Fake) -> bytes:
    """The head of what was `packed`."""
    assert entry.body is not None
    return entry.body.head


def laid_out(entry: Fake) -> bytes:
    """Its head and content."""
    assert entry.body is not None
    assert entry.body.where is not None
    return bytes(entry.body.where[0])


def put(lane: Any, key: bytes, *entries: Fake, any_query: bool = False) -> None:
    """Teach a lane these representations."""
    for entry in entries:
        entry.key = entry.key or key
    lane.put(key, entries, any_query=any_query)


def bytes_sent(lane: Any) -> int:
    """How many bytes the kernel has taken of all lanes."""
    return sum(sum(told[1]) for told in lane.counts())


class _Descriptor(NamedTuple):
    """A number, and the socket that it is of."""

    fd: int
    inode: int

    @classmethod
    def of(cls, fd: int) -> _Descriptor:
        return cls(fd, os.fstat(fd).st_ino)

    def is_open(self) -> bool:
        """Whether the number is that socket's still, and not free, or another file's."""
        try:
            return os.fstat(self.fd).st_ino == self.inode
        except OSError:
            return False


class Driver:
    """A lane with a listener, and the few things that the loop does for it. Prefixes have no Server."""

    def __init__(
        self, root: Path, *, log: bool = False, family: socket.AddressFamily = socket.AF_INET, **config: Any
    ) -> None:
        self.lane = Lane(Config(root=root, **config), log, judge)
        self.listener = socket.socket(family, socket.SOCK_STREAM)
        self.listener.setblocking(False)
        address: Any = {socket.AF_INET: ("127.0.0.1", 0), socket.AF_INET6: ("::1", 0)}.get(family, str(root / "socket"))
        self.listener.bind(address)
        if family != socket.AF_UNIX:
            self.listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as `listener.bind` does
        self.listener.listen(256)
        prefixes = tuple(
            status_line(status) + DATE + connection
            for connection in (b"", b"Connection: keep-alive\r\n", b"Connection: close\r\n")
            for status in STATUSES
        )
        self.lane.set_prefixes(prefixes)
        self.lane.register_listener(self.listener.fileno())
        self.where: Any = self.listener.getsockname()
        self.others: list[threading.Thread] = []
        self.others_listeners: list[socket.socket] = []
        self.taken: list[tuple[int, Any]] = []
        self.told: list[int] = []  # whose other events were told of
        self._handed_over: list[_Descriptor] = []  # what `take` gave, whatever a test has done with it since

    def turn(self, timeout: float = 0.0) -> None:
        """One turn of the loop; what is handed over is kept in `taken`. Where another second has begun, `poll` comes
        back before it has begun a turn: the next one does."""
        number = self.lane.turn
        reports = self.lane.poll(timeout)
        if not reports and self.lane.turn == number:
            reports = self.lane.poll(timeout)
        for fd, _ in reports:
            taken = self.lane.take(fd)
            if taken is not None:
                self._handed_over.append(_Descriptor.of(fd))
                self.taken.append((fd, taken[:6]))  # the rest is about the log
            else:
                self.told.append(fd)

    def until(self, condition: Predicate[T]) -> T:
        """Turn until something is true."""
        deadline = time.monotonic() + 20
        while not (value := condition()):
            assert time.monotonic() < deadline, "it never came true"
            self.turn(0.001)
        return value

    def add_lane(self) -> Any:
        """Another lane, in a thread: where it alone accepts clients while the first one has no turn."""
        return self.run_lane(self.lane.add_lane())

    def run_lane(self, number: int) -> Any:
        """As `add_lane`, of one that was added."""
        thread = threading.Thread(target=self.lane.run_lane, args=(number,))
        self.others.append(thread)
        thread.start()
        listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        listener.setblocking(False)
        self.others_listeners.append(listener)
        self.lane.register_listener(listener.fileno())
        return listener.getsockname()

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
                self.until(lambda: is_readable(client.socket))
            answers.append(client.read(method=method))
        return answers

    def close(self) -> None:
        """Close everything, what was handed over too, unless a test has closed it."""
        for fd, _ in self.taken:
            self.lane.forget(fd)
        if self.others:
            self.lane.stop_lanes()
        for thread in self.others:
            thread.join()
        self.lane.close()  # and what came back to it
        for one in self._handed_over:
            if one.is_open():
                os.close(one.fd)
        for listener in (self.listener, *self.others_listeners):
            listener.close()
