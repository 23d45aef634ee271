"""Results: what may be kept, for how long, and what becomes of it; the loop is turned by hand, and so is time."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from connection_side import Asked, Side

from zcserve.cache.entry import ComposedEntry, Entry, Span
from zcserve.cache.fetcher import Fetcher
from zcserve.cache.loader import Loader
from zcserve.cache.store import Store
from zcserve.errors import HttpError
from zcserve.net.exchange import Answer, Made, Stored
from zcserve.net.timers import Timers
from zcserve.servlets.calls import Caller, Outcome
from zcserve.servlets.context import Asked as Named
from zcserve.servlets.kept import SWEPT_AT_ONCE
from zcserve.servlets.response import HTML_FIELDS, Response
from zcserve.servlets.results import (
    CONSIDERED_MAX,
    FIELDS_BYTES_MAX,
    STALE_TTLS_MAX,
    Call,
    Judged,
    Keeping,
    Result,
    Results,
    judge,
)
from zcserve.servlets.routes import Route
from zcserve.servlets.watch import Watch

TTL = 3600.0  # longer than a test: what expires is told so
HTML = "text/html; charset=utf-8"


# --- what may be kept -------------------------------------------------------------------------------------


def answered(*headers: tuple[str, str], status: int = 200) -> Answer:
    rendered = Response(b"content", status, headers).render()
    assert isinstance(rendered.content, bytes)
    return Answer(rendered.status, rendered.fields, rendered.content)


@pytest.mark.parametrize(
    ("ttl", "headers", "judged"),
    [
        (5, [], Judged(HTML, None, b"Cache-Control: max-age=5\r\n")),
        (0.2, [], Judged(HTML, None, b"Cache-Control: max-age=1\r\n")),
        (2.9, [("Content-Type", "text/csv")], Judged("text/csv", None, b"Cache-Control: max-age=2\r\n")),
        (5, [("Cache-Control", "max-age=60")], Judged(HTML, None, b"Cache-Control: max-age=60\r\n")),
        (
            5,
            [("cache-control", "no-cache"), ("X-A", "1: 2")],
            Judged(HTML, None, b"cache-control: no-cache\r\nX-A: 1: 2\r\n"),
        ),
        (5, [("Vary", "accept-encoding")], Judged(HTML, None, b"Cache-Control: max-age=5\r\n")),
        (5, [("X-Content-Type-Options", "nosniff")], Judged(HTML, None, b"Cache-Control: max-age=5\r\n")),
        (
            5,
            [("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT")],
            Judged(HTML, 784111777, b"Cache-Control: max-age=5\r\n"),
        ),
        (5, [("X-A", "a"), ("X-A", "b")], Judged(HTML, None, b"X-A: a\r\nX-A: b\r\nCache-Control: max-age=5\r\n")),
    ],
)
def test_an_answer_for_everybody_becomes_an_entry(ttl: float, headers: list[tuple[str, str]], judged: Judged) -> None:
    assert judge(answered(*headers), ttl) == judged


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (answered(("Set-Cookie", "a=b")), "Set-Cookie"),
        (answered(("set-cookie", "a=b")), "set-cookie"),
        (answered(("Cache-Control", "max-age=3, no-store")), "no-store"),
        (answered(("Cache-Control", "max-age=3"), ("Cache-Control", 'Private="x"')), "private"),
        (answered(("Vary", "Cookie")), "Vary"),
        (answered(("Vary", "Accept-Encoding, Origin")), "Vary"),
        (answered(("Vary", "*")), "Vary"),
        (answered(("ETag", '"mine"')), "ETag"),
        (answered(("Content-Encoding", "gzip")), "Content-Encoding"),
        (answered(("X-Long", "x" * FIELDS_BYTES_MAX)), "too long"),
        (answered(status=404), "404"),
        (answered(status=204), "204"),
        (Answer(200, HTML_FIELDS, (Span(0, 0, 1),), 1), "stream"),
        (Stored(None, Entry(b"/f", b"", 0, None)), "file"),  # type: ignore[arg-type]
    ],
)
def test_an_answer_that_is_not_for_everybody_does_not(made: Made, why: str) -> None:
    judged = judge(made, 5)
    assert isinstance(judged, str)
    assert why in judged


# --- results ----------------------------------------------------------------------------------------------


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
        keeping = Keeping(self.loader, self.fetcher, self.timers, None)
        caller = Caller(context, Watch(10))
        look = self.looks.append
        context.turn = lambda: self.calls
        self.results = Results(context, caller, keeping, made=self._made, look=lambda: look(True))

    def _made(self, outcome: Outcome, route: Route, asked: Named) -> Made:
        if isinstance(outcome, BaseException):
            return self.side.context.fail(route.where, asked, outcome)
        assert isinstance(outcome, Answer)
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
            asked._take(made)
        return asked

    def ask(self, route: Route, target: str = "/it") -> Made:
        """A request's answer. An entry is used then, as a connection does."""
        asked = self.asked(route, target)
        made: Made = self.side.turn_until(lambda: asked.made)
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
        return self.results._kept.get(target.encode())

    def expire(self, target: str = "/it") -> None:
        """A ttl has passed, and what comes of it is done."""
        kept = self.kept(target)
        assert kept is not None
        kept.expire()
        self.settle()

    def settle(self) -> None:
        """Until nothing is being made."""
        self.side.turn_until(lambda: not self.results._calls)

    def close(self) -> None:
        self.results.close()
        self.side.close()
        self.fetcher.close()
        self.store.close()


@pytest.fixture
def kitchen(tmp_path: Path) -> Iterator[Kitchen]:
    kitchen = Kitchen(tmp_path)
    yield kitchen
    kitchen.close()


@pytest.fixture
def small_kitchen(tmp_path: Path) -> Iterator[Kitchen]:
    """With room for three results, one thread, and nobody who waits for it."""
    kitchen = Kitchen(tmp_path, servlet_results_max=3, servlet_threads=1, servlet_queue_max=1)
    yield kitchen
    kitchen.close()


def content_of(entry: Entry) -> bytes:
    body = entry.body
    assert body is not None
    part = body.part(0, body.size)
    assert isinstance(part, memoryview)
    return bytes(part)


def test_a_result_has_a_head_as_a_file_has(kitchen: Kitchen) -> None:
    route = kitchen.route(lambda n: Response("100%", headers={"X-Share": "5%", "Content-Type": "text/x; a=%d"}))
    entry = kitchen.entry(route)
    assert entry.body is not None
    assert bytes(entry.body.head()) == (
        b"Content-Length: 4\r\nContent-Type: text/x; a=%%d\r\nAccept-Ranges: bytes\r\n"
        b"X-Content-Type-Options: nosniff\r\nETag: %b\r\nX-Share: 5%%\r\nCache-Control: max-age=3600\r\n\r\n"
        % entry.etag
    )
    assert content_of(entry) == b"100%"


def test_a_result_that_was_used_is_made_again_and_replaced(kitchen: Kitchen) -> None:
    route = kitchen.route(lambda n: str(n))
    first = kitchen.entry(route)
    assert kitchen.entry(route) is first
    kitchen.expire()
    second = kitchen.entry(route)
    assert content_of(second) == b"2"
    assert second.etag != first.etag
    assert second.uses > first.uses  # as popular as the old one
    kitchen.side.turn_until(lambda: first.body is None)
    assert kitchen.store.resident == 1


def test_what_was_asked_for_once_is_not_made_again(kitchen: Kitchen) -> None:
    route = kitchen.route(lambda n: str(n))
    entry = kitchen.entry(route)
    kitchen.expire()
    assert kitchen.kept() is None
    kitchen.side.turn_until(lambda: entry.body is None)
    assert kitchen.calls == 1


@pytest.mark.parametrize(
    ("make", "is_same"),
    [
        (lambda n: "always", True),
        (lambda n: str(n), False),
        (lambda n: Response("always", headers={"X-N": str(n)}), False),
        (lambda n: Response("always", content_type=f"text/{n}"), False),
    ],
)
def test_an_entry_lives_on_while_it_says_the_same(kitchen: Kitchen, make: Any, is_same: bool) -> None:
    route = kitchen.route(make)
    first = kitchen.entry(route)
    for n in range(2, 5):
        assert kitchen.ask(route)
        kitchen.expire()
        assert kitchen.calls == n
        assert (kitchen.entry(route) is first) is is_same
    kitchen.side.turn_until(lambda: kitchen.store.resident == 1)


@pytest.mark.parametrize("failure", [RuntimeError("no"), HttpError(503, "not now"), None])
def test_an_old_result_outlives_so_many_failures_and_no_more(
    kitchen: Kitchen, failure: BaseException | None, caplog: pytest.LogCaptureFixture
) -> None:
    def make(n: int) -> object:
        if n == 1:
            return "good"
        if failure is not None:
            raise failure
        return Response("bad", 500)

    route = kitchen.route(make)
    first = kitchen.entry(route)
    for n in range(STALE_TTLS_MAX):
        assert kitchen.entry(route) is first
        kitchen.expire()
        assert kitchen.calls == n + 2
    assert kitchen.entry(route) is first
    kitchen.expire()
    made = kitchen.ask(route)
    assert isinstance(made, Answer)
    assert made.status in (500, 503)
    assert kitchen.calls == STALE_TTLS_MAX + 2
    told = [record.getMessage() for record in caplog.records]
    assert sum("goes on as it was" in message for message in told) == STALE_TTLS_MAX


def test_a_success_between_failures_is_a_new_beginning(kitchen: Kitchen) -> None:
    def make(n: int) -> object:
        return Response("bad", 500) if n % 8 else "good"

    route = kitchen.route(make)
    kitchen.calls = 7
    first = kitchen.entry(route)
    for _ in range(3 * STALE_TTLS_MAX):
        assert kitchen.entry(route) is first
        kitchen.expire()
    assert kitchen.entry(route) is first


def test_a_result_that_may_not_be_kept_any_more_is_dropped(kitchen: Kitchen, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "zcserve.servlets.results")
    route = kitchen.route(lambda n: "for all" if n == 1 else Response("yours", headers={"Set-Cookie": "a=b"}))
    for _ in range(2):
        kitchen.entry(route)
    kitchen.expire()
    assert kitchen.kept() is None
    made = kitchen.ask(route)
    assert isinstance(made, Answer)
    assert made.content == b"yours"
    assert "is not kept: it has Set-Cookie: a=b" in caplog.text


def test_an_iterator_of_a_result_that_nobody_waits_for_is_closed(kitchen: Kitchen) -> None:
    closed: list[bool] = []

    def pieces() -> Iterator[bytes]:
        try:
            yield b"one"
            yield b"two"
        finally:
            closed.append(True)

    route = kitchen.route(lambda n: "whole" if n == 1 else pieces())
    for _ in range(2):
        kitchen.entry(route)
    kitchen.expire()
    assert kitchen.kept() is None
    assert closed


def test_what_was_evicted_is_made_again(kitchen: Kitchen) -> None:
    route = kitchen.route(lambda n: str(n))
    for n in range(1, 4):
        entry = kitchen.entry(route)
        assert content_of(entry) == b"%d" % n
        kitchen.store.drop(entry)
    kitchen.expire()
    assert kitchen.kept() is None
    assert kitchen.calls == 3


def test_what_finds_no_room_is_answered(tmp_path: Path) -> None:
    kitchen = Kitchen(tmp_path, memory=1 << 20)
    route = kitchen.route(lambda n: b"x" * (600 << 10))
    for _ in range(2):
        made = kitchen.ask(route)
        assert isinstance(made, Answer)
        assert made.content == b"x" * (600 << 10)
    assert kitchen.calls == 2
    assert not len(kitchen.results)
    kitchen.close()


def test_all_who_wait_have_one_call(kitchen: Kitchen) -> None:
    route = kitchen.route(lambda n: str(n), thread=True)
    asked = [kitchen.asked(route) for _ in range(100)]
    kitchen.side.turn_until(lambda: all(one.made for one in asked))
    assert kitchen.calls == 1
    assert len({id(one.made) for one in asked}) == 1


def test_all_who_wait_hear_of_a_failure(kitchen: Kitchen) -> None:
    def make(n: int) -> object:
        raise RuntimeError("no")

    route = kitchen.route(make, thread=True)
    asked = [kitchen.asked(route) for _ in range(10)]
    kitchen.side.turn_until(lambda: all(one.made for one in asked))
    assert [one.answer().status for one in asked] == [500] * 10


def test_who_waits_for_what_is_not_for_all_has_a_call_of_his_own(kitchen: Kitchen) -> None:
    route = kitchen.route(lambda n: Response("x", headers={"Set-Cookie": "a=b"}), thread=True)
    asked = [kitchen.asked(route) for _ in range(10)]
    kitchen.side.turn_until(lambda: all(one.made for one in asked))
    assert len({id(one.made) for one in asked}) == 10
    assert kitchen.calls == 10


def test_where_no_thread_is_free_it_is_503(small_kitchen: Kitchen) -> None:
    go, kitchen = threading.Event(), small_kitchen
    route = kitchen.route(lambda n: str(go.wait(20)), thread=True)
    asked = [kitchen.asked(route, "/1")]
    kitchen.side.turn_until(lambda: kitchen.calls)
    asked += [kitchen.asked(route, f"/{n}") for n in (2, 3)]
    assert asked[2].answer().status == 503
    go.set()
    kitchen.side.turn_until(lambda: all(one.made for one in asked))
    assert len(kitchen.results) == 2


def test_when_there_are_too_many_one_goes_that_was_not_used(small_kitchen: Kitchen) -> None:
    kitchen = small_kitchen
    route = kitchen.route(lambda n: str(n))
    for target in ("/a", "/b", "/c", "/a", "/c", "/d"):
        kitchen.entry(route, target)
    assert sorted(kitchen.results._kept) == [b"/a", b"/c", b"/d"]
    for target in ("/a", "/d", "/e"):
        kitchen.entry(route, target)
    assert sorted(kitchen.results._kept) == [b"/a", b"/d", b"/e"]
    kitchen.side.turn_until(lambda: kitchen.store.resident == 3)


def test_results_of_a_function_that_is_gone_are_dropped(kitchen: Kitchen) -> None:
    old, other = (kitchen.route(lambda n: str(n)) for _ in range(2))
    kitchen.entry(old, "/old")
    kitchen.entry(other, "/other")
    under_way = kitchen.asked(old, "/under-way")
    kitchen.results.servlets_changed([other])
    assert list(kitchen.results._kept) == [b"/other"]
    kitchen.side.turn_until(lambda: under_way.made)
    assert under_way.answer().content == b"3"
    assert list(kitchen.results._kept) == [b"/other"]
    kitchen.side.turn_until(lambda: kitchen.store.resident == 1)


def test_a_target_that_leads_to_another_function_now_has_another_result(kitchen: Kitchen) -> None:
    one, two = (kitchen.route(lambda n: str(n)) for _ in range(2))
    assert content_of(kitchen.entry(one)) == b"1"
    assert content_of(kitchen.entry(two)) == b"2"
    asked = [kitchen.asked(one), kitchen.asked(two)]
    kitchen.side.turn_until(lambda: all(each.made for each in asked))
    assert asked[0].answer().content == b"3"  # it was not kept
    assert content_of(kitchen.entry(two)) == b"4"
    assert len(kitchen.results) == 1
    kitchen.side.turn_until(lambda: kitchen.store.resident == 1)


def test_files_go_before_results(kitchen: Kitchen) -> None:
    route = kitchen.route(lambda n: str(n))
    for target in ("/a", "/a?q=1", "/%61?q=2", "/b"):
        kitchen.entry(route, target)
    kitchen.side.generation.resources[b"/a"] = Entry(b"/a", b"", 0, None)
    kitchen.results.files_changed([b"/a"])
    assert list(kitchen.results._kept) == [b"/b"]


@pytest.mark.parametrize("what", ["a file comes", "a servlet goes"])
def test_many_results_go_a_few_at_a_time_and_none_is_answered_meanwhile(kitchen: Kitchen, what: str) -> None:
    route, other = (kitchen.route(lambda n: str(n)) for _ in range(2))
    many = 3 * SWEPT_AT_ONCE
    for n in range(many):
        kitchen.entry(route, f"/it?{n}")
    kitchen.entry(other, "/other")
    if what == "a file comes":
        kitchen.side.generation.resources[b"/it"] = Entry(b"/it", b"", 0, None)
        kitchen.results.files_changed([b"/it"])
    else:
        kitchen.results.servlets_changed([other])
    assert len(kitchen.results) == many + 1 - SWEPT_AT_ONCE
    late = f"/it?{many - 1}"
    kept = kitchen.kept(late)
    assert kept is not None
    kept.expire()  # between two pieces: it is not made again
    assert kitchen.kept(late) is None
    if what == "a servlet goes":  # its last result but one is still there, and is no answer
        assert kitchen.kept(f"/it?{many - 2}") is not None
        assert content_of(kitchen.entry(other, f"/it?{many - 2}")) == b"%d" % (many + 2)
    kitchen.side.turn_until(lambda: len(kitchen.results) <= 2)
    assert kitchen.kept("/other") is not None


def test_no_more_than_some_are_considered_to_make_room_for_one(tmp_path: Path) -> None:
    kitchen = Kitchen(tmp_path, servlet_results_max=3 * CONSIDERED_MAX)
    try:
        route = kitchen.route(lambda n: str(n))
        for n in range(3 * CONSIDERED_MAX):
            for _ in range(2):
                kitchen.entry(route, f"/{n}")  # used since it was made
        kitchen.entry(route, "/new")
        assert kitchen.kept(f"/{CONSIDERED_MAX - 1}") is None
        assert len(kitchen.results) == 3 * CONSIDERED_MAX
    finally:
        kitchen.close()


def test_files_are_looked_at_while_there_are_results(kitchen: Kitchen) -> None:
    looking = kitchen.results._looking
    assert looking.due() == float("inf")
    kitchen.entry(kitchen.route(lambda n: str(n)))
    for n in range(1, 3):
        assert looking.due() < float("inf")
        looking.expire()
        assert len(kitchen.looks) == n
    kitchen.expire()
    looking.expire()
    assert looking.due() == float("inf")
    assert len(kitchen.looks) == 2


def test_closed_it_holds_nothing(kitchen: Kitchen) -> None:
    kitchen.entry(kitchen.route(lambda n: str(n)))
    kitchen.results.close()
    assert not len(kitchen.results)
    assert kitchen.store.resident == 0


# --- calls that hang ------------------------------------------------------------------------------------------


class Hanging:
    """A servlet whose first `good` calls return, and the others when they are let go."""

    def __init__(self, kitchen: Kitchen, good: int = 1) -> None:
        self.begun: list[int] = []
        self.go = threading.Event()
        self._good = good
        self.route = kitchen.route(self._make, thread=True)

    def _make(self, n: int) -> str:
        self.begun.append(n)
        if n > self._good:
            assert self.go.wait(20)
        return str(n)


def call_of(kitchen: Kitchen, target: str = "/it") -> Call:
    return kitchen.results._calls[target.encode()]


def give_up(kitchen: Kitchen) -> None:
    """The deadline of the call at hand passes."""
    call = call_of(kitchen)
    assert call.due() < float("inf")
    call.expire()


def status_of(made: Made | None) -> int:
    assert isinstance(made, Answer)
    return made.status


def test_a_result_outlives_a_call_that_hangs(kitchen: Kitchen, caplog: pytest.LogCaptureFixture) -> None:
    hanging = Hanging(kitchen)
    first = kitchen.entry(hanging.route)
    for n in range(STALE_TTLS_MAX):
        assert kitchen.entry(hanging.route) is first
        kept = kitchen.kept()
        assert kept is not None
        kept.expire()
        if n in (1, 3):  # in the middle of a ttl
            kitchen.side.turn_until(lambda n=n: len(hanging.begun) == 2 + n // 2)
            give_up(kitchen)
    assert hanging.begun == [1, 2, 3]  # two hang, and there is no third
    assert kitchen.entry(hanging.route) is first
    assert caplog.text.count("was given up: no result within 30 s") == 2
    hanging.go.set()


def test_a_call_that_hangs_is_given_up_and_no_request_joins_it(kitchen: Kitchen) -> None:
    hanging = Hanging(kitchen, good=0)
    waiting = [kitchen.asked(hanging.route) for _ in range(3)]
    kitchen.side.turn_until(lambda: hanging.begun == [1])
    give_up(kitchen)
    for asked in waiting:
        assert status_of(kitchen.side.turn_until(lambda asked=asked: asked.made)) == 504
    second = kitchen.asked(hanging.route)  # a call of its own: what hung may have recovered
    kitchen.side.turn_until(lambda: hanging.begun == [1, 2])
    give_up(kitchen)
    assert status_of(kitchen.side.turn_until(lambda: second.made)) == 504
    busy = kitchen.asked(hanging.route)
    assert status_of(busy.made) == 503  # at once, and without a third thread
    assert status_of(kitchen.asked(hanging.route).made) == 503
    assert hanging.begun == [1, 2]
    hanging.go.set()
    kitchen.side.turn_until(lambda: not kitchen.results._hung)
    assert content_of(kitchen.entry(hanging.route)) == b"3"


def test_what_a_call_returns_after_its_deadline_is_not_kept(kitchen: Kitchen) -> None:
    hanging = Hanging(kitchen)
    for _ in range(2):
        first = kitchen.entry(hanging.route)
    kept = kitchen.kept()
    assert kept is not None
    kept.expire()
    kitchen.side.turn_until(lambda: hanging.begun == [1, 2])
    give_up(kitchen)
    hanging.go.set()
    kitchen.side.turn_until(lambda: not kitchen.results._hung)
    assert kitchen.entry(hanging.route) is first
    assert content_of(first) == b"1"


def test_no_more_wait_for_one_result_than_may(small_kitchen: Kitchen) -> None:
    hanging = Hanging(small_kitchen, good=0)
    waiting = small_kitchen.asked(hanging.route)
    assert status_of(small_kitchen.asked(hanging.route).made) == 503
    hanging.go.set()
    assert small_kitchen.side.turn_until(lambda: waiting.made)


def test_a_call_that_all_have_left_is_not_begun(tmp_path: Path) -> None:
    kitchen = Kitchen(tmp_path, servlet_threads=1, servlet_queue_max=3)
    hanging = Hanging(kitchen, good=0)
    working = kitchen.asked(hanging.route, "/it?first")
    kitchen.side.turn_until(lambda: hanging.begun)
    queued = [kitchen.asked(hanging.route) for _ in range(3)]
    assert kitchen.side.context.pool.waiting == 1
    for asked in queued[:2]:
        asked.exchange.abandon()
    assert kitchen.side.context.pool.waiting == 1
    queued[2].exchange.abandon()
    assert kitchen.side.context.pool.waiting == 0
    assert list(kitchen.results._calls) == [b"/it?first"]
    again = kitchen.asked(hanging.route)
    hanging.go.set()
    for asked in (working, again):
        assert isinstance(kitchen.side.turn_until(lambda asked=asked: asked.made), Stored)
    assert hanging.begun == [1, 2]
    assert all(asked.made is None for asked in queued)
    kitchen.close()


def test_a_call_that_has_begun_goes_on_when_all_have_left(kitchen: Kitchen) -> None:
    hanging = Hanging(kitchen, good=0)
    left = kitchen.asked(hanging.route)
    kitchen.side.turn_until(lambda: hanging.begun)
    left.exchange.abandon()
    joins = kitchen.asked(hanging.route)
    hanging.go.set()
    assert isinstance(kitchen.side.turn_until(lambda: joins.made), Stored)
    assert hanging.begun == [1]


def test_a_deadline_that_passes_while_a_result_is_made_resident_lets_go_of_it(kitchen: Kitchen) -> None:
    route = kitchen.route(lambda n: str(n))
    asked = kitchen.asked(route)  # called at once; a thread of the loader has it now
    give_up(kitchen)
    assert status_of(kitchen.side.turn_until(lambda: asked.made)) == 504
    kitchen.side.turn_until(lambda: not kitchen.fetcher.waiting and not kitchen.store.resident)
    assert kitchen.kept() is None


def test_a_call_that_no_thread_has_begun_by_its_deadline_does_not_hang(small_kitchen: Kitchen) -> None:
    hanging = Hanging(small_kitchen, good=0)
    small_kitchen.asked(hanging.route, "/it?first")
    small_kitchen.side.turn_until(lambda: hanging.begun)
    for _ in range(3):  # more often than calls may hang
        asked = small_kitchen.asked(hanging.route)
        give_up(small_kitchen)
        assert status_of(small_kitchen.side.turn_until(lambda asked=asked: asked.made)) == 504
    hanging.go.set()
