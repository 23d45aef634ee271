"""Iterators as streams: in the loop, in the pool, on the asyncio thread."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.connection_side import Side
from tests.support.waiting import WaitUntil
from zcserve.servlets.streams import (
    EMPTY_MAX,
    SILENT_PAUSE_S,
    AsyncStream,
    Begun,
    LoopStream,
    PoolStream,
    piece_of,
)
from zcserve.servlets.workers import Pool
from zcserve.site.reply import Piece, Stream

Make = Callable[..., Stream]


async def asynchronously(values: Iterator[Any]) -> AsyncIterator[Any]:
    try:
        for value in values:
            await asyncio.sleep(0)
            yield value
    finally:
        if hasattr(values, "close"):
            values.close()


@pytest.fixture
def side(tmp_path: Path) -> Iterator[Side]:
    side = Side(tmp_path)
    yield side
    side.context.pool.close()
    side.context.tasks.close()


@pytest.fixture
def failures() -> list[BaseException]:
    return []


@pytest.fixture(params=["loop", "pool", "async"])
def make(request: pytest.FixtureRequest, side: Side, failures: list[BaseException]) -> Make:
    """A stream of an iterator, for each place."""
    context = side.context

    def make(values: Iterator[Any]) -> Stream:
        if request.param == "loop":
            return LoopStream(values, lambda step: step(), context.again, failures.append)
        if request.param == "pool":
            return PoolStream(values, context.pool, context.call_soon, context.again, failures.append)
        return AsyncStream(asynchronously(values), context.tasks, context.call_soon, failures.append, context.under_way)

    return make


def pulled(side: Side, stream: Stream) -> Piece | None:
    given: list[Piece | None] = []
    stream.pull(given.append)
    side.turn_until(lambda: given)
    assert len(given) == 1
    return given[0]


def test_pieces_come_in_order_and_empty_ones_not_at_all(side: Side, make: Make) -> None:
    stream = make(iter([b"a", "", "é", b"", bytearray(b"b"), memoryview(b"c")]))
    assert [pulled(side, stream) for _ in range(5)] == [b"a", "é".encode(), b"b", b"c", b""]


def test_nothing_is_asked_for_before_it_is_wanted(side: Side, make: Make) -> None:
    asked: list[int] = []

    def count() -> Iterator[bytes]:
        for number in range(10):
            asked.append(number)
            yield b"x"

    stream = make(count())
    assert asked == []
    pulled(side, stream)
    assert asked == [0]
    pulled(side, stream)
    assert asked == [0, 1]


def test_what_is_raised_is_told_and_ends_the_stream(side: Side, make: Make, failures: list[BaseException]) -> None:
    def fail() -> Iterator[bytes]:
        yield b"a"
        raise KeyError("gone")

    stream = make(fail())
    assert pulled(side, stream) == b"a"
    assert pulled(side, stream) is None
    assert [type(error) for error in failures] == [KeyError]


@pytest.mark.parametrize("value", [5, None, ["a"], object()])
def test_a_piece_that_is_no_bytes_is_a_failure(
    side: Side, make: Make, failures: list[BaseException], value: object
) -> None:
    assert pulled(side, make(iter([value]))) is None
    assert [type(error) for error in failures] == [TypeError]


def test_a_generator_is_closed_where_it_stands(side: Side, make: Make) -> None:
    closed = threading.Event()

    def endless() -> Iterator[bytes]:
        try:
            while True:
                yield b"x"
        finally:
            closed.set()

    stream = make(endless())
    pulled(side, stream)
    stream.close()
    side.turn_until(closed.is_set)


def test_what_closing_raises_is_told(side: Side, make: Make, failures: list[BaseException]) -> None:
    def stubborn() -> Iterator[bytes]:
        try:
            while True:
                yield b"x"
        finally:
            raise OSError("closed badly")

    stream = make(stubborn())
    pulled(side, stream)
    stream.close()
    side.turn_until(lambda: failures)
    assert isinstance(failures[0], OSError)


class Closing:
    """An asynchronous iterator that fails when it is closed."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        return b"piece"

    async def aclose(self) -> None:
        raise self._error


async def failing_generator(error: BaseException) -> AsyncIterator[bytes]:
    try:
        while True:
            yield b"piece"
    finally:
        raise error


@pytest.mark.parametrize("made", [Closing, failing_generator])
@pytest.mark.parametrize("error", [ValueError("v"), RuntimeError("not: is running already"), SystemExit(1)])
def test_what_closing_an_asynchronous_iterator_raises_is_told_once(
    side: Side, failures: list[BaseException], made: Any, error: BaseException
) -> None:
    given: list[object] = []
    context = side.context
    stream = AsyncStream(made(error), context.tasks, context.call_soon, failures.append, context.under_way)
    stream.pull(given.append)
    side.turn_until(lambda: given)
    stream.close()
    side.turn_until(lambda: failures)
    assert failures == [error]
    assert side.context.tasks.start(asyncio.sleep(0, "goes on")).result(20) == "goes on"


def test_an_iterator_is_not_closed_while_it_works(side: Side, failures: list[BaseException]) -> None:
    began, go, closed = threading.Event(), threading.Event(), threading.Event()

    def slow() -> Iterator[bytes]:
        try:
            began.set()
            assert go.wait(20)
            yield b"late"
        finally:
            closed.set()

    context = side.context
    stream = PoolStream(slow(), context.pool, context.call_soon, context.again, failures.append)
    given: list[Piece | None] = []
    stream.pull(given.append)
    assert began.wait(20)
    stream.close()
    assert not closed.is_set()
    go.set()
    side.turn_until(closed.is_set)
    assert given == []
    assert failures == []


def test_a_coroutine_that_waits_is_cancelled_by_closing(side: Side, failures: list[BaseException]) -> None:
    began, ended = threading.Event(), threading.Event()

    async def waiting() -> AsyncIterator[bytes]:
        try:
            began.set()
            await asyncio.Event().wait()
            yield b"never"
        finally:
            ended.set()

    context = side.context
    stream = AsyncStream(waiting(), context.tasks, context.call_soon, failures.append, context.under_way)
    stream.pull(lambda piece: None)
    assert began.wait(20)
    stream.close()
    side.turn_until(ended.is_set)
    assert failures == []


def test_what_has_begun_gives_its_first_piece_and_then_the_rest(side: Side, make: Make) -> None:
    stream = Begun(b"first", make(iter([b"second"])))
    assert [pulled(side, stream) for _ in range(3)] == [b"first", b"second", b""]
    assert pulled(side, Begun(b"", make(iter([b"not asked"])))) == b""


@pytest.mark.parametrize(("value", "piece"), [(b"a", b"a"), ("é", b"\xc3\xa9"), (bytearray(b"b"), b"b")])
def test_values_become_bytes(value: object, piece: bytes) -> None:
    assert piece_of(value) == piece


# --- iterators that have nothing to say -----------------------------------------------------------------------


def test_many_empty_pieces_are_no_piece_and_others_have_their_turn(side: Side, make: Make) -> None:
    turns: list[int] = []

    def mostly_empty() -> Iterator[bytes]:
        for _ in range(20 * EMPTY_MAX):
            yield b""
        turns.append(len(turns))
        yield b"at last"

    stream = make(mostly_empty())
    given: list[Piece | None] = []
    stream.pull(given.append)
    assert given == []  # the loop's thread has come back before the end
    side.turn_until(lambda: given)
    assert given == [b"at last"]
    assert pulled(side, stream) == b""


def test_an_iterator_that_never_says_anything_is_closed_when_no_client_waits(
    side: Side, make: Make, failures: list[BaseException], wait_until: WaitUntil
) -> None:
    closed = threading.Event()
    steps = 0

    def silent() -> Iterator[bytes]:
        nonlocal steps
        try:
            while True:
                steps += 1
                yield b""
        finally:
            closed.set()

    stream = make(silent())
    given: list[Piece | None] = []
    stream.pull(given.append)
    side.turn_until(lambda: steps > 3 * EMPTY_MAX)
    stream.close()
    side.turn_until(closed.is_set)
    assert given == []
    assert failures == []
    if isinstance(stream, PoolStream):
        wait_until(lambda: not side.context.pool.waiting)


def test_an_iterator_that_never_says_anything_is_asked_less_often(side: Side) -> None:
    later: list[float] = []
    context = dataclasses.replace(side.context, call_later=lambda seconds, call: later.append(seconds))
    stream = LoopStream(itertools.repeat(b""), lambda step: step(), context.again, lambda error: None)
    stream.pull(lambda piece: None)
    side.turn_until(lambda: later)
    assert later == [SILENT_PAUSE_S]
    assert side.calls.empty()
    stream.close()


def test_a_step_that_no_thread_has_taken_is_taken_back(side: Side, failures: list[BaseException]) -> None:
    context, closed, go = side.context, threading.Event(), threading.Event()
    pool = Pool(1, 1)

    def hold() -> None:
        go.wait(20)

    pool.submit(hold)

    def pieces() -> Iterator[bytes]:
        try:
            yield b"first"
            yield b"not asked for"
        finally:
            closed.set()

    iterator = pieces()
    next(iterator)
    stream = PoolStream(iterator, pool, context.call_soon, context.again, failures.append)
    stream.pull(lambda piece: None)
    stream.close()
    go.set()
    side.turn_until(closed.is_set)
    assert failures == []
    pool.close()
