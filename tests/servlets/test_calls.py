"""zcserve.servlets.calls: a servlet is called where it belongs, and what comes of it is told in the loop's thread."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import itertools
import threading
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest

from tests.support.connection_side import Got, Side
from zcserve.errors import HttpError
from zcserve.net.front import Front
from zcserve.servlets.calls import Caller, FileAsked, Outcome, Started
from zcserve.servlets.guard import LoopGuard
from zcserve.servlets.request import Request
from zcserve.servlets.response import Response
from zcserve.servlets.routes import Route
from zcserve.servlets.streams import EMPTY_MAX
from zcserve.servlets.workers import BusyError, Pool
from zcserve.site.exchange import HeadLines
from zcserve.site.reply import HTML_FIELDS, Reply

WITHIN_S = 20.0
SLOW_S = 0.05
LOOP, POOL, TASKS = "loop", "pool", "tasks"
PLACES = (LOOP, POOL, TASKS)
WHERE = "servlets/x.py:1"


class Calls:
    """Calls of servlets with one thread and a queue of one, and what is heard of them."""

    def __init__(self, root: Path) -> None:
        self.side = Side(root, servlet_threads=1, servlet_queue_max=1)
        self.guard = LoopGuard(SLOW_S, Front())
        self.caller = Caller(self.side.context, self.guard)
        self.outcomes: list[Outcome] = []
        self.failures: list[BaseException] = []
        self.go = threading.Event()
        self.busy = threading.Event()

    def call(self, place: str, function: Callable[..., Any], **params: str) -> Started | None:
        """Call a servlet there. One for the asyncio thread is made of a plain function, unless it is asynchronous."""

        async def asynchronous(request: Request, **params: str) -> Any:
            value = function(request, **params)
            return await value if isinstance(value, Awaitable) else value

        called = asynchronous if place == TASKS else function
        route = Route(called, "x", frozenset(("GET",)), "/x", None, place == POOL, place == TASKS, WHERE)
        return self.call_route(route, **params)

    def call_route(self, route: Route, **params: str) -> Started | None:
        """Call the servlet of a route."""
        request = Request(b"GET", b"/x", HeadLines(b"HTTP/1.1"), "", b"", params)
        return self.caller.call(route, request, self._failed, self._done)

    def _failed(self, error: BaseException) -> None:
        assert threading.current_thread() is self.side.thread
        self.failures.append(error)

    def _done(self, outcome: Outcome) -> None:
        assert threading.current_thread() is self.side.thread
        self.outcomes.append(outcome)

    def outcome(self) -> Outcome:
        """The one that came, when it is there."""
        self.side.turn_until(lambda: self.outcomes)
        (outcome,) = self.outcomes
        return outcome

    def reply(self) -> Reply:
        outcome = self.outcome()
        assert isinstance(outcome, Reply), repr(outcome)
        return outcome

    def read(self) -> Got:
        """The whole answer, as a client gets it."""
        asked = self.side.exchange()
        asked.take(self.reply())
        return asked.read()

    def occupy(self) -> None:
        """Have the only thread work until `go` is set."""

        def wait() -> None:
            self.busy.set()
            assert self.go.wait(WITHIN_S)

        self.side.context.pool.submit(wait)
        assert self.busy.wait(WITHIN_S)

    def close(self) -> None:
        self.go.set()
        self.guard.close()
        self.side.close()


@pytest.fixture
def calls(tmp_path: Path) -> Iterator[Calls]:
    calls = Calls(tmp_path)
    yield calls
    calls.close()


async def one_by_one(values: Iterator[Any]) -> AsyncIterator[Any]:
    for value in values:
        yield value


# --- where a servlet runs ---------------------------------------------------------------------------------------


def test_in_the_loop_the_outcome_is_there_before_the_call_returns(calls: Calls) -> None:
    threads: list[threading.Thread] = []
    assert calls.call(LOOP, lambda request: threads.append(threading.current_thread()) or b"said") is None
    assert len(calls.outcomes) == 1
    assert threads == [calls.side.thread]


@pytest.mark.parametrize("place", [POOL, TASKS])
def test_elsewhere_the_outcome_comes_to_the_loop_later(calls: Calls, place: str) -> None:
    threads: list[threading.Thread] = []

    def function(request: Request) -> bytes:
        threads.append(threading.current_thread())
        return b"said"

    assert calls.call(place, function) is not None
    calls.side.turn_until(lambda: not calls.side.calls.empty() or calls.outcomes)
    assert calls.reply().content == b"said"
    (thread,) = threads
    assert thread.name == {POOL: "zcserve-servlet-1", TASKS: "zcserve-async"}[place]


def test_a_coroutine_has_an_event_loop_to_wait_in(calls: Calls) -> None:
    async def function(request: Request) -> str:
        await asyncio.sleep(0)
        return "waited"

    calls.call(TASKS, function)
    assert calls.reply().content == b"waited"


@pytest.mark.parametrize("place", PLACES)
def test_a_servlet_gets_the_request_and_the_parameters_of_its_path(calls: Calls, place: str) -> None:
    calls.call(place, lambda request, name, rest: f"{request.path} {name} {rest}", name="a", rest="b/c")
    assert calls.reply().content == b"/x a b/c"


def test_a_servlet_that_holds_the_loop_is_named_by_its_place_and_so_is_its_iterator(
    calls: Calls, caplog: pytest.LogCaptureFixture
) -> None:
    def hold(times: int) -> None:
        told = threading.Event()

        def look() -> None:
            while sum(WHERE in message for message in caplog.messages) < times and not told.wait(0.005):
                pass
            told.set()

        threading.Thread(target=look).start()
        assert told.wait(WITHIN_S)

    def function(request: Request) -> Iterator[bytes]:
        hold(1)

        def pieces() -> Iterator[bytes]:
            yield b"first"
            hold(2)
            yield b"second"

        return pieces()

    calls.guard.begin()
    calls.call(LOOP, function)
    assert calls.read().content == b"firstsecond"
    assert sum(message.startswith(f"{WHERE} has held the loop") for message in caplog.messages) == 2


# --- what comes of it -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("value", "status", "content"),
    [
        (b"bytes", 200, b"bytes"),
        ("text", 200, b"text"),
        ({"a": 1}, 200, b'{"a":1}'),
        (Response("made", 201), 201, b"made"),
        (Response(status=204), 204, b""),
    ],
)
def test_what_is_complete_is_an_answer(calls: Calls, place: str, value: Any, status: int, content: bytes) -> None:
    calls.call(place, lambda request: value)
    reply = calls.reply()
    assert (reply.status, reply.content) == (status, content)


@pytest.mark.parametrize("place", PLACES)
def test_a_file_that_is_to_be_sent_is_named_with_status_and_fields(calls: Calls, place: str) -> None:
    calls.call(place, lambda request: Response(status=202, headers={"X-A": "b"}).send_file("/big.iso"))
    assert calls.outcome() == FileAsked("/big.iso", 202, ((b"X-A", b"b"),))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("error", [KeyError("k"), HttpError(404), SystemExit(1), KeyboardInterrupt()])
def test_what_is_raised_is_the_outcome_and_the_thread_goes_on(calls: Calls, place: str, error: BaseException) -> None:
    def function(request: Request) -> bytes:
        raise error

    calls.call(place, function)
    assert calls.outcome() is error
    calls.outcomes.clear()
    calls.call(place, lambda request: b"next")
    assert calls.reply().content == b"next"


def test_a_coroutine_that_raises_a_cancellation_of_its_own_has_it_as_its_outcome(calls: Calls) -> None:
    async def function(request: Request) -> bytes:
        raise asyncio.CancelledError

    calls.call(TASKS, function)
    assert isinstance(calls.outcome(), CancelledError)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("value", [None, 5, {"a": {1}}])
def test_what_is_no_content_is_a_type_error(calls: Calls, place: str, value: object) -> None:
    calls.call(place, lambda request: value)
    assert isinstance(calls.outcome(), TypeError)


def test_a_servlet_that_is_told_to_be_asynchronous_and_is_not_is_called_all_the_same(calls: Calls) -> None:
    calls.call_route(Route(lambda request: b"plain", "x", frozenset(("GET",)), "/x", None, False, True, WHERE))
    assert calls.reply().content == b"plain"


@pytest.mark.parametrize("place", [LOOP, POOL])
def test_what_a_servlet_held_is_freed_with_its_failure_and_waits_for_no_collector(calls: Calls, place: str) -> None:
    class Held:
        """What a variable of the servlet holds."""

    held: list[weakref.ref[Held]] = []

    def function(request: Request) -> bytes:
        own = Held()
        held.append(weakref.ref(own))
        raise KeyError

    gc.disable()
    try:
        calls.call(place, function)
        calls.outcome()
        assert held[0]() is not None
        calls.outcomes.clear()
        calls.side.turn_until(lambda: held[0]() is None)
    finally:
        gc.enable()


# --- iterators --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", PLACES)
def test_an_iterator_is_read_to_its_end_and_closed(calls: Calls, place: str) -> None:
    closed = threading.Event()

    def pieces() -> Iterator[Any]:
        try:
            yield from (b"", b"one ", "", "two ", bytearray(b"three"))
        finally:
            closed.set()

    calls.call(place, lambda request: pieces())
    got = calls.read()
    assert (got.status, got.content, got.whole) == (200, b"one two three", True)
    assert got.fields == HTML_FIELDS
    calls.side.turn_until(closed.is_set)
    assert calls.failures == []


class Endless:
    """An iterator without an end, which notes the threads that it is asked in, and that it is closed in."""

    def __init__(self) -> None:
        self.asked_in: set[str] = set()
        self.closed_in: list[str] = []

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        self.asked_in.add(threading.current_thread().name)
        return b"piece"

    def close(self) -> None:
        self.closed_in.append(threading.current_thread().name)


@pytest.mark.parametrize("place", PLACES)
def test_an_iterator_is_asked_and_closed_where_its_servlet_runs(calls: Calls, place: str) -> None:
    endless = Endless()
    calls.call(place, lambda request: endless)
    asked = calls.side.exchange()
    asked.take(calls.reply())
    assert [asked.pull() for _ in range(3)] == [b"piece"] * 3
    asked.answer().discard()
    calls.side.turn_until(lambda: endless.closed_in)
    name = {LOOP: calls.side.thread.name, POOL: "zcserve-servlet-1", TASKS: "zcserve-async"}[place]
    assert endless.asked_in == {name}
    assert endless.closed_in == [name]


@pytest.mark.parametrize("place", PLACES)
def test_an_iterator_without_any_piece_is_an_empty_answer(calls: Calls, place: str) -> None:
    calls.call(place, lambda request: iter(()))
    got = calls.read()
    assert (got.status, got.content, got.whole) == (200, b"", True)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("error", [KeyError("at once"), HttpError(404), SystemExit(1)])
def test_a_failure_before_the_first_piece_is_the_outcome(calls: Calls, place: str, error: BaseException) -> None:
    calls.call(place, lambda request: raising(error))
    assert calls.outcome() is error
    assert calls.failures == []


@pytest.mark.parametrize("place", PLACES)
def test_a_first_piece_that_is_no_content_is_the_outcome(calls: Calls, place: str) -> None:
    calls.call(place, lambda request: iter([5]))
    assert isinstance(calls.outcome(), TypeError)


@pytest.mark.parametrize("place", PLACES)
def test_a_failure_behind_the_first_piece_is_told_and_cuts_the_answer_short(calls: Calls, place: str) -> None:
    error = KeyError("too late")

    def pieces() -> Iterator[bytes]:
        yield b"first"
        raise error

    calls.call(place, lambda request: pieces())
    got = calls.read()
    assert (got.content, got.whole) == (b"first", False)
    assert calls.failures == [error]


@pytest.mark.parametrize("place", [LOOP, POOL])
def test_behind_very_many_empty_pieces_the_head_is_promised_and_the_rest_is_a_stream(calls: Calls, place: str) -> None:
    asked: list[int] = []

    def pieces() -> Iterator[bytes]:
        for number in range(EMPTY_MAX):
            asked.append(number)
            yield b""
        raise KeyError("behind them")

    calls.call(place, lambda request: pieces())
    assert calls.reply().is_stream
    assert len(asked) == EMPTY_MAX
    assert calls.failures == []
    got = calls.read()
    assert (got.content, got.whole) == (b"", False)
    assert len(calls.failures) == 1


@pytest.mark.parametrize("place", PLACES)
def test_an_asynchronous_iterator_runs_in_the_asyncio_thread_whatever_returned_it(calls: Calls, place: str) -> None:
    threads: list[str] = []

    async def pieces() -> AsyncIterator[str]:
        for piece in ("one ", "", "two"):
            threads.append(threading.current_thread().name)
            await asyncio.sleep(0)
            yield piece

    calls.call(place, lambda request: pieces())
    got = calls.read()
    assert (got.content, got.whole) == (b"one two", True)
    assert set(threads) == {"zcserve-async"}


def raising(error: BaseException) -> Iterator[bytes]:
    yield b""
    raise error


async def failing() -> AsyncIterator[bytes]:
    yield b""
    raise KeyError("at once")


@pytest.mark.parametrize("place", [LOOP, POOL])
def test_an_asynchronous_iterator_is_not_waited_for_elsewhere_so_its_failure_cuts_the_answer_short(
    calls: Calls, place: str
) -> None:
    calls.call(place, lambda request: Response(failing(), 203))
    reply = calls.reply()
    assert (reply.status, reply.is_stream) == (203, True)
    assert calls.failures == []
    got = calls.read()
    assert (got.content, got.whole) == (b"", False)
    assert isinstance(calls.failures[0], KeyError)


@pytest.mark.parametrize("is_generator", [False, True])
def test_an_asynchronous_iterator_of_a_coroutine_that_fails_at_once_is_an_outcome(
    calls: Calls, is_generator: bool
) -> None:
    def generator(request: Request) -> AsyncIterator[bytes]:
        return failing()

    async def coroutine(request: Request) -> AsyncIterator[bytes]:
        return failing()

    function: Callable[..., Any] = generator if is_generator else coroutine
    calls.call_route(Route(function, "x", frozenset(("GET",)), "/x", None, False, True, WHERE))
    assert isinstance(calls.outcome(), KeyError)
    assert calls.failures == []


def test_the_outcome_of_a_value_may_be_had_without_a_call(calls: Calls) -> None:
    def of(value: object) -> Reply | FileAsked:
        return calls.caller.outcome(WHERE, value, calls.failures.append)

    reply = of("text")
    assert isinstance(reply, Reply)
    assert reply.content == b"text"
    assert of(Response().send_file("/a")) == FileAsked("/a", 200, ())
    stream = of(iter([b"a"]))
    assert isinstance(stream, Reply)
    assert stream.is_stream
    with pytest.raises(KeyError):
        of(raising(KeyError()))
    with pytest.raises(TypeError):
        of(5)


# --- too many, and not wanted any more --------------------------------------------------------------------------


def test_where_no_thread_is_free_and_the_queue_is_full_it_is_an_error_and_no_outcome(calls: Calls) -> None:
    calls.occupy()
    calls.call(POOL, lambda request: b"queued")
    with pytest.raises(BusyError):
        calls.call(POOL, lambda request: b"refused")
    calls.go.set()
    assert calls.reply().content == b"queued"


def test_a_call_that_no_thread_has_taken_may_be_withdrawn_and_its_outcome_never_comes(calls: Calls) -> None:
    called: list[str] = []
    calls.occupy()
    started = calls.call(POOL, lambda request: called.append("withdrawn") or b"")
    assert started is not None
    assert started.withdraw()
    assert not started.withdraw()
    started = calls.call(POOL, lambda request: called.append("cancelled") or b"")  # there is a place again
    assert started is not None
    started.cancel()
    started.cancel()
    assert not calls.side.context.pool.waiting
    calls.go.set()
    calls.side.finish_jobs()
    assert called == []
    assert calls.outcomes == []


class Taking(Pool):
    """A pool whose thread has taken each job, and comes to it when the test does."""

    def __init__(self) -> None:
        super().__init__(1, 1)
        self.jobs: list[Callable[[], None]] = []

    def submit(self, job: Callable[[], None], *, begun: bool = False) -> None:
        self.jobs.append(job)

    def withdraw(self, job: Callable[[], None]) -> bool:
        return False


def test_a_call_that_a_thread_has_taken_and_not_begun_when_it_is_cancelled_is_not_made(calls: Calls) -> None:
    called: list[str] = []
    pool = Taking()
    calls.caller = Caller(dataclasses.replace(calls.side.context, pool=pool), calls.guard)
    started = calls.call(POOL, lambda request: called.append("cancelled") or b"")
    assert started is not None
    assert not started.withdraw()
    started.cancel()
    (job,) = pool.jobs
    job()
    assert isinstance(calls.outcome(), CancelledError)
    assert called == []


def test_a_call_that_has_begun_is_not_withdrawn_and_comes_to_its_end_when_it_is_cancelled(calls: Calls) -> None:
    def function(request: Request) -> bytes:
        calls.busy.set()
        assert calls.go.wait(WITHIN_S)
        return b"late"

    started = calls.call(POOL, function)
    assert started is not None
    assert calls.busy.wait(WITHIN_S)
    assert not started.withdraw()
    started.cancel()
    calls.go.set()
    assert calls.reply().content == b"late"


def test_a_call_that_is_cancelled_is_not_waited_for_until_its_iterator_says_something(calls: Calls) -> None:
    def pieces() -> Iterator[bytes]:
        for number in itertools.count():
            if number == 2:
                calls.busy.set()
                assert calls.go.wait(WITHIN_S)
            asked.append(number)
            yield b""

    asked: list[int] = []
    started = calls.call(POOL, lambda request: pieces())
    assert started is not None
    assert calls.busy.wait(WITHIN_S)
    started.cancel()
    calls.go.set()
    got = calls.read()
    assert (got.content, got.whole) == (b"", True)
    assert asked == [0, 1, 2]


def test_a_coroutine_is_cancelled_where_it_waits(calls: Calls) -> None:
    async def function(request: Request) -> bytes:
        calls.busy.set()
        await asyncio.Event().wait()
        return b"never"

    started = calls.call(TASKS, function)
    assert started is not None
    assert calls.busy.wait(WITHIN_S)
    assert not started.withdraw()
    started.cancel()
    assert isinstance(calls.outcome(), CancelledError)
    assert calls.side.context.tasks.start(asyncio.sleep(0, "goes on")).result(WITHIN_S) == "goes on"
