"""Waiting for descriptors: edge-triggered epoll from the standard library.

Everything is registered once, for reading and writing at the same time, so that no request costs an epoll_ctl. All
else of a front's contract is what `Front` does: nothing.
"""

from __future__ import annotations

import select
from contextlib import suppress

from zcserve.net.front import Front, Kind

READ, WRITE, HANG_UP, ERROR = select.EPOLLIN, select.EPOLLOUT, select.EPOLLRDHUP | select.EPOLLHUP, select.EPOLLERR
_OF_CLIENT = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
_OF_SOURCE = select.EPOLLIN | select.EPOLLET
_STREAMS = (Kind.CLIENT, Kind.STREAM)

# Events taken from the kernel at a time: enough to spread the cost of the call, few enough to keep turns short.
EVENTS_MAX = 256


class Poller(Front):
    """An epoll descriptor: the front of the general lane."""

    def __init__(self) -> None:
        self._epoll = select.epoll(flags=select.EPOLL_CLOEXEC)

    def poll(self, timeout: float) -> list[tuple[int, int]]:
        """As `Front.poll`."""
        return self._epoll.poll(timeout, EVENTS_MAX)

    def watch(self, fd: int, kind: Kind) -> None:
        """As `Front.watch`."""
        self._epoll.register(fd, _OF_CLIENT if kind in _STREAMS else _OF_SOURCE)

    def forget(self, fd: int) -> None:
        """As `Front.forget`."""
        with suppress(OSError):
            self._epoll.unregister(fd)

    def descriptors(self) -> list[int]:
        """As `Front.descriptors`."""
        return [] if self._epoll.closed else [self._epoll.fileno()]

    def close(self) -> None:
        """As `Front.close`."""
        self._epoll.close()
