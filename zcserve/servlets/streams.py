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

from zcserve.net.exchange import Give, Piece, Stream
from zcserve.servlets.workers import AsyncThread, BusyError, Pool

Failed: TypeAlias = Callable[[BaseException], object]
CallSoon: TypeAlias = Callable[[Callable[[], object]], None]

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


def next_piece(iterator: Iterator[object], is_over: Callable[[], bool] = lambda: False) -> Piece:
    """The next piece that is not empty; b"" at the end, or when it `is_over`: one that has nothing to say yet may give
    nothing again and again. Raises what the iterator raises, and TypeError."""
    for value in iterator:
        if piece := piece_of(value):
            return piece
        if is_over():
            break
    return b""


async def next_piece_async(iterator: AsyncIterator[object]) -> Piece:
    """As `next_piece`."""
    async for value in iterator:
        if piece := piece_of(value):
            return piece
    return b""


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

    def __init__(self, iterator: Iterator[object], guard: Callable[[Callable[[], Any]], Any], failed: Failed) -> None:
        self._iterator = iterator
        self._guard = guard
        self._failed = failed

    def pull(self, give: Give) -> None:
        """As `Stream.pull`."""
        piece: Piece | None = None
        try:
            piece = self._guard(partial(next_piece, self._iterator))
        except BaseException as error:
            self._failed(error)
        give(piece)

    def close(self) -> None:
        """As `Stream.close`."""
        try:
            self._guard(partial(close_iterator, self._iterator))
        except BaseException as error:
            self._failed(error)


class PoolStream:
    """An iterator that runs in threads of the pool, a piece at a time."""

    def __init__(self, iterator: Iterator[object], pool: Pool, call_soon: CallSoon, failed: Failed) -> None:
        self._iterator = iterator
        self._pool = pool
        self._call_soon = call_soon
        self._failed = failed
        self._working = False
        self._closing = False

    def pull(self, give: Give) -> None:
        """As `Stream.pull`."""
        self._working = True
        try:
            self._pool.submit(partial(self._step, give), begun=True)
        except BusyError as error:
            self._stepped(give, None, error)

    def _step(self, give: Give) -> None:
        piece: Piece | None = None
        raised: BaseException | None = None
        try:
            piece = next_piece(self._iterator, lambda: self._closing)
        except BaseException as error:
            raised = error
        self._call_soon(partial(self._stepped, give, piece, raised))

    def _stepped(self, give: Give, piece: Piece | None, raised: BaseException | None) -> None:
        self._working = False
        if raised is not None:
            self._failed(raised)
        if self._closing:
            self._close_in_pool()
        else:
            give(piece)

    def close(self) -> None:
        """As `Stream.close`."""
        self._closing = True
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
    """An asynchronous iterator that runs in the asyncio thread."""

    def __init__(
        self, iterator: AsyncIterator[object], tasks: AsyncThread, call_soon: CallSoon, failed: Failed
    ) -> None:
        self._iterator = iterator
        self._tasks = tasks
        self._call_soon = call_soon
        self._failed = failed
        self._step: Future[Piece] | None = None

    def pull(self, give: Give) -> None:
        """As `Stream.pull`."""
        self._step = self._tasks.start(next_piece_async(self._iterator))
        self._step.add_done_callback(lambda step: self._call_soon(partial(self._stepped, give, step)))

    def _stepped(self, give: Give, step: Future[Piece]) -> None:
        self._step = None
        if step.cancelled():
            give(None)
        elif (raised := step.exception()) is not None:
            self._failed(raised)
            give(None)
        else:
            give(step.result())

    def close(self) -> None:
        """As `Stream.close`."""
        if self._step is not None:
            self._step.cancel()
        if hasattr(self._iterator, "aclose"):
            self._tasks.start(self._close())

    async def _close(self) -> None:
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
