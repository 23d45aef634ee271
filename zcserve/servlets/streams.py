"""Iterators as streams: the next piece is asked for when the one before is out.

An iterator runs where its servlet runs: in the loop, in a thread of the pool, or in the asyncio thread. It belongs to
one thread at a time, and is closed when its response ends, however that was, but never while it works. What it raises
is told to `failed`, in the loop's thread, and cuts the response short: the head is out.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeAlias

from zcserve.servlets.workers import AsyncThread, BusyError, Pool
from zcserve.site.reply import Give, Piece, Stream

Failed: TypeAlias = Callable[[BaseException], object]
CallSoon: TypeAlias = Callable[[Callable[[], object]], None]
Again: TypeAlias = Callable[[int, Callable[[], object]], None]  # as `Context.again`

# An iterator may give an empty piece: it has nothing to say yet. So many in a row are taken in one step, which costs
# some microseconds; then others have their turn.
EMPTY_MAX = 64
# After so many such steps (a template that is mostly empty never gets there) it is asked less often, so that one that
# never says anything does not keep a processor busy for as long as its client stays.
SILENT_TURNS_MAX = 64
SILENT_PAUSE_S = 0.05

# A step that is being cancelled takes a few turns of the asyncio loop to be gone.
CLOSE_TRIES = 100


def piece_of(value: object) -> bytes | memoryview:
    """What a servlet's iterator gave, as bytes. Raises TypeError."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, memoryview):  # whose len counts items, and which need not lie in one piece
        return value if value.ndim == 1 and value.itemsize == 1 and value.c_contiguous else bytes(value)
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytearray):
        return bytes(value)
    raise TypeError(f"a piece of content must be bytes or str, not {type(value).__name__}")


def next_piece(iterator: Iterator[object], is_over: Callable[[], bool] = lambda: False) -> Piece | None:
    """The next piece that is not empty; b"" at the end, or when it `is_over`; None when too many were empty: the
    iterator has nothing to say yet, and others get a turn. Raises what the iterator raises, and TypeError."""
    for _ in range(EMPTY_MAX):
        try:
            value = next(iterator)
        except StopIteration:
            return b""
        if piece := piece_of(value):
            return piece
        if is_over():
            return b""
    return None


async def next_piece_async(iterator: AsyncIterator[object]) -> Piece:
    """The next piece that is not empty; b"" at the end. Between empty ones it lets others go on, and itself be
    cancelled. Raises what the iterator raises, and TypeError."""
    empty = 0
    async for value in iterator:
        if piece := piece_of(value):
            return piece
        empty += 1
        await let_others_go_on(empty)
    return b""


async def let_others_go_on(empty: int) -> None:
    """So many pieces in a row were empty, in the asyncio thread."""
    if empty % EMPTY_MAX == 0:
        await asyncio.sleep(0 if empty < EMPTY_MAX * SILENT_TURNS_MAX else SILENT_PAUSE_S)


class Begun:
    """A stream of which one piece, or the end, has come already, before anything was promised."""

    def __init__(self, first: Piece, rest: Stream) -> None:
        self._first: Piece | None = first
        self._rest = rest

    def pull(self, give: Give) -> None:
        """As `Stream.pull`."""
        first, self._first = self._first, None
        if first is not None:
            give(first)
        else:
            self._rest.pull(give)

    def close(self) -> None:
        """As `Stream.close`."""
        self._rest.close()


class LoopStream:
    """An iterator that runs in the loop's thread, and must not wait. `guard` calls a step, and watches its time."""

    def __init__(
        self, iterator: Iterator[object], guard: Callable[[Callable[[], Any]], Any], again: Again, failed: Failed
    ) -> None:
        self._iterator = iterator
        self._guard = guard
        self._again = again
        self._failed = failed
        self._give: Give | None = None  # where the next piece goes
        self._silent = 0

    def pull(self, give: Give) -> None:
        """As `Stream.pull`."""
        self._give = give
        self._silent = 0
        self._step()

    def _step(self) -> None:
        if self._give is None:
            return  # it was closed meanwhile
        piece: Piece | None = None
        try:
            piece = self._guard(partial(next_piece, self._iterator))
        except BaseException as error:
            self._failed(error)
        else:
            if piece is None:
                self._silent += 1
                self._again(self._silent, self._step)
                return
        give, self._give = self._give, None
        give(piece)

    def close(self) -> None:
        """As `Stream.close`."""
        self._give = None
        try:
            self._guard(partial(close_iterator, self._iterator))
        except BaseException as error:
            self._failed(error)


class PoolStream:
    """An iterator that runs in threads of the pool, a piece at a time."""

    def __init__(
        self, iterator: Iterator[object], pool: Pool, call_soon: CallSoon, again: Again, failed: Failed
    ) -> None:
        self._iterator = iterator
        self._pool = pool
        self._call_soon = call_soon
        self._again = again
        self._failed = failed
        self._give: Give | None = None  # where the next piece goes
        self._silent = 0
        self._working = False
        self._closing = False

    def pull(self, give: Give) -> None:
        """As `Stream.pull`."""
        self._give = give
        self._silent = 0
        self._submit()

    def _submit(self) -> None:
        if self._closing:
            return
        self._working = True
        try:
            self._pool.submit(self._step, begun=True)
        except BusyError as error:
            self._stepped(error)

    def _step(self) -> None:
        # No variable holds what was raised: a traceback refers to its frame and to all that have called it.
        self._call_soon(partial(self._stepped, self._next()))

    def _next(self) -> Piece | BaseException | None:
        try:
            return next_piece(self._iterator, lambda: self._closing)
        except BaseException as error:
            return error

    def _stepped(self, outcome: Piece | BaseException | None) -> None:
        self._working = False
        if isinstance(outcome, BaseException):
            self._failed(outcome)
        if self._closing:
            self._close_in_pool()
        elif outcome is None:
            self._silent += 1
            self._again(self._silent, self._submit)
        elif self._give is not None:
            give, self._give = self._give, None
            give(None if isinstance(outcome, BaseException) else outcome)

    def close(self) -> None:
        """As `Stream.close`."""
        self._closing = True
        self._give = None
        if self._pool.withdraw(self._step):
            self._working = False
        if not self._working:
            self._close_in_pool()

    def _close_in_pool(self) -> None:
        try:
            self._pool.submit(self._close_now, begun=True)
        except BusyError:
            self._close_now()  # the server ends

    def _close_now(self) -> None:
        try:
            close_iterator(self._iterator)
        except BaseException as error:
            self._call_soon(partial(self._failed, error))


class AsyncStream:
    """An asynchronous iterator that runs in the asyncio thread. It is one of those `under_way` until it is closed."""

    def __init__(
        self,
        iterator: AsyncIterator[object],
        tasks: AsyncThread,
        call_soon: CallSoon,
        failed: Failed,
        under_way: set[object],
    ) -> None:
        self._iterator = iterator
        self._tasks = tasks
        self._call_soon = call_soon
        self._failed = failed
        self._under_way = under_way
        under_way.add(self)
        self._give: Give | None = None  # where the next piece goes
        self._step: Future[Piece] | None = None

    def pull(self, give: Give) -> None:
        """As `Stream.pull`."""
        self._give = give
        self._step = self._tasks.start(next_piece_async(self._iterator))
        self._step.add_done_callback(lambda step: self._call_soon(partial(self._stepped, step)))

    def _stepped(self, step: Future[Piece]) -> None:
        self._step = None
        piece: Piece | None = None
        if not step.cancelled():
            if (raised := step.exception()) is not None:
                self._failed(raised)
            else:
                piece = step.result()
        give, self._give = self._give, None
        if give is not None:
            give(piece)

    def close(self) -> None:
        """As `Stream.close`."""
        self._give = None
        if self._step is not None:
            self._step.cancel()
        if hasattr(self._iterator, "aclose"):
            self._tasks.start(self._close())
        else:
            self._under_way.discard(self)

    async def _close(self) -> None:
        try:
            await self._close_iterator()
        finally:
            self._under_way.discard(self)

    async def _close_iterator(self) -> None:
        for _ in range(CLOSE_TRIES):
            try:
                await self._iterator.aclose()  # type: ignore[attr-defined]
            except asyncio.CancelledError:
                raise
            except BaseException as error:  # SystemExit, too: it would end the loop of all
                if not isinstance(error, RuntimeError) or not getattr(self._iterator, "ag_running", False):
                    self._call_soon(partial(self._failed, error))
                    return
                await asyncio.sleep(0)  # the step is being cancelled just now
            else:
                return


def close_iterator(iterator: Iterator[object]) -> None:
    """End an iterator that has a way to be told so, as generators have. Raises what it does then."""
    close = getattr(iterator, "close", None)
    if close is not None:
        close()
