"""Work that blocks, in a thread of its own, waited for by asyncio.

The thread does not keep the process from ending, which the threads of asyncio's own pool do: a request to a server that
hangs would keep an agent alive that was told to end. What waits can give up at any time; the work then ends by itself,
by a limit of its own, and nothing hears of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from zcserve import threads
from zcserve.errors import NoThreadError
from zcserve.log import Log

_log = Log(__name__)

# How long it is before a thread that could not be had is asked for again, in seconds.
THREAD_AGAIN_S = 1.0

T = TypeVar("T")


async def in_thread(work: Callable[[], T], name: str) -> T:
    """What the work gives, or raises. Where no thread can be had, it waits for one."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[T] = loop.create_future()

    def settle(tell: Callable[[], object]) -> None:
        if not ended.done():
            tell()

    def run() -> None:
        try:
            found = work()
            tell: Callable[[], object] = lambda: ended.set_result(found)  # noqa: E731
        except BaseException as error:
            raised = error
            tell = lambda: ended.set_exception(raised)  # noqa: E731
        with suppress(RuntimeError):  # the loop is closed: the agent has ended
            loop.call_soon_threadsafe(settle, tell)

    while True:
        try:
            threads.start(run, name)
        except NoThreadError as error:
            _log.warning("the agent waits for a thread: %s", error)
            await asyncio.sleep(THREAD_AGAIN_S)
        else:
            return await ended
