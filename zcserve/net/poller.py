"""Waiting for descriptors: edge-triggered epoll from the standard library.

This is the contract that the loop knows, and that the compiled lane (`_lane.pyx`) offers in its place: `poll` reports
what needs attention, `register` begins to watch. Edge-triggered means that a report is not repeated: what gets one
reads until EAGAIN or a short read, and writes until EAGAIN, or remembers that it has not. Everything is registered
once, for reading and writing at the same time, so that no request costs an epoll_ctl.
"""

from __future__ import annotations

import select
from contextlib import suppress

READ, WRITE, HANG_UP, ERROR = select.EPOLLIN, select.EPOLLOUT, select.EPOLLRDHUP | select.EPOLLHUP, select.EPOLLERR
_STREAM = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
_SOURCE = select.EPOLLIN | select.EPOLLET

# Events taken from the kernel at a time: enough to spread the cost of the call, few enough to keep turns short.
EVENTS_MAX = 256


class Poller:
    """An epoll descriptor."""

    def __init__(self) -> None:
        self._epoll = select.epoll(flags=select.EPOLL_CLOEXEC)
        self.turn = 0  # how often it was waited

    def poll(self, timeout: float) -> list[tuple[int, int]]:
        """Ready descriptors with what they are ready for; waits at most `timeout` seconds (-1: without end)."""
        self.turn += 1
        return self._epoll.poll(timeout, EVENTS_MAX)

    def register(self, fd: int, *, stream: bool) -> None:
        """Watch a connection (`stream`), or something that is only ever read: a listener, a wake-up."""
        self._epoll.register(fd, _STREAM if stream else _SOURCE)

    def forget(self, fd: int) -> None:
        """Stop watching a descriptor that is about to be closed: its open file may live on in another process."""
        with suppress(OSError):
            self._epoll.unregister(fd)

    def descriptors(self) -> list[int]:
        """Its own descriptors, and those of connections that no handler knows."""
        return [] if self._epoll.closed else [self._epoll.fileno()]

    def close(self) -> None:
        """Stop watching."""
        self._epoll.close()
