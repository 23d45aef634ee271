"""A client and a loader in memory: what stands above them runs without sockets and threads, and a test says what comes
when."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

from zcserve.cache import heads
from zcserve.cache.entry import Entry, Fleeting, OpenFile, Paged, identity_of
from zcserve.cache.fetcher import Wait
from zcserve.cache.index import Generation

# Numbers that no file of this process has.
_numbers = count(1 << 20)


class MemoryTransport:
    """A transport whose client is a test.

    comes   what the client has sent and was not read, and `ended` that it sends no more
    sent    what was sent to it, and `flags` how: one letter for each call, `s`end, send `b`efore a file, `f`ile
    room    how many bytes it takes before it is full; None: any
    queued  what `unacknowledged` tells
    held    what `unsent` tells
    gone    it was reset
    """

    def __init__(self, comes: bytes = b"", *, room: int | None = None, ended: bool = False) -> None:
        self.fd = next(_numbers)
        self.peer = "192.0.2.7"
        self.comes = comes
        self.ended = ended
        self.sent = b""
        self.flags = ""
        self.room = room
        self.queued = self.held = 0
        self.gone = False
        self.is_output_ended = False
        self.is_closed = False
        self.released = -1

    def read(self, limit: int, /) -> bytes:
        self._must_be_there()
        if not self.comes and not self.ended:
            raise BlockingIOError
        data, self.comes = self.comes[:limit], self.comes[limit:]
        return data

    def send(self, buffers: Sequence[bytes | memoryview], /, flag: str = "s") -> int:
        self._must_be_there()
        data = b"".join(buffers)[: self.room]
        if data:
            self.flags += flag
        elif any(buffers):
            raise BlockingIOError
        self.sent += data
        if self.room is not None:
            self.room -= len(data)
        return len(data)

    def send_before_file(self, buffers: Sequence[bytes | memoryview], /) -> int:
        return self.send(buffers, "b")

    def send_file(self, fd: int, offset: int, length: int, /) -> int:
        data = os.pread(fd, length, offset)
        return self.send((data,), "f") if data else 0

    def has_unread(self) -> bool:
        return bool(self.comes)

    def unacknowledged(self) -> int:
        return self.queued

    def unsent(self) -> int:
        return self.held

    def end_output(self) -> bool:
        self.is_output_ended = not self.gone
        return not self.gone

    def discard(self) -> int:
        return len(self.read(1 << 16))

    def addresses(self) -> tuple[object, object]:
        self._must_be_there()
        return (self.peer, 40_000), ("192.0.2.1", 80)

    def close(self) -> None:
        self.fd = -1
        self.is_closed = True

    def release(self) -> int:
        self.released, self.fd = self.fd, -1
        return self.released

    def _must_be_there(self) -> None:
        if self.gone or self.is_closed:
            raise ConnectionResetError


class HandFetcher:
    """Loads what a test says, when it says so."""

    def __init__(self) -> None:
        self.done: list[Callable[[Any], None]] = []
        self.cancelled = 0

    def fetch(self, generation: Generation, base: Entry, chosen: Entry, done: Callable[[Any], None]) -> Wait:
        self.done.append(done)
        return Wait(None, None, done)

    def opened(self, entry: Entry) -> None:
        """Nothing is open already."""

    def cancel(self, wait: Wait) -> None:
        self.cancelled += 1


def head_of(content: bytes) -> bytes:
    return heads.build("a.txt", len(content), 0, b'"tag"', encoding=b"", vary=False)


def body_of(content: bytes) -> Fleeting:
    """One that is sent as a copy."""
    return Fleeting(head_of(content), content)


def large_body_of(content: bytes) -> Paged:
    """One that is sent from a descriptor, as a large file's is."""
    fd = os.memfd_create("large")
    os.write(fd, content)
    return Paged(head_of(content), fd, 0, len(content), OpenFile(fd, identity_of(os.fstat(fd))))
