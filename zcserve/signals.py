"""Signals of a process that is the server's alone, before it serves and while it does.

- `end_at_once`: until the server says otherwise SIGTERM and SIGINT end the process, with 128 + their number. A server
  that loads a million files, compresses them, or imports an application has nothing to finish.
- `Woken`: while it serves, a signal wakes the loop.

What is odd: the kernel delivers no signal to process 1 of a container that has no handler for it, so there has to be
one. And a handler of Python's runs in the main thread, between two instructions of it: it is not called while that
thread waits for a file system that hangs, and what it raises is caught by an application that catches everything. So a
thread reads the signals' numbers from the descriptor that the C part of Python writes them to
(`signal.set_wakeup_fd`), and ends the process.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress

from zcserve import log, threads

ENDS = (signal.SIGTERM, signal.SIGINT)
# A file that is too long (RLIMIT_FSIZE) is an error of the call that writes it.
_OTHERS = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXFSZ)

_at_once: socket.socket | None = None


def end_at_once() -> None:
    """Have SIGTERM and SIGINT end the process; other signals do nothing, for what they would do is being done. In the
    main thread. Raises OSError and NoThreadError."""
    global _at_once
    if _at_once is not None:
        return
    reader, _at_once = _pair()
    reader.setblocking(True)
    threads.start(lambda: _end_when_told(reader), "zcserve-signals")
    signal.set_wakeup_fd(_at_once.fileno(), warn_on_full_buffer=False)
    for number in ENDS:
        signal.signal(number, _heard)
    for number in _OTHERS:
        signal.signal(number, signal.SIG_IGN)


def end_in_order(handler: Callable[[int, object], None]) -> None:
    """Have SIGTERM and SIGINT call `handler` in the main thread, and nothing else."""
    global _at_once
    for number in ENDS:
        signal.signal(number, handler)
    signal.set_wakeup_fd(-1)
    if _at_once is not None:
        _at_once.close()
        _at_once = None


def _heard(number: int, frame: object) -> None:
    """The thread does it."""


def _end_when_told(reader: socket.socket) -> None:
    with reader:
        while told := reader.recv(1):
            if told[0] in ENDS:
                log.flush()
                os._exit(128 + told[0])


def _pair() -> tuple[socket.socket, socket.socket]:
    reader, writer = socket.socketpair()
    for sock in (reader, writer):
        sock.setblocking(False)
    return reader, writer


class Woken:
    """Signals wake the loop while it serves: Python hears of one between two of its instructions, and under load the
    fast lane has few of them."""

    def __init__(self) -> None:
        """Raises OSError."""
        self.reader, self._writer = _pair()

    def begin(self) -> None:
        """From now on. In the main thread."""
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)

    def drain(self, _: int = 0) -> None:
        """The loop is awake."""
        with suppress(BlockingIOError):
            while self.reader.recv(4096):
                pass

    def close(self) -> None:
        """No more."""
        with suppress(ValueError):  # it was not begun, in a thread that is not the main one
            signal.set_wakeup_fd(-1)
        self.reader.close()
        self._writer.close()
