"""Accepting: a listening socket, and what to do when nothing more can be accepted.

Edge-triggered, a listener is told once of a queue that fills: whoever does not accept until EAGAIN must come back on
his own. So a listener that stops early, for its turn's share, for want of descriptors or at the connection limit, is
*starved* until it has seen EAGAIN, and is tried again in the next turn, when a connection closes, or a little later.

At the limit the longest idle connection makes room. Where descriptors are short, resident bodies that hold one go
first (`--in-place`), then idle connections; when nobody is idle, the descriptor held in reserve takes one client at a
time out of the queue to tell it 503.

A listening socket may come from the process before (upgrade.py): it is taken instead of bound anew, with the clients
that wait in its queue. Then two processes have it until one closes, and only the last may remove a unix socket's name.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import stat
from collections.abc import Callable, Iterable, Iterator
from math import inf

from zcserve.config import Address, UnixAddress
from zcserve.errors import UsageError
from zcserve.log import Log
from zcserve.net import reply
from zcserve.net.connection import Connection, Service
from zcserve.net.request import CLOSE

_log = Log(__name__)

# Accepted in a turn: a burst of new clients must not hold up those who are served.
ACCEPTS_PER_TURN = 64
# When nothing frees a descriptor that we would hear of (another process does), look again after this many seconds.
RETRY_S = 0.1
# Connections closed together to make room: finding the idlest looks at all of them.
SHED_BATCH = 16

_EXHAUSTED = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
# The client, or its network, is gone already (accept(2)): the next one may be well.
_GONE = frozenset((
    errno.ECONNABORTED, errno.EPROTO, errno.ENETDOWN, errno.ENOPROTOOPT, errno.EHOSTDOWN, errno.ENONET,
    errno.EHOSTUNREACH, errno.EOPNOTSUPP, errno.ENETUNREACH, errno.EPERM,
))  # fmt: skip


class Inherited:
    """Listening sockets that another process opened, each to be taken by the address that it is bound to."""

    def __init__(self, sockets: Iterable[tuple[int, int]] = ()) -> None:
        """`sockets` are descriptors, each with the port that was asked for, which may have been 0 (any)."""
        self._waiting = [(socket.socket(fileno=fd), port) for fd, port in sockets]
        self._taken: set[socket.socket] = set()

    def take(self, family: int, host: str, port: int = 0) -> socket.socket | None:
        """The socket of this address (of a unix socket, `host` is the path), or None: nobody bound it before."""
        for sock, asked in self._waiting:
            where = sock.getsockname()
            bound = (where, 0) if family == socket.AF_UNIX else (where[0], where[1])
            if sock.family == family and host == bound[0] and port in (asked, bound[1]):
                self._waiting.remove((sock, asked))
                self._taken.add(sock)
                sock.setblocking(False)
                return sock
        return None

    def unbind(self, sock: socket.socket) -> None:
        """Close a socket that `bind` gave and that nobody listens on after all."""
        _close(sock, keep_name=sock in self._taken)

    def close(self) -> None:
        """Close those that nobody took: no address of ours."""
        while self._waiting:
            _close(self._waiting.pop()[0])


def _close(sock: socket.socket, *, keep_name: bool = False) -> None:
    path = sock.getsockname() if sock.family == socket.AF_UNIX and not keep_name else None
    sock.close()
    if isinstance(path, str):
        with contextlib.suppress(OSError):
            os.unlink(path)


def bind(address: Address, inherited: Inherited | None = None) -> list[socket.socket]:
    """Bound sockets for an address, one for each that its host name stands for; not yet listening, but for those that
    are taken from `inherited`. Raises UsageError."""
    listeners: list[socket.socket] = []
    inherited = inherited or Inherited()
    try:
        if isinstance(address, UnixAddress):
            return [inherited.take(socket.AF_UNIX, address.path) or _bind_unix(address.path)]
        flags = socket.AI_PASSIVE
        found = socket.getaddrinfo(address.host or None, address.port, type=socket.SOCK_STREAM, flags=flags)
        port = address.port
        for family, kind, protocol, _, where in dict.fromkeys(found):
            taken = inherited.take(family, str(where[0]), port)
            sock = taken or socket.socket(family, kind, protocol)
            listeners.append(sock)
            if taken is None:
                _bind_tcp(sock, (where[0], port, *where[2:]))
            port = sock.getsockname()[1]  # "localhost:0" is one port on both its addresses
        return listeners
    except OSError as error:
        for sock in listeners:
            sock.close()
        raise UsageError(f"cannot listen on {address}: {error.strerror or error}{_advice(error)}") from None


def _advice(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "; another program has it: stop that, or choose another with --port or --listen"
    if error.errno == errno.EACCES:
        return "; ports below 1024 need privileges: choose another with --port or --listen"
    return ""


def _bind_tcp(sock: socket.socket, where: tuple[object, ...]) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.bind(where)
    sock.setblocking(False)


def _bind_unix(path: str) -> socket.socket:
    """A unix socket; one that nobody listens on any more is replaced."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(path)
    except OSError as error:
        if error.errno != errno.EADDRINUSE or not _is_stale(path):
            sock.close()
            raise
        os.unlink(path)
        sock.bind(path)
    sock.setblocking(False)
    return sock


def _is_stale(path: str) -> bool:
    if not stat.S_ISSOCK(os.stat(path).st_mode):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return False


class Reserve:
    """One descriptor kept for the moment when there are no others."""

    def __init__(self) -> None:
        self._fd = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)

    @contextlib.contextmanager
    def lend(self) -> Iterator[None]:
        """Give the descriptor up for the length of a `with`."""
        self.close()
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                self._fd = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        """Give the descriptor up."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Listener:
    """One listening socket in the loop. `shed_descriptor` frees a descriptor that content holds, if any does.

    Raises UsageError when another program began to listen at the address meanwhile.
    """

    def __init__(
        self, sock: socket.socket, service: Service, reserve: Reserve, shed_descriptor: Callable[[], bool]
    ) -> None:
        self._sock = sock
        self._service = service
        self._loop = service.loop
        self._reserve = reserve
        self._shed_descriptor = shed_descriptor
        self._is_tcp = sock.family != socket.AF_UNIX
        self._starved = False
        self._retry_at = inf
        self.armed = inf
        try:
            sock.listen(service.config.backlog)
        except OSError as error:
            where = sock.getsockname()
            raise UsageError(f"cannot listen on {where}: {error.strerror}{_advice(error)}") from None
        lane = service.lane
        if lane is None:
            self._loop.add(sock.fileno(), self._on_readable)
        else:
            # The lane accepts by itself, and reports when it cannot. What is set here its clients inherit.
            if self._is_tcp:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._loop.handlers[sock.fileno()] = self._on_readable
            lane.register_listener(sock.fileno())

    def due(self) -> float:
        """When a starved listener is tried again in any case."""
        return self._retry_at

    def expire(self) -> None:
        """Try again."""
        self._retry_at = inf
        self.retry()

    def retry(self) -> None:
        """A connection closed, so that a starved listener may go on; in the next turn, for all the closing is done
        then."""
        if self._starved:
            self._starved = False
            self._loop.again(self._accept_on)

    def _accept_on(self) -> None:
        if self._sock.fileno() >= 0:
            self._on_readable(0)

    def _on_readable(self, _: int) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            if self._service.count() >= self._service.config.connections_max:
                if not self._is_awaited():
                    return
                if not self._shed_idlest():
                    self._starve()
                    return
            try:
                fd, peer = self._sock._accept()  # type: ignore[attr-defined]
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _GONE:
                    continue
                if error.errno not in _EXHAUSTED:
                    _log.error("accept failed: %s", error.strerror)
                elif not self._is_awaited():
                    return  # accept(2) takes a descriptor before it looks whether anybody is there
                if not self._make_room():
                    self._starve()
                    return
                continue
            self._welcome(fd, peer)
        self._loop.again(self._accept_on)

    def _is_awaited(self) -> bool:
        """Whether a client is in the kernel's queue: nobody makes room for one who may never come."""
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return bool(poll.poll(0))

    def _welcome(self, fd: int, peer: object) -> None:
        sock = socket.socket(self._sock.family, socket.SOCK_STREAM, self._sock.proto, fileno=fd)
        sock.setblocking(False)
        if self._is_tcp:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            host = str(peer[0]).partition("%")[0] if isinstance(peer, tuple) else "unix:"
            Connection(self._service, sock, host)
            lane = self._service.lane
            if lane is not None:
                packed = socket.inet_pton(sock.family, host) if self._is_tcp else b""
                lane.introduce(fd, sock.family, packed)
        except OSError as error:  # epoll's own limit (fs.epoll.max_user_watches)
            _log.error("a connection cannot be watched: %s", error.strerror)
            sock.close()

    def _starve(self) -> None:
        self._starved = True
        self._retry_at = self._loop.now + RETRY_S
        self._loop.timers.arm(self)

    def _make_room(self) -> bool:
        """Free a descriptor, or turn one client away."""
        if self._shed_descriptor() or self._shed_idlest():
            return True
        with self._reserve.lend():
            try:
                fd, _ = self._sock._accept()  # type: ignore[attr-defined]
            except OSError:
                return False
            with socket.socket(self._sock.family, socket.SOCK_STREAM, self._sock.proto, fileno=fd) as sock:
                made = reply.page(503, with_content=True, extra=b"Retry-After: 1\r\n")
                prefix = self._service.prefixes.of(503, CLOSE)
                with contextlib.suppress(OSError):
                    sock.setblocking(False)
                    sock.sendmsg([prefix, *made.segments])  # type: ignore[list-item]
        return False

    def _shed_idlest(self) -> bool:
        """Close the connections that have been idle longest; False when none is idle. Who came in this turn has not
        been heard yet."""
        lane = self._service.lane
        if lane is not None and lane.shed(min(SHED_BATCH, lane.count // 2 + 1)):
            return True
        now = self._loop.now
        idle = [connection for connection in self._service.connections if connection.idle_since < now]
        idle.sort(key=lambda connection: connection.idle_since)
        shed = False
        for connection in idle[: min(SHED_BATCH, len(idle) // 2 + 1)]:
            if connection.is_silent():
                connection.close()
                shed = True
        return shed

    def fileno(self) -> int:
        """The socket's descriptor; -1 once it is closed."""
        return self._sock.fileno()

    def close(self, *, handed_over: bool = False) -> None:
        """Accept no more. Clients still in the kernel's queue are refused by it, or accepted by whoever the socket was
        handed over to."""
        if self._sock.fileno() < 0:
            return
        self._loop.forget(self._sock.fileno())
        _close(self._sock, keep_name=handed_over)
