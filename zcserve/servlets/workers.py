"""Where servlets run that may wait: a bounded pool of threads, and an asyncio loop in a thread of its own.

Both are daemons: a servlet that never comes back must not keep the process from ending, as the standard library's
executors would. What comes out of them reaches the server's loop through `call_soon`, like everything else.

A process that an application forks has a copy of the thread that forked. It ends when it comes back from the
application (net/forks.py): in the pool it would wait for ever, and with the asyncio loop it would take what wakes ours.
"""

from __future__ import annotations

import asyncio
import os
import selectors
import threading
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

from zcserve import threads
from zcserve.errors import NoThreadError, ZcserveError
from zcserve.log import Log
from zcserve.net import forks

_log = Log(__name__)

T = TypeVar("T")

# Coroutines that are told to end are given so long.
CANCELLED_WITHIN_S = 1.0


class BusyError(ZcserveError):
    """As many jobs wait as may."""


class Pool:
    """At most `threads` threads, and at most `waiting_max` jobs that wait for one. The first thread is started by
    `begin`, the others when they are needed: where the system has no more, those that there are do all. `idle` threads
    have no job."""

    def __init__(self, threads: int, waiting_max: int) -> None:
        self._threads_max = threads
        self._waiting_max = waiting_max
        self._threads = 0
        self.idle = 0
        self._closed = False
        # In order, and keyed by the job, so that one that is not wanted any more is found at once.
        self._begun: OrderedDict[Callable[[], None], None] = OrderedDict()
        self._new: OrderedDict[Callable[[], None], None] = OrderedDict()
        self._changed = threading.Condition(threading.Lock())

    def begin(self) -> None:
        """Have the first thread. Raises NoThreadError."""
        with self._changed:
            if self._threads:
                return
            self._threads = 1
        try:
            threads.start(self._run, "zcserve-servlet-1")
        except NoThreadError:
            self._threads = 0
            raise

    @property
    def is_idle(self) -> bool:
        """Whether no job runs, and none waits."""
        with self._changed:
            return not self.waiting and self.idle == self._threads

    @property
    def waiting(self) -> int:
        """How many jobs wait for a thread."""
        return len(self._begun) + len(self._new)

    def submit(self, job: Callable[[], None], *, begun: bool = False) -> None:
        """Run `job` in a thread. Raises BusyError. What has `begun` goes before what has not, however many wait.

        A job waits only once at a time: an equal one that waits already is the same.
        """
        with self._changed:
            if (len(self._new) >= self._waiting_max and not begun) or self._closed:
                raise BusyError("no thread is free, and as many requests wait for one as --servlet-queue-max allows")
            (self._begun if begun else self._new)[job] = None
            if self.idle >= self.waiting:
                self._changed.notify()
                return
            if self._threads == self._threads_max:
                return  # the thread that is ready first takes it
            self._threads += 1
            name = f"zcserve-servlet-{self._threads}"
        try:
            threads.start(self._run, name)
        except NoThreadError as error:
            self._do_without_it(job, error)

    def withdraw(self, job: Callable[[], None]) -> bool:
        """`job` is not wanted any more: it gives up its place. False: a thread has taken it."""
        with self._changed:
            for jobs in (self._new, self._begun):
                if job in jobs:
                    del jobs[job]
                    return True
        return False

    def _do_without_it(self, job: Callable[[], None], error: NoThreadError) -> None:
        """No thread could be started for `job`: one of the others takes it, if there are any."""
        with self._changed:
            self._threads -= 1
            alone = not self._threads
        if alone and self.withdraw(job):
            raise BusyError(str(error)) from error

    def _run(self) -> None:
        here = os.getpid()
        while (job := self._next()) is not None:
            try:
                job()
            except BaseException:  # SystemExit, too: the thread is needed
                _log.exception("a job of a servlet's thread failed")
            if os.getpid() != here:
                forks.end()
            del job  # what it holds is not kept until the next one comes

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            self.idle += 1
            while not self._begun and not self._new and not self._closed:
                self._changed.wait()
            self.idle -= 1
            if self._closed:
                return None
            return (self._begun or self._new).popitem(last=False)[0]

    def close(self) -> None:
        """Begin nothing any more. Jobs at hand are not waited for."""
        with self._changed:
            self._closed = True
            self._begun.clear()
            self._new.clear()
            self._changed.notify_all()


class _Selector(selectors.DefaultSelector):
    """Waits for one process alone."""

    def __init__(self) -> None:
        super().__init__()
        self._process = os.getpid()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if os.getpid() != self._process:
            forks.end()
        return super().select(timeout)


class AsyncThread:
    """An asyncio event loop in its own thread, which `begin` starts, or else the first coroutine."""

    def __init__(self) -> None:
        self.loop = asyncio.SelectorEventLoop(_Selector())
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="zcserve-async", daemon=True)
        self._starting = threading.Lock()

    def begin(self) -> None:
        """Have the thread; any thread may ask. Raises NoThreadError."""
        with self._starting:
            if self._thread.ident is None:
                threads.begin(self._thread)

    def start(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine there; any thread."""
        self.begin()
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        while not self._closed:  # an application may stop the loop
            with suppress(SystemExit, KeyboardInterrupt):  # a task's: asyncio lets them through
                self.loop.run_forever()

    def close(self) -> None:
        """Cancel what runs, and end. What does not let itself be cancelled is left behind."""
        if self._thread.ident is None:
            self.loop.close()
            return
        with suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(self._cancel_all(), self.loop).result(CANCELLED_WITHIN_S)
        self._closed = True
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(CANCELLED_WITHIN_S)
        if not self._thread.is_alive():
            self.loop.close()

    async def _cancel_all(self) -> None:
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self.loop.shutdown_asyncgens()
