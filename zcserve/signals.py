"""Signals of a process that is the server's alone, before it serves and while it does.

- `end_at_once`: until the server says otherwise SIGTERM and SIGINT end the process, with 128 + their number. A server
  that loads a million files, compresses them, or imports an application has nothing to finish.
- `end_in_order`: from then on a handler of the server's is called. It is called between two instructions of Python's,
  and under load the fast lane has few of them; so the socket that the number goes to wakes the loop.

A process that an application forks has signals of its own: else it would pass on to this one what it is sent.

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
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from zcserve import log, threads

if TYPE_CHECKING:
    from zcserve.net.loop import Loop

ENDS = (signal.SIGTERM, signal.SIGINT)
# A file that is too long (RLIMIT_FSIZE) is an error of the call that writes it.
_OTHERS = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXFSZ)
_ENOUGH = 0  # no signal's number

_heard: _Heard | None = None


class _Heard:
    """Where the numbers of signals go, and the thread that ends the process."""

    def __init__(self) -> None:
        """Raises OSError and NoThreadError."""
        self.reader, self.writer = socket.socketpair()
        self.writer.setblocking(False)
        self.thread = threads.start(self._end_when_told, "zcserve-signals")

    def _end_when_told(self) -> None:
        while (number := self.reader.recv(1)[0]) != _ENOUGH:
            if number in ENDS:
                log.flush()
                os._exit(128 + number)


def end_at_once() -> None:
    """Have SIGTERM and SIGINT end the process; other signals do nothing, for what they would do is being done. In the
    main thread. Raises OSError and NoThreadError."""
    global _heard
    if _heard is not None:
        return
    _heard = _Heard()
    signal.set_wakeup_fd(_heard.writer.fileno(), warn_on_full_buffer=False)
    for number in ENDS:
        signal.signal(number, _leave_it_to_the_thread)
    for number in _OTHERS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEARD)  # what starts it may be a thread that has them blocked


def _leave_it_to_the_thread(number: int, frame: object) -> None:
    """Without a handler the kernel would do what it does by itself: for process 1, nothing."""


def wake(loop: Loop) -> None:
    """Have signals wake the loop, once they end nothing any more."""
    assert _heard is not None
    loop.add(_heard.reader.fileno(), lambda _: _drain())


def _drain() -> None:
    with suppress(BlockingIOError):
        while _heard is not None and _heard.reader.recv(4096):
            pass


def end_in_order(handler: Callable[[int, object], None]) -> None:
    """Have SIGTERM and SIGINT call `handler` in the main thread, and nothing else."""
    assert _heard is not None
    signal.set_wakeup_fd(_heard.writer.fileno(), warn_on_full_buffer=False)  # asyncio takes it, and gives nothing back
    for number in ENDS:
        signal.signal(number, handler)
    _heard.writer.send(bytes([_ENOUGH]))
    _heard.thread.join()
    _heard.reader.setblocking(False)


def forget(loop: Loop) -> None:
    """The loop has ended: what is left to do is the end, and signals that would have more done do nothing. (The
    interpreter puts back what the kernel does by itself, which ends a process, but for what is ignored.)"""
    global _heard
    assert _heard is not None
    for number in _OTHERS:
        signal.signal(number, signal.SIG_IGN)
    signal.set_wakeup_fd(-1)
    loop.forget(_heard.reader.fileno())
    _heard.reader.close()
    _heard.writer.close()
    _heard = None


# --- in a forked child ----------------------------------------------------------------------------------------

_HEARD = {*ENDS, *_OTHERS}


_mask = threading.local()


def _hold_back() -> None:
    if _heard is not None:
        _mask.before = signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)


def _go_on() -> None:
    if _heard is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, _mask.before)


def _let_go() -> None:
    if _heard is not None:
        signal.set_wakeup_fd(-1)
        for number in _HEARD:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _go_on()


os.register_at_fork(before=_hold_back, after_in_parent=_go_on, after_in_child=_let_go)
