"""The sockets that this process has open: those of clients and of the servers in it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import suppress


def own_sockets() -> Iterator[tuple[int, socket.socket]]:
    """Each one's descriptor, and a copy, which is closed when the next one is asked for, unless it was detached."""
    for name in os.listdir("/proc/self/fd"):
        copy = _copy_of(int(name))
        if copy is not None:
            with copy:
                yield int(name), copy


def peer_of(sock: socket.socket) -> object:
    """The address of the other end; None: it is not connected."""
    with suppress(OSError):
        return sock.getpeername()
    return None


def _copy_of(fd: int) -> socket.socket | None:
    """None: it is no socket, or closed since."""
    with suppress(OSError):
        if os.readlink(f"/proc/self/fd/{fd}").startswith("socket:"):
            copy = os.dup(fd)
            try:
                # `socket.dup` would make the server's blocking: that is a property of what both descriptors refer to.
                return socket.socket(fileno=copy)
            except OSError:  # another file has the number since
                os.close(copy)
    return None
