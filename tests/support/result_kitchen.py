"""Results with everything that they need; the loop is turned by hand, and so is time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.connection_side import Asked, Side
from zcserve.cache.entry import ComposedEntry, Entry
from zcserve.cache.fetcher import Fetcher
from zcserve.cache.loader import Loader
from zcserve.cache.store import Store
from zcserve.net.front import Front
from zcserve.net.timers import Timers
from zcserve.servlets.calls import Caller, Outcome
from zcserve.servlets.context import RequestLine
from zcserve.servlets.guard import LoopGuard
from zcserve.servlets.results import Keeping, Result, Results
from zcserve.servlets.routes import Route
from zcserve.site.exchange import Answer, Stored
from zcserve.site.reply import Reply

TTL = 3600.0  # longer than a test: what expires is told so


class Kitchen:
    """Results with everything that they need, of servlets that are functions of a test."""

    def __init__(self, root: Path, memory: int = 8 << 20, **config: Any) -> None:
        self.side = Side(root, memory=memory, **config)
        context = self.side.context
        self.store = Store(memory, slab_bytes=1 << 20, small_body_bytes_max=16 * 1024)
        self.loader = Loader(self.store, context.config)
        self.fetcher = Fetcher(self.loader, 2, self.side.calls.put)
        self.timers = Timers()
        self.looks: list[bool] = []
        self.calls = 0
        keeping = Keeping(self.loader, self.fetcher, self.timers, Front())
        caller = Caller(context, LoopGuard(10, Front()))
        look = self.looks.append
        self.results = Results(context, caller, keeping, answer_of=self._answer_of, look=lambda: look(True))

    def _answer_of(self, outcome: Outcome, route: Route, asked: RequestLine) -> Answer:
        if isinstance(outcome, BaseException):
            return self.side.context.fail(route.where, asked, outcome)
        assert isinstance(outcome, Reply)
        return outcome

    def route(self, make: Callable[[int], object], *, thread: bool = False) -> Route:
        """A servlet that makes something of the number of its call."""

        def function(request: object) -> object:
            self.calls += 1
            return make(self.calls)

        return Route(function, "it", frozenset(("GET", "HEAD")), "/it", TTL, thread, False, "servlets/it.py:1")

    def asked(self, route: Route, target: str = "/it") -> Asked:
        """A request under way."""
        asked = self.side.exchange(target)
        made = self.results.respond(route, {}, asked.exchange)
        if made is not None:
            asked.take(made)
        return asked

    def ask(self, route: Route, target: str = "/it") -> Answer:
        """A request's answer. An entry is used then, as a connection does."""
        asked = self.asked(route, target)
        made = asked.outcome()
        if isinstance(made, Stored):
            made.entry.uses += 1
        return made

    def entry(self, route: Route, target: str = "/it") -> ComposedEntry:
        made = self.ask(route, target)
        assert isinstance(made, Stored)
        assert made.own
        assert isinstance(made.entry, ComposedEntry)
        return made.entry

    def kept(self, target: str = "/it") -> Result | None:
        return self.results.kept.get(target.encode())

    def expire(self, target: str = "/it") -> None:
        """A ttl has passed, and what comes of it is done."""
        kept = self.kept(target)
        assert kept is not None
        kept.expire()
        self.settle()

    def settle(self) -> None:
        """Until nothing is being made."""
        self.side.turn_until(lambda: not self.results.making.wanted)

    def close(self) -> None:
        self.results.close()
        self.side.close()
        self.fetcher.close()
        self.store.close()


def content_of(entry: Entry) -> bytes:
    body = entry.body
    assert body is not None
    part = body.part(0, body.size)
    assert isinstance(part, memoryview)
    return bytes(part)
