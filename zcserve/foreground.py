"""A process that is a server's alone: `zcserve` in a terminal, in a container, or under systemd.

What there is once in a process, and a server as a part of another program must leave alone, is here: signals, the limit
of descriptors, how often threads take turns, what the garbage collector looks at; which process was before this one
(an upgrade), or has opened sockets for it (systemd); and an end that waits for nothing.
"""

from __future__ import annotations

import gc
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from functools import partial
from itertools import chain

from zcserve import log, signals
from zcserve.activation import passed
from zcserve.cache import closing
from zcserve.cache.crew import CLOSE_WITHIN_S
from zcserve.cache.entry import InPlace, each_coding
from zcserve.cache.index import Generation
from zcserve.program import close_inherited
from zcserve.supervisor import Supervisor
from zcserve.upgrade import Predecessor

# How long a loader thread may hold the GIL while the loop has work: the interpreter's 5 ms would be the loop's worst
# latency.
SWITCH_INTERVAL_S = 0.00005


class Foreground:
    """Made in the main thread, before anything takes long: from then on SIGTERM and SIGINT end the process.

    predecessor  the process that this one takes over from; None: there is none
    inherited    listening sockets that are here already
    supervisor   systemd, if it wants to hear of this
    """

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        """What is for this process alone leaves `environ`. Raises OSError and NoThreadError."""
        _raise_descriptor_limit()
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        signals.end_at_once()
        self.predecessor = Predecessor.of(environ)
        self.supervisor = Supervisor(environ, takes_over=self.predecessor is not None)
        if self.predecessor is not None:
            close_inherited(self.predecessor.descriptors)
            self.inherited = self.predecessor.listeners
        else:
            self.inherited = passed(environ)
        self._is_told_to_end = threading.Lock()  # taken by the first signal that says so

    def hear(
        self, stop: Callable[[], bool], forbid: Callable[[], object], others: Mapping[int, Callable[[], object]]
    ) -> None:
        """From now on the first SIGTERM or SIGINT calls `stop`, which gives False where the server ends already. Then
        it calls `forbid`, as the second one does, and ends the process. `others` are what the other signals call. In
        the main thread."""

        def end(number: int, _: object) -> None:
            # One step: signals come between any two.
            if not self._is_told_to_end.acquire(blocking=False) or not stop():
                forbid()
                log.flush()
                os._exit(128 + number)

        signals.end_in_order(end)
        for number, call in others.items():
            signal.signal(number, partial(_call, call))

    def settle(self) -> None:
        """What has been made by now stays: the collector need not look at it again. In a process that is not the
        server's alone, what is frozen would outlive it."""
        gc.collect()  # what is garbage and frozen would never go
        gc.freeze()

    def unsettle(self) -> None:
        """What was made may go now, cycles, descriptors and all."""
        gc.unfreeze()

    def leave(self, *, is_closed: bool, generations: Iterable[Generation]) -> None:
        """End here where the interpreter could not: nothing ends a thread that waits in the kernel, and the interpreter
        would close what it reads from, or wait for it. `generations` have files that were sent in place."""
        if not is_closed or _have_files_that_may_hang(generations) or not log.prints_are_out():
            log.flush()
            closing.leave(0)


def _call(call: Callable[[], object], number: int, frame: object) -> None:
    """As a handler of Python's is called."""
    call()


def _raise_descriptor_limit() -> None:
    """Take all the descriptors that we may have: the soft limit is for programs that use select(2)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _have_files_that_may_hang(generations: Iterable[Generation]) -> bool:
    """Whether files below the root are open that cannot be closed, perhaps: no thread of this process may try."""
    if not closing.wait(time.monotonic() + CLOSE_WITHIN_S):
        return True
    entries = chain.from_iterable(one.entries() for one in generations)
    bodies = (one.body for entry in entries for one in each_coding(entry))
    return any(isinstance(body, InPlace) and closing.may_hang(body.device) for body in bodies)
