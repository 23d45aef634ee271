"""Threads that are there before they are needed.

A system may give no more threads at any moment (RLIMIT_NPROC, a container's pids limit, TasksMax). So what a server
cannot do without is started before it says that it serves, and a thread that cannot be had is wrong use, told in one
line. Whatever starts a thread later has an answer for `NoThreadError`.

A thread may be bound to one cpu (`bind`). Linux has a new thread start where the thread that makes it may run; so those
that are started here get the cpus that the bound thread had before.

Where another thread is can be told, too (`frame_of`).
"""

from __future__ import annotations

import mmap
import os
import resource
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from zcserve import collector
from zcserve.errors import NoThreadError

_TOLD = (
    "no thread can be had for %s (%s): raise the limit of processes and threads "
    "(ulimit -u, systemd's TasksMax, a container's pids limit), or of addresses for their stacks (ulimit -v)"
)


# What a new thread of CPython takes before its first line runs: two of obmalloc's arenas of 1 MiB, and room for malloc.
FIRST_LINE_BYTES = 4 << 20
STACK_BYTES_MAX = 64 << 20  # what is asked for in advance where RLIMIT_STACK gives more, or has no bound


_own = threading.local()  # `cpus`: of a thread that is bound, those that it had before


def start(target: Callable[[], object], name: str) -> threading.Thread:
    """Run `target` in a thread that does not keep the process from ending. Raises NoThreadError."""
    thread = threading.Thread(target=target, name=name, daemon=True)
    begin(thread)
    return thread


def begin(thread: threading.Thread) -> None:
    """Start a thread; where that fails it can be tried again. Raises NoThreadError."""
    try:
        _ask_for_room()
        with _at_large():
            thread.start()
    except (RuntimeError, OSError) as error:
        raise NoThreadError(_TOLD % (thread.name, error)) from None


def bind(cpu: int) -> None:
    """Have the calling thread run on this cpu alone. Raises OSError."""
    had = getattr(_own, "cpus", None) or os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    _own.cpus = had


def unbind() -> None:
    """Have the calling thread run where it did before `bind`; nothing, where it is not bound."""
    if cpus := _own.__dict__.pop("cpus", None):
        _allow(cpus)


def frame_of(thread_id: int) -> FrameType | None:
    """The innermost frame of a thread; None: it has none. CPython before 3.12 holds its lock of all threads meanwhile,
    and makes objects: with a collection that gave the GIL to a thread that ends, no thread would run any more."""
    with collector.paused():
        return sys._current_frames().get(thread_id)


def _ask_for_room() -> None:
    """Raises OSError where a thread could be made, and would then lack memory: it ends before it says that it has
    begun, and `Thread.start` waits for that without end."""
    stack_bytes = resource.getrlimit(resource.RLIMIT_STACK)[0]
    if not 0 < stack_bytes < STACK_BYTES_MAX:
        stack_bytes = STACK_BYTES_MAX
    mmap.mmap(-1, stack_bytes + FIRST_LINE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()


@contextmanager
def _at_large() -> Iterator[None]:
    """The calling thread is not bound meanwhile."""
    if not hasattr(_own, "cpus"):
        yield
        return
    bound = os.sched_getaffinity(0)
    _allow(_own.cpus)
    try:
        yield
    finally:
        _allow(bound)


def _allow(cpus: set[int]) -> None:
    with suppress(OSError):  # none of them may be used any more: the thread stays where it is
        os.sched_setaffinity(0, cpus)
