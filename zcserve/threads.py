"""Threads that are there before they are needed.

A system may give no more threads at any moment (RLIMIT_NPROC, a container's pids limit, TasksMax). So what a server
cannot do without is started before it says that it serves, and a thread that cannot be had is wrong use, told in one
line. Whatever starts a thread later has an answer for `NoThreadError`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from zcserve.errors import NoThreadError

_TOLD = (
    "no thread can be had for %s (%s): raise the limit of processes and threads "
    "(ulimit -u, systemd's TasksMax, a container's pids limit)"
)


def start(target: Callable[[], object], name: str) -> threading.Thread:
    """Run `target` in a thread that does not keep the process from ending. Raises NoThreadError."""
    thread = threading.Thread(target=target, name=name, daemon=True)
    begin(thread)
    return thread


def begin(thread: threading.Thread) -> None:
    """Start a thread; where that fails it can be tried again. Raises NoThreadError."""
    try:
        thread.start()
    except RuntimeError as error:
        raise NoThreadError(_TOLD % (thread.name, error)) from None


def fill(pool: ThreadPoolExecutor, threads: int) -> None:
    """Have a pool start all of its `threads` now: it would start them with its jobs. Raises NoThreadError, and the pool
    is closed then."""
    go = threading.Event()
    try:
        for _ in range(threads):
            pool.submit(go.wait)  # none is idle before the last one was asked for
    except RuntimeError as error:
        pool.shutdown(wait=False, cancel_futures=True)
        raise NoThreadError(_TOLD % (f"a pool of {threads}", error)) from None
    finally:
        go.set()
