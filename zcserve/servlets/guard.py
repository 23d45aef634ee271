"""A servlet that holds the loop too long is named, with its stack.

A thread looks every quarter of the limit at what the loop is running. What it still runs when the limit has passed is
told, once, with the place where it is. Entering and leaving cost a servlet next to nothing.

A call that also holds the interpreter's lock (a long regular expression) keeps the thread from looking; it gets its
turn when that call returns, in the servlet still, and counts from its last look.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from zcserve import threads
from zcserve.log import Block, Log
from zcserve.net.front import Front

_log = Log(__name__)

T = TypeVar("T")

LOOKS_PER_LIMIT = 4
_OURS = str(Path(__file__).parents[1]) + "/"


class LoopGuard:
    """`guard` tells it what runs in the loop's thread; what the fast lane calls by itself, it is asked for."""

    def __init__(self, slow_s: float, front: Front) -> None:
        self._what: str | None = None
        self._count = 0
        self._front = front
        self._slow_s = slow_s
        self._thread_id = 0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="zcserve-watch", daemon=True)

    def begin(self) -> None:
        """Have the thread that looks, at the calling thread until it is told otherwise. Raises NoThreadError."""
        self.look_at_this_thread()
        threads.begin(self._thread)

    def look_at_this_thread(self) -> None:
        """The calling thread is the one to watch."""
        self._thread_id = threading.get_ident()

    def guard(self, what: str, step: Callable[[], T]) -> T:
        """Call `step`, named `what` should it take long."""
        outer, self._what = self._what, what
        self._count += 1
        try:
            return step()
        finally:
            self._what = outer

    def _look(self) -> tuple[str | None, int]:
        """What runs, and a number that another run does not have."""
        return (self._what, self._count) if self._what is not None else self._front.running()

    def _run(self) -> None:
        seen, since, looked, told = 1, 0.0, time.monotonic(), False
        while not self._ending.wait(self._slow_s / LOOKS_PER_LIMIT):
            now = time.monotonic()
            what, count = self._look()
            if what is None or count != seen:
                if told:
                    _log.warning("the servlet let go of the loop after %.1f s", now - since)
                kept_from_looking = now - looked > self._slow_s
                seen, since, told = count, looked if kept_from_looking else now, False
            if what is not None and not told and now - since >= self._slow_s:
                told = True
                self._tell(what)
            looked = now

    def _tell(self, what: str) -> None:
        frames = traceback.extract_stack(threads.frame_of(self._thread_id))
        ours = [at for at, frame in enumerate(frames) if frame.filename.startswith(_OURS)]
        stack = "".join(traceback.format_list(frames[max(ours, default=-1) + 1 :] or frames))
        _log.warning(
            "%s has held the loop for more than %g s, and nothing is served meanwhile (thread=True or async def would "
            "let others go on):\n%s",
            what,
            self._slow_s,
            Block(stack.rstrip()),
        )

    def close(self) -> None:
        """Look no more."""
        self._ending.set()
        if self._thread.ident is not None:
            self._thread.join()
