"""Calling a servlet where it belongs: in the loop, in a thread of the pool, or in the asyncio thread.

Whatever it does comes out as an `Outcome`, in the loop's thread: an answer, the name of a file to answer with, or what
it raised. The first piece of an iterator is asked for before anything is promised, so that a servlet which fails there
is still answered with a 500; but not that of an asynchronous iterator whose servlet runs elsewhere, nor one behind very
many empty pieces.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from functools import partial
from typing import NamedTuple, TypeAlias

from zcserve.http import FieldLines
from zcserve.servlets.context import Context
from zcserve.servlets.guard import LoopGuard
from zcserve.servlets.request import Request
from zcserve.servlets.response import Rendered, render
from zcserve.servlets.routes import Route
from zcserve.servlets.streams import (
    AsyncStream,
    Begun,
    Failed,
    LoopStream,
    PoolStream,
    close_iterator,
    next_piece,
    next_piece_async,
)
from zcserve.site.reply import Piece, Reply, Stream


class FileAsked(NamedTuple):
    """A servlet wants a resource of the site to be sent, with further fields."""

    path: str
    status: int
    fields: FieldLines


class Started(NamedTuple):
    """A call under way.

    cancel    the answer is not wanted any more: the outcome is a CancelledError then, or comes as it would have; or
              `withdraw` would have been True, and it never comes
    withdraw  give up the call where it has not begun. False: it has, and the outcome will come
    """

    cancel: Callable[[], object]
    withdraw: Callable[[], bool]


Outcome: TypeAlias = Reply | FileAsked | BaseException
Done: TypeAlias = Callable[[Outcome], None]


class Caller:
    """Calls servlets, and notes their outcomes. All methods belong to the loop's thread."""

    def __init__(self, context: Context, loop_guard: LoopGuard) -> None:
        self._context = context
        self._loop_guard = loop_guard

    def call(self, route: Route, request: Request, failed: Failed, done: Done) -> Started | None:
        """Call a servlet; `done` hears of the outcome, before this returns or later.

        `failed` hears, in the loop's thread, what a stream raises when its answer has begun. None: it is over already.
        Raises BusyError.
        """
        if route.thread or route.is_async:
            return self.start(route, request, failed, done)
        done(self.call_here(route, request, failed))
        return None

    def start(self, route: Route, request: Request, failed: Failed, done: Done) -> Started:
        """Call a servlet that does not run in the loop, as `call` does. Raises BusyError."""
        context, done = self._context, partial(self._done, time.monotonic(), done)
        if route.is_async:
            task = context.tasks.start(self._call_in_tasks(route, request, failed))
            context.under_way.add(task)
            task.add_done_callback(lambda task: context.call_soon(partial(done, _outcome_of(task))))
            task.add_done_callback(context.under_way.discard)
            return Started(task.cancel, lambda: False)
        unwanted: list[bool] = []
        job = partial(self._call_in_pool, route, request, failed, done, unwanted)
        context.pool.submit(job)
        return Started(partial(self._cancel_in_pool, job, unwanted), partial(context.pool.withdraw, job))

    def call_here(self, route: Route, request: Request, failed: Failed) -> Outcome:
        """Call a servlet that runs in the loop, as `call` does."""
        began = time.monotonic()
        try:  # the outcome has no name here: a traceback in it leads to this frame, and it would never be freed
            return self._loop_guard.guard(route.where, partial(self._call_here, route, request, failed))
        finally:
            self._context.outcomes.note(began)

    def _done(self, began: float, done: Done, outcome: Outcome) -> None:
        self._context.outcomes.note(began)
        done(outcome)

    def _cancel_in_pool(self, job: Callable[[], None], unwanted: list[bool]) -> None:
        if not self._context.pool.withdraw(job):
            unwanted.append(True)

    def outcome(self, where: str, value: object, failed: Failed) -> Reply | FileAsked:
        """The outcome of a value that a servlet returned in the loop's thread. Raises what its iterator does."""
        return self._begin(
            render(value),
            lambda iterator: LoopStream(iterator, partial(self._loop_guard.guard, where), self._context.again, failed),
            failed,
        )

    def _call_here(self, route: Route, request: Request, failed: Failed) -> Outcome:
        try:
            return self.outcome(route.where, route.function(request, **request.params), failed)
        except BaseException as error:
            return error

    def _call_in_pool(
        self, route: Route, request: Request, failed: Failed, done: Done, unwanted: Sequence[bool]
    ) -> None:
        # No variable holds the outcome: a traceback refers to its frame and to all that have called it, this one, too.
        self._context.call_soon(partial(done, self._outcome_in_pool(route, request, failed, unwanted)))

    def _outcome_in_pool(self, route: Route, request: Request, failed: Failed, unwanted: Sequence[bool]) -> Outcome:
        """What is not wanted any more, and has not begun, is not called; else it is called to its end."""
        if unwanted:
            return CancelledError("the servlet was not called")
        context = self._context
        try:
            return self._begin(
                render(route.function(request, **request.params)),
                lambda iterator: PoolStream(iterator, context.pool, context.call_soon, context.again, failed),
                failed,
                lambda: bool(unwanted),
            )
        except BaseException as error:
            return error

    async def _call_in_tasks(self, route: Route, request: Request, failed: Failed) -> Outcome:
        value = route.function(request, **request.params)
        if inspect.isawaitable(value):
            value = await value
        rendered = render(value)
        content = rendered.content
        if isinstance(content, bytes):
            return _plain(rendered, content)
        pieces = content if isinstance(content, AsyncIterator) else _each(content)
        return _begun(rendered, await next_piece_async(pieces), self._async_stream(pieces, failed))

    def _begin(
        self,
        rendered: Rendered,
        stream_of: Callable[[Iterator[object]], Stream],
        failed: Failed,
        is_over: Callable[[], bool] = lambda: False,
    ) -> Reply | FileAsked:
        content = rendered.content
        if isinstance(content, bytes):
            return _plain(rendered, content)
        if isinstance(content, AsyncIterator):
            return Reply(rendered.status, rendered.fields, self._async_stream(content, failed))
        return _begun(rendered, next_piece(content, is_over), stream_of(content))

    def _async_stream(self, pieces: AsyncIterator[object], failed: Failed) -> Stream:
        context = self._context
        return AsyncStream(pieces, context.tasks, context.call_soon, failed, context.under_way)


def _plain(rendered: Rendered, content: bytes) -> Reply | FileAsked:
    if rendered.file is not None:
        return FileAsked(rendered.file, rendered.status, rendered.fields)
    return Reply(rendered.status, rendered.fields, content)


def _begun(rendered: Rendered, first: Piece | None, rest: Stream) -> Reply:
    """`first` is None where there are only empty pieces yet: then the head goes out before anything is known."""
    return Reply(rendered.status, rendered.fields, rest if first is None else Begun(first, rest))


def _outcome_of(task: Future[Outcome]) -> Outcome:
    if task.cancelled():
        return CancelledError("the servlet was cancelled")
    error = task.exception()
    return task.result() if error is None else error


async def _each(iterator: Iterator[object]) -> AsyncIterator[object]:
    try:
        for value in iterator:
            yield value
    finally:
        close_iterator(iterator)
