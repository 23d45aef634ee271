"""Lanes as threads: how many there are, and where each runs. What a lane does in its thread is C (`net/lane/`).

The first lane is the thread of Python's loop; each other one has a thread of its own, `zcserve-lane-1` and so on.
Signals are blocked in these, so that the kernel gives them to a thread of Python's. With `--pin-cpus` the lane with
number i runs on the i-th cpu that the process may use, and from the first again where there are fewer. Threads that are
no lanes may run on all of them (`threads.py`).
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from zcserve import threads
from zcserve.cgroups import PROC, text_of, told
from zcserve.config.units import Auto
from zcserve.errors import reason_of
from zcserve.log import Log

_log = Log(__name__)

# Faults of the thread's own, which end the process, blocked or not: unblocked, `faulthandler` can say where.
_FAULTS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT, signal.SIGTRAP, signal.SIGSYS}


def number_of(asked: int, proc: Path = PROC) -> int:
    """How many lanes `--lanes` means here: where it is `auto`, one for each core that the process may use."""
    return min(asked, cores(proc)) if isinstance(asked, Auto) else int(asked)


def cores(proc: Path = PROC) -> int:
    """How many cores the process may use: cpus that it may run on, and no more than the whole cores of its groups'
    quota, for a thread beyond it would have all of them stopped for the rest of each period. At least 1."""
    return max(1, int(min([len(os.sched_getaffinity(0)), *_quotas(proc)])))


def _quotas(proc: Path) -> Iterator[float]:
    """Of the process's group and of those above, in cores (cpu.max; cpu.cfs_quota_us in v1)."""
    for path, text in told("cpu", ("cpu.max",), ("cpu.cfs_quota_us",), proc):
        quota, _, period = text.partition(" ")
        if path.name == "cpu.cfs_quota_us":
            period = text_of(path.with_name("cpu.cfs_period_us")).strip()
        if quota.isdigit() and period.isdigit() and int(period):  # else it is "max", or -1
            yield int(quota) / int(period)


def start(number: int, run: Callable[[], object], *, pinned: bool) -> threading.Thread:
    """A thread for the lane with this number, not the first one, which calls `run`. Raises NoThreadError."""

    def begin() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - _FAULTS)
        if pinned:
            bind(number)
        run()

    return threads.start(begin, f"zcserve-lane-{number}")


def bind(number: int) -> None:
    """Bind the calling thread, that of the lane with this number, to its cpu; the log says where that is refused."""
    cpus = sorted(os.sched_getaffinity(0))
    cpu = cpus[number % len(cpus)]
    try:
        threads.bind(cpu)
    except OSError as error:
        _log.warning("pin_cpus: lane %d cannot be bound to cpu %d: %s", number, cpu, reason_of(error))
