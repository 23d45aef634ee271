"""Python's cyclic garbage collector does not run for a while.

A collection may begin in any line that makes an object, also in one within a call of C. Two things are wrong then: a
collection of many objects holds the GIL for long; and the finalizers that it runs may give the GIL away, while the call
of C that it began in has a lock of the interpreter's (`threads.frame_of`).
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# Some threads may want this at a time: the collector is back when the last of them has what it wants.
_lock = threading.Lock()
_pausing = 0
_collected = True


@contextmanager
def paused() -> Iterator[None]:
    """No collection begins meanwhile, in any thread. Where there was none before, there is none after."""
    global _pausing, _collected
    with _lock:
        if not _pausing:
            _collected = gc.isenabled()
        _pausing += 1
        gc.disable()
    try:
        yield
    finally:
        with _lock:
            _pausing -= 1
            if not _pausing and _collected:
                gc.enable()
