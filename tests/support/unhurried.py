"""A server whose threads come late and whose steps are small: what a busy machine does once in a thousand runs, often.

A test that waits for one effect of a change and then asserts another one passes on a quiet machine and fails on a busy
one. With ZCSERVE_TEST_UNHURRIED=1 (`tests/conftest.py`) such effects come one by one, in this process and in those that
`Command` starts. Tests of deadlines, bounds of time and memory may fail then; all others must not.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable
from functools import wraps
from typing import Any

from zcserve.cache import burial, fetcher, instance, watcher
from zcserve.cache.crew import Crew
from zcserve.content import live, news, patches
from zcserve.content.jobs import Jobs
from zcserve.net.loop import Loop
from zcserve.net.output import Output
from zcserve.servlets import kept, making
from zcserve.servlets.workers import Pool

PROGRAM = ("-P", __file__)  # as a file: the zcserve that it finds is its caller's business
IS_WANTED = os.environ.get("ZCSERVE_TEST_UNHURRIED") == "1"

LATE_S = 0.03
# A thread may come late for so long at once, and for so much of its time: a burst ends.
LATE_AT_ONCE_S = 0.5
LATE_SHARE = 0.2

_own = threading.local()

# One key, one event, one result, one request at a time, where a server takes some hundred.
_SMALL: dict[Any, dict[str, float]] = {
    patches: {"KEYS_LAID_AT_ONCE": 1, "EVENTS_READ_S": 0},
    live: {"EVENTS_READ_S": 0, "KEYS_TOLD_AT_ONCE": 1},
    news: {"EVENTS_READ_S": 0},
    instance: {"READ_BYTES": 16 + 256, "READS_MAX": 16384},  # the longest event (inotify(7))
    watcher: {"SETTLE_S": 0},
    burial: {"LET_GO_AT_ONCE": 1},
    kept: {"SWEPT_AT_ONCE": 1},
    fetcher: {"HANDED_OUT_MAX": 1},
    making: {"HANDED_OUT_MAX": 1},
}
# A thread that has begun, a job that it has taken, a step that it asks for, an answer that is out, a turn that is over:
# after one of so many it comes late.
_BEFORE = {(threading.Thread, "run"): 1, (Jobs, "in_loop"): 1, (Loop, "call_soon"): 2}
_AFTER = {(Loop, "call_soon"): 2, (Output, "flush"): 5, (Loop, "run_once"): 20}
_TAKE_JOBS = {(Crew, "submit"): 1, (Pool, "submit"): 1}


def begin() -> None:
    """Be unhurried from now on."""
    for module, constants in _SMALL.items():
        for name, value in constants.items():
            assert hasattr(module, name), f"{module.__name__}.{name}"
            setattr(module, name, value)
    for late, methods in ((_late_before, _BEFORE), (_late_after, _AFTER), (_late_with, _TAKE_JOBS)):
        for (owner, name), each in methods.items():
            setattr(owner, name, late(getattr(owner, name), each))


def _late_before(method: Callable[..., Any], each: int) -> Callable[..., Any]:
    @wraps(method)
    def called(*args: Any, **named: Any) -> Any:
        come_late(each)
        return method(*args, **named)

    return called


def _late_after(method: Callable[..., Any], each: int) -> Callable[..., Any]:
    @wraps(method)
    def called(*args: Any, **named: Any) -> Any:
        try:
            return method(*args, **named)
        finally:
            come_late(each)

    return called


def _late_with(submit: Callable[..., Any], each: int) -> Callable[..., Any]:
    @wraps(submit)
    def called(crew: Any, job: Callable[[], None], *args: Any, **named: Any) -> Any:
        return submit(crew, _LateJob(job, each), *args, **named)

    return called


class _LateJob:
    """A job whose thread comes late once it has taken it. It is equal to the job: a pool is asked for that."""

    def __init__(self, job: Callable[[], None], each: int) -> None:
        self.job = job
        self.each = each

    def __call__(self) -> None:
        come_late(self.each)
        self.job()

    def __eq__(self, other: object) -> bool:
        return bool(self.job == (other.job if isinstance(other, _LateJob) else other))

    def __hash__(self) -> int:
        return hash(self.job)


def come_late(each: int) -> None:
    """Sleep once in so many calls, unless this thread was late enough."""
    now = time.monotonic()
    left, then = getattr(_own, "left", (LATE_AT_ONCE_S, now))
    left = min(left + (now - then) * LATE_SHARE, LATE_AT_ONCE_S)
    late = random.uniform(0, LATE_S) if left > 0 and random.random() * each < 1 else 0.0
    _own.left = left - late, now
    time.sleep(late)


if __name__ == "__main__":
    from zcserve.cli import main

    begin()
    raise SystemExit(main())
