"""Threads that are there before they are needed.

A system may give no more threads at any moment (RLIMIT_NPROC, a container's pids limit, TasksMax). So what a server
cannot do without is started before it says that it serves, and a thread that cannot be had is wrong use, told in one
line. Whatever starts a thread later has an answer for `NoThreadError`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from zcserve.errors import NoThreadError

_TOLD = (
    "no thread can be had for %s (%s): raise the limit of processes and threads "
    "(ulimit -u, systemd's TasksMax, a container's pids limit), or of addresses for their stacks (ulimit -v)"
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
