"""Who holds the loop too long is named, with its stack.

A thread looks every quarter of the limit at what the loop is running. What it still runs when the limit has passed is
told, once, with the place where it is. Entering and leaving cost a servlet three attributes.

A call that also holds the interpreter's lock (a long regular expression) keeps the thread from looking; it gets its
turn when that call returns, in the servlet still, and counts from its last look.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

_log = logging.getLogger(__name__)

T = TypeVar("T")

LOOKS_PER_LIMIT = 4
_HERE = Path(__file__).parent


class Watch:
    """Set `what` while something runs in the loop's thread, and `token` to an object that no other run has had: or have
    `guard` do both."""

    def __init__(self, slow_s: float) -> None:
        self.what: str | None = None
        self.token: object = None
        self._slow_s = slow_s
        self._thread_id = 0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="zcserve-watch", daemon=True)

    def begin(self) -> None:
        """The calling thread is the one to watch."""
        self._thread_id = threading.get_ident()
        self._thread.start()

    def guard(self, what: str, step: Callable[[], T]) -> T:
        """Call `step`, named `what` should it take long."""
        outer, self.what = self.what, what
        self.token = step
        try:
            return step()
        finally:
            self.what = outer

    def _run(self) -> None:
        seen: object = None  # and kept, so that no other object can take its place in memory
        since, looked, told = 0.0, time.monotonic(), False
        while not self._ending.wait(self._slow_s / LOOKS_PER_LIMIT):
            now = time.monotonic()
            what, token = self.what, self.token
            if what is None or token is not seen:
                if told:
                    _log.warning("the servlet let go of the loop after %.1f s", now - since)
                kept_from_looking = now - looked > self._slow_s
                seen, since, told = token, looked if kept_from_looking else now, False
            if what is not None and not told and now - since >= self._slow_s:
                told = True
                self._tell(what)
            looked = now

    def _tell(self, what: str) -> None:
        frames = traceback.extract_stack(sys._current_frames().get(self._thread_id))
        ours = [at for at, frame in enumerate(frames) if Path(frame.filename).parent == _HERE]
        stack = "".join(traceback.format_list(frames[max(ours, default=-1) + 1 :] or frames))
        _log.warning(
            "%s has held the loop for more than %g s, and nobody is served meanwhile (thread=True or async def would "
            "let others go on):\n%s",
            what,
            self._slow_s,
            stack.rstrip(),
        )

    def close(self) -> None:
        """Look no more."""
        self._ending.set()
        if self._thread.ident is not None:
            self._thread.join()
