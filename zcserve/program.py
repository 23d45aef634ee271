"""A program that is started without waiting for what this process has open.

A new process has a copy of each descriptor, and closes those that it is not to have. To close a file may wait: FUSE
asks its program (FLUSH), which may stand still, and then not even SIGKILL ends the wait. `subprocess` closes the copies
before `exec`, or reads a pipe until all are closed. `posix_spawn` leaves them to `exec`, which closes them when the
parent goes on already. So the new process alone waits, and starts when the file system is back.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress

# Python ignores these; a program expects what is usual.
_SIGNALS_AS_USUAL = (signal.SIGPIPE, signal.SIGXFSZ)


class Program:
    """A child of this process. `wait` belongs to one thread; any thread may `kill`, and a signal's handler."""

    def __init__(self, argv: list[str], environ: Mapping[str, str], descriptors: Iterable[int]) -> None:
        """Start argv[0], a path. It has these descriptors, and those that are inheritable already. Raises OSError."""
        # A descriptor that is duplicated to itself is inherited (POSIX.1-2024; glibc since 2.29).
        actions = [(os.POSIX_SPAWN_DUP2, fd, fd) for fd in descriptors]
        self._lock = threading.RLock()  # a handler may come while its thread has it
        self._is_known = True  # its number is not that of another process by now
        self.pid = os.posix_spawn(argv[0], argv, environ, file_actions=actions, setsigdef=_SIGNALS_AS_USUAL)

    def wait(self) -> int:
        """The exit code, once it has ended; -N: signal N has ended it."""
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        with self._lock:
            self._is_known = False
            return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def kill(self) -> None:
        """End it."""
        with self._lock:
            if self._is_known:
                os.kill(self.pid, signal.SIGKILL)


def close_inherited(kept: Iterable[int]) -> None:
    """Close what this program was not meant to have: inheritable descriptors but the standard ones and those `kept`."""
    kept = {0, 1, 2, *kept}
    for fd in {int(name) for name in os.listdir("/proc/self/fd")} - kept:
        with suppress(OSError):  # the one that the list was read from
            if os.get_inheritable(fd):
                os.close(fd)
