"""One client's bytes: the only place where a connected socket is touched.

What stands above (connection, output, ending) knows the contract `Transport` and nothing else: no `sendfile`, no
`MSG_PEEK`, no descriptor but the number that the loop waits for. So a transport may be a socket (`SocketTransport`), or
something in memory (tests/support/memory.py), or a socket with TLS on it.

The way of a plain hit has one `read` and one `send`, and each function of Python's on it costs half a percent of the
request. So both are the socket's own methods, bound once, and a transport says what it has to say as sockets do, by
exceptions: BlockingIOError is "not now, an event will tell", any other OSError is "the client is gone".
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import termios
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol, TypeAlias

Buffers: TypeAlias = Sequence[bytes | memoryview]

# Read at a time and thrown away (`discard`).
DISCARD_BYTES = 64 * 1024

# <linux/sockios.h>: how much of what was sent has not left (Python's modules have no name for it).
SIOCOUTQNSD = 0x894B

_discarded = bytearray(DISCARD_BYTES)
_NO_COUNT = struct.pack("i", 0)


class Transport(Protocol):
    """One client's bytes. Belongs to the loop's thread; nothing here waits.

    fd    the descriptor that the loop waits for; -1 when it is closed or released. The loop's registration is the
          owner's: it ends before `close` and `release`.
    peer  the client's address without a port, as the log names it; "unix:" for a unix socket
    """

    fd: int
    peer: str

    @property
    def read(self) -> Callable[[int], bytes]:
        """read(limit): at most `limit` bytes; b"" when the client has ended its side. A read of fewer than `limit`
        bytes has taken all that was there: an event tells of what comes next. After a full read, or where the event
        told that the client has ended its side, nothing tells, and the owner reads again.

        Raises BlockingIOError (nothing is there, an event will tell), OSError (the client is gone).
        """

    @property
    def send(self) -> Callable[[Buffers], int]:
        """send(buffers): how many bytes of them are taken, at least one, maybe not all.

        Raises BlockingIOError (none for now, an event will tell), OSError (the client is gone).
        """

    def send_before_file(self, buffers: Buffers, /) -> int:
        """As `send`; `send_file` follows at once, so that both may share a packet."""

    def send_file(self, fd: int, offset: int, length: int, /) -> int:
        """As `send`, with at most `length` bytes from `offset` of the file `fd`; 0 where the file ends before."""

    def has_unread(self) -> bool:
        """Whether the client has sent what was not read. False when it is gone."""

    def unacknowledged(self) -> int:
        """Bytes that were sent and that the client's machine does not have yet; a number that falls tells that the
        client reads. 0 when it is gone."""

    def unsent(self) -> int:
        """Bytes that were sent and have not left this machine, since the client's window is full, or the path's. The
        others arrive before any reset that a `close` may lead to. 0 when it is gone."""

    def end_output(self) -> bool:
        """Tell the client that nothing more comes (FIN), behind what was sent. False when it is gone."""

    def discard(self) -> int:
        """Read at most DISCARD_BYTES and throw them away: how many; 0 when the client has ended its side. Raises as
        `read`."""

    def addresses(self) -> tuple[object, object]:
        """The client's end and this one, as getpeername and getsockname tell them. Raises OSError when it is gone."""

    def close(self) -> None:
        """Give the descriptor back; harmless when repeated. Input that comes later, or that was not read, makes the
        kernel throw away what is still on its way to the client: see net/ending.py."""

    def release(self) -> int:
        """The descriptor, which is the caller's from now on: for the fast lane. Nothing may be left to send, here or in
        the transport."""


class SocketTransport:
    """A stream socket without anything between it and the client. `sock` is connected and does not block; a SocketType
    is enough, which is what Python's sockets are made of: to make and to close one of these costs 1.2 us less."""

    __slots__ = ("_sock", "fd", "peer", "read", "send")

    def __init__(self, sock: socket.SocketType, peer: str) -> None:
        self._sock = sock
        self.fd = sock.fileno()
        self.peer = peer
        self.read: Callable[[int], bytes] = sock.recv
        self.send: Callable[[Buffers], int] = sock.sendmsg

    @classmethod
    def of(cls, fd: int, peer: str) -> SocketTransport:
        """Of a connected descriptor that does not block. `peer` tells the family, which the kernel would tell by three
        calls."""
        family = socket.AF_INET6 if ":" in peer else socket.AF_INET
        return cls(socket.SocketType(socket.AF_UNIX if peer == "unix:" else family, socket.SOCK_STREAM, 0, fd), peer)

    def send_before_file(self, buffers: Buffers, /) -> int:
        """As `Transport.send_before_file`: the kernel holds an unfilled packet back (MSG_MORE, send(2))."""
        return self._sock.sendmsg(buffers, [], socket.MSG_MORE)

    def send_file(self, fd: int, offset: int, length: int, /) -> int:
        """As `Transport.send_file`, by sendfile(2)."""
        return os.sendfile(self.fd, fd, offset, length)

    def has_unread(self) -> bool:
        """As `Transport.has_unread` (FIONREAD, tcp(7))."""
        try:
            return fcntl.ioctl(self.fd, termios.FIONREAD, _NO_COUNT) != _NO_COUNT
        except OSError:
            return False

    def unacknowledged(self) -> int:
        """As `Transport.unacknowledged` (SIOCOUTQ, tcp(7))."""
        return self._count(termios.TIOCOUTQ)

    def unsent(self) -> int:
        """As `Transport.unsent`. A unix socket has no such count: what it takes is with the client."""
        return self._count(SIOCOUTQNSD)

    def _count(self, what: int) -> int:
        try:
            count: int = struct.unpack("i", fcntl.ioctl(self.fd, what, _NO_COUNT))[0]
        except OSError:
            return 0
        return count

    def end_output(self) -> bool:
        """As `Transport.end_output`."""
        with suppress(OSError):  # reset meanwhile
            self._sock.shutdown(socket.SHUT_WR)
            return True
        return False

    def discard(self) -> int:
        """As `Transport.discard`."""
        return self._sock.recv_into(_discarded)

    def addresses(self) -> tuple[object, object]:
        """As `Transport.addresses`."""
        return self._sock.getpeername(), self._sock.getsockname()

    def close(self) -> None:
        """As `Transport.close`."""
        self.fd = -1
        self._sock.close()

    def release(self) -> int:
        """As `Transport.release`."""
        self.fd = -1
        return self._sock.detach()
