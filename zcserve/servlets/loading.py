"""Loads that take long are told: an import waits for a database that is away, and nothing else says so.

What loads an application or a servlet runs in a thread that may hang; another one looks at it, once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from zcserve import threads
from zcserve.errors import NoThreadError
from zcserve.log import Log

_log = Log(__name__)

# Longer than an import takes, and short enough that the reason is not looked for elsewhere.
TOLD_AFTER_S = 10.0


@contextmanager
def told_when_late(what: str, meanwhile: str, late: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Run the load of `what` in here: where it takes longer than TOLD_AFTER_S that is told, with `meanwhile`, `late` is
    called in another thread, and the end of the load is told, too."""
    began = time.monotonic()
    ended = threading.Event()
    telling = threading.Lock()  # nothing is late that has ended
    loads = threading.get_ident()
    told = False

    def look() -> None:
        nonlocal told
        ended.wait(TOLD_AFTER_S)
        with telling:
            if not ended.is_set():
                told = True
                where = _where(loads)
                _log.warning("%s has not loaded within %g s (%s): %s", what, TOLD_AFTER_S, where, meanwhile)
                late()

    with suppress(NoThreadError):
        threads.start(look, "zcserve-loading")
    try:
        yield
    finally:
        with telling:
            ended.set()
        if told:
            _log.warning("%s: its load has ended after %.0f s", what, time.monotonic() - began)


def _where(thread: int) -> str:
    """Which line a thread is at."""
    frame = threads.frame_of(thread)
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else "it ends"
