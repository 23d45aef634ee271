"""What an application sees of a connection: exchanges, a loop that is turned by hand, and streams that are pulled.

`Side` has a real pool and a real asyncio thread. Only the loop is not there: what is to run in its thread waits in a
queue until the test turns it, so that a test sees what happens in between.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import NoneType
from typing import Any

import pytest

from tests.support.waiting import Predicate, T
from zcserve import Config
from zcserve.cache.entry import DiskSpan, Segment, Span
from zcserve.cache.index import Generation
from zcserve.cache.root import Root
from zcserve.http import WITHOUT_CONTENT
from zcserve.net.failures import Failures
from zcserve.net.head import SentHead
from zcserve.net.request import split_target
from zcserve.net.timers import Timers
from zcserve.paths import SentPath
from zcserve.servlets.context import Context
from zcserve.servlets.workers import AsyncThread, Pool
from zcserve.site.exchange import Answer, Exchange
from zcserve.site.reply import Piece, Reply, Stream
from zcserve.site.site import Site

TIMEOUT_S = 20.0


def bytes_of(segment: Segment) -> bytes:
    """What would be sent of a segment."""
    if isinstance(segment, (Span, DiskSpan)):
        fd = segment.fd if isinstance(segment, Span) else segment.file.fd
        return os.pread(fd, segment.length, segment.offset)
    return bytes(segment)


class Side:
    """One server's side: a `context` for applications, and the loop's thread, which is the test's."""

    def __init__(self, root: Path, **config: Any) -> None:
        self.thread = threading.current_thread()
        self.calls: queue.Queue[Callable[[], object]] = queue.Queue()
        self.site = Site(0, Generation(Root(root)))
        settings = Config(root=root, **config)
        self.context = Context(
            settings,
            self.site,
            Pool(settings.servlet_threads, settings.servlet_queue_max),
            AsyncThread(),
            self.calls.put,
            lambda seconds, call: self.calls.put(call),
            Failures(Timers()),
        )

    def turn_until(self, is_true: Predicate[T]) -> T:
        """Run what is to run in the loop's thread until `is_true`, and return what that is."""
        deadline = time.monotonic() + TIMEOUT_S
        while not (value := is_true()):
            if time.monotonic() > deadline:
                pytest.fail(f"not true within {TIMEOUT_S} s: {is_true!r}")
            with contextlib.suppress(queue.Empty):  # a thread may make it true without a word to the loop
                self.calls.get(timeout=0.005)()
        return value

    def finish_jobs(self) -> None:
        """Wait until what the pool was given is done; of a pool of one thread."""
        assert self.context.config.servlet_threads == 1
        done: list[bool] = []
        self.context.pool.submit(lambda: done.append(True))
        self.turn_until(lambda: done)

    def exchange(
        self,
        target: str = "/app/",
        *lines: str,
        method: str = "GET",
        body: bytes = b"",
        version: str = "HTTP/1.1",
        peer: object = ("127.0.0.1", 40000),
        own: object = ("127.0.0.1", 8080),
    ) -> Asked:
        """A request with its header lines."""
        head = "".join(f"{line}\r\n" for line in (f"{method} {target} {version}", "Host: test", *lines, ""))
        return Asked(self, method.encode(), target.encode(), head.encode("latin-1"), body, peer, own)

    def ask(self, resource: Any, target: str = "/app/", *lines: str, **more: Any) -> Got:
        """A request's whole answer."""
        return self.exchange(target, *lines, **more).sent_to(resource).read()

    def close(self) -> None:
        """End as a server does; harmless when repeated."""
        self.context.pool.close()
        if not self.context.tasks.loop.is_closed():
            self.context.tasks.close()


class Asked:
    """A request that was asked, and its answer as far as it has come."""

    def __init__(
        self, side: Side, method: bytes, target: bytes, head: bytes, body: bytes, peer: object, own: object
    ) -> None:
        self.side = side
        self.made: Answer | None = None

        def addresses() -> tuple[object, object]:
            assert threading.current_thread() is side.thread
            if peer is None:
                raise OSError("not connected")
            return peer, own

        def finish(_: Exchange, made: Answer | None) -> None:
            # What is declined has no file and no rule here.
            side.calls.put(lambda: self.take(made if made is not None else side.context.site.not_found()))

        sent, query = split_target(target)
        self.exchange = Exchange(
            method, target, SentPath(sent), query, SentHead(head), body, "127.0.0.1", addresses, finish
        )

    def take(self, made: Answer) -> None:
        """What the application has made: once for each request."""
        assert self.made is None, "answered twice"
        assert made is not None, "no answer"
        self.made = made

    def sent_to(self, resource: Any) -> Asked:
        """Have it answered, at once or later."""
        made = resource.respond(self.exchange)
        if made is not None:
            self.take(made)
        return self

    def outcome(self) -> Answer:
        """What was made, when it is there."""
        self.side.turn_until(lambda: self.made is not None)
        assert self.made is not None
        return self.made

    def answer(self) -> Reply:
        """The same, where it is a reply of its own."""
        made = self.outcome()
        assert isinstance(made, Reply)
        return made

    def stream(self) -> Stream:
        """The answer's content, which is a stream."""
        content = self.answer().content
        assert not isinstance(content, (bytes, tuple, NoneType))
        return content

    def pull(self) -> Piece | None:
        """The next piece of the stream."""
        given: list[Piece | None] = []

        def give(piece: Piece | None) -> None:
            assert threading.current_thread() is self.side.thread
            given.append(piece)

        self.stream().pull(give)
        self.side.turn_until(lambda: given)
        return given[0]

    def read(self) -> Got:
        """The whole answer; a stream is pulled to its end and closed, as a connection does."""
        answer = self.answer()
        whole = True
        if isinstance(answer.content, (bytes, tuple)):
            content = answer.content if isinstance(answer.content, bytes) else b"".join(map(bytes_of, answer.content))
        else:
            content = b""
            while answer.length is None or len(content) < answer.length:
                piece = self.pull()
                whole = piece is not None
                if not piece:
                    break
                content += bytes_of(piece)
            answer.discard()
        return Got(answer, content, whole)


class Got:
    """An answer that was read. `whole` is False where it was cut short."""

    def __init__(self, answer: Reply, content: bytes, whole: bool) -> None:
        self.answer = answer
        self.status = answer.status
        self.fields = answer.fields
        self.length = WITHOUT_CONTENT.get(answer.status, answer.length)  # as framing.py tells it
        self.content = content
        self.whole = whole

    def __getitem__(self, name: str) -> list[str]:
        """The values of a field."""
        return [value.decode("latin-1") for key, value in self.fields if key.decode().lower() == name.lower()]
