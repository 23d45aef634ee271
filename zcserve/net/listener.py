"""Accepting: a listening socket, and what to do when nothing more can be accepted.

Edge-triggered, a listener is told once of a queue that fills: after an accept that was not the last one (EAGAIN) no
event comes. So a listener that stops early, for its turn's share, for want of descriptors or at the connection limit,
is *starved* until it has seen EAGAIN, and is tried again in the next turn, when a connection closes, or a little later.

At the limit, endings whose clients have everything are closed, and then the connections that have been idle longest;
last of these the ones whose first request may be on its way.
Where descriptors are short, resident bodies that hold one are evicted first (`--in-place`), and only idle connections
that are older than `FRESH_S` are closed; while all are younger, new clients wait in the kernel's queue. When no
connection is idle, the descriptor held in reserve takes one client at a time out of the queue, to answer it with 503.
The log says what was closed and refused (shortage.py).

A front with several threads looks for idle connections in each, and cannot say at once: the client waits until the
front reports the listener again.

A client whose machine has vanished sends no FIN. The kernel finds that out: by probes where nothing is on its way
(keepalive), and by TCP_USER_TIMEOUT where something is, which is the kernel's own `--write-timeout`. Accepted sockets
inherit both from their listener, so they cost nothing for each connection. Nor does a client that has sent nothing yet,
for the kernel keeps it back a while (deferral.py).

A listening socket may come from another process (inherited.py). Then two processes have it until one closes, and only
the last may remove a unix socket's name.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import select
import socket
import time
from collections.abc import Callable
from itertools import islice
from math import inf

from zcserve.config.addresses import Address, FdAddress, UnixAddress
from zcserve.errors import UsageError, reason_of
from zcserve.log import Log
from zcserve.net.connection import Connection
from zcserve.net.deferral import defer, let_in
from zcserve.net.ending import Ending
from zcserve.net.fields import CLOSE
from zcserve.net.framing import frame
from zcserve.net.front import Kind
from zcserve.net.inherited import Inherited, close
from zcserve.net.service import Service
from zcserve.net.shortage import CONNECTIONS, DESCRIPTORS, Want
from zcserve.net.states import FRESH_S
from zcserve.net.transport import SocketTransport, Transport
from zcserve.net.unix_names import bind_unix
from zcserve.site import reply

_log = Log(__name__)

# Accepted in a turn, as long as all of it has not taken so many seconds: a burst of new clients must not hold up the
# clients that are here, and each of them has its requests in the turns that follow.
ACCEPTS_PER_TURN = 64
ACCEPTING_S = 0.002
# But so many in any case: what holds a turn up keeps new clients out no longer than it must.
ACCEPTS_MIN = 8
# When nothing frees a descriptor that we would hear of (another process does), look again after this many seconds.
RETRY_S = 0.1
# Connections closed together to make room: finding the idlest looks at all of them.
SHED_BATCH = 16
# A silent connection is probed after this time, and then this often, until TCP_USER_TIMEOUT or this many probes are
# over. Linux begins after two hours; below half a minute the radio of a telephone would not get to sleep.
KEEPALIVE_AFTER_S = 45
KEEPALIVE_EVERY_S = 15
KEEPALIVE_PROBES = 4

# What names an address.
FLAGS = "--port or --listen"

# Errors of accept(2) for want of descriptors or memory: a client may be there, and is to be tried again.
EXHAUSTED = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
# The client, or its network, is gone already (accept(2)): the next one may be well.
_GONE = frozenset((
    errno.ECONNABORTED, errno.EPROTO, errno.ENETDOWN, errno.ENOPROTOOPT, errno.EHOSTDOWN, errno.ENONET,
    errno.EHOSTUNREACH, errno.EOPNOTSUPP, errno.ENETUNREACH, errno.EPERM,
))  # fmt: skip


def bind(address: Address, inherited: Inherited | None = None, flags: str = FLAGS) -> list[socket.socket]:
    """Bound sockets for an address, one for each that its host name stands for; not yet listening, but for those that
    are taken from `inherited`. `flags` are those that name another address. Raises UsageError."""
    listeners: list[socket.socket] = []
    inherited = inherited or Inherited()
    try:
        if isinstance(address, FdAddress):
            return inherited.take_named(address.name)
        if isinstance(address, UnixAddress):
            return [inherited.take(socket.AF_UNIX, address.path) or bind_unix(address.path, flags)]
        kind, passive = socket.SOCK_STREAM, socket.AI_PASSIVE
        found = socket.getaddrinfo(address.host or None, address.port, type=kind, flags=passive)
        port = address.port
        for family, kind, protocol, _, where in dict.fromkeys(found):
            taken = inherited.take(family, str(where[0]), port)
            if taken is None and inherited.covers(str(where[0]), port):
                continue
            sock = taken or socket.socket(family, kind, protocol)
            listeners.append(sock)
            if taken is None:
                _bind_tcp(sock, (where[0], port, *where[2:]))
            port = sock.getsockname()[1]  # "localhost:0" is one port on both its addresses
        return listeners
    except OSError as error:
        for sock in listeners:
            sock.close()
        raise UsageError(f"cannot listen on {address}: {reason_of(error)}{_advice(error, flags)}") from None


def _advice(error: OSError, flags: str = FLAGS) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"; another program has it: stop that, or choose another with {flags}"
    if error.errno == errno.EACCES:
        return f"; ports below 1024 need privileges: choose another with {flags}"
    return ""


def _bind_tcp(sock: socket.socket, where: tuple[object, ...]) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.bind(where)
    sock.setblocking(False)


def _nothing() -> int:
    """A descriptor that is of no use, and is to be had where there is no /dev/null, too."""
    return os.open("/", os.O_PATH | os.O_CLOEXEC)


class Reserve:
    """One descriptor kept for the moment when there are no others."""

    def __init__(self) -> None:
        self._fd = _nothing()
        self._closed = False

    def lend(self) -> bool:
        """Give the descriptor up for something that will need one; False where it is lent already."""
        is_here = self._fd >= 0
        if is_here:
            os.close(self._fd)
            self._fd = -1
        return is_here

    def take_back(self) -> None:
        """What it was lent for is done."""
        if self._fd < 0 and not self._closed:
            with contextlib.suppress(OSError):  # another was quicker: the next one that is freed will do
                self._fd = _nothing()

    def close(self) -> None:
        """Give the descriptor up for good."""
        self._closed = True
        self.lend()


def let_inherit(listener: socket.socket, write_timeout_s: float) -> None:
    """Set what every accepted socket of a TCP listener has from the beginning."""
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_AFTER_S)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_EVERY_S)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(write_timeout_s * 1000))


def is_awaited(listener: socket.socket) -> bool:
    """Whether a client is in the kernel's queue: no room is made for one that may never come."""
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    return bool(poll.poll(0))


class Listener:
    """One listening socket in the loop. `shed_descriptor` frees a descriptor that content holds, if any does; `lent` is
    what systemd calls a socket of its own, which outlives this process.

    Raises UsageError when another program began to listen at the address meanwhile.
    """

    def __init__(
        self,
        sock: socket.socket,
        service: Service,
        reserve: Reserve,
        shed_descriptor: Callable[[], bool],
        lent: str | None = None,
    ) -> None:
        self._sock = sock
        self.lent = lent
        self._service = service
        self._loop = service.loop
        self._reserve = reserve
        self._shed_descriptor = shed_descriptor
        self._family = int(sock.family)
        self._is_tcp = sock.family != socket.AF_UNIX
        self._round = -1  # of the loop, in which it accepted last
        self._starved = False
        self._short_of: Want | None = None  # what the front was asked for last
        self._is_asking = False  # it looks for connections to close, and will tell
        self._retry_at = inf
        self.armed = inf
        try:
            sock.listen(service.config.backlog)
        except OSError as error:
            where = sock.getsockname()
            raise UsageError(f"cannot listen on {where}: {reason_of(error)}{_advice(error)}") from None
        if self._is_tcp:
            let_inherit(sock, service.config.write_timeout_s)
            defer(sock)
        self._loop.add(sock.fileno(), self._on_readable, Kind.LISTENER)

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
        if self._round == self._loop.rounds:
            self._loop.again(self._accept_on)  # an event and a step came together: one turn has one share
            return
        self._round = self._loop.rounds
        if self._short_of is not None and (shed := self._loop.front.shed(0)):
            self._has_shed(self._short_of, shed)
        until = self._loop.now + ACCEPTING_S
        for count in range(ACCEPTS_PER_TURN):
            if count >= ACCEPTS_MIN and time.monotonic() > until:
                break
            if self._service.count() >= self._service.config.connections_max:
                if not is_awaited(self._sock):
                    return
                if not (self._shed_endings() or self._shed_idlest(0.0, self._too_many_connections())):
                    if not self._is_asking:
                        self._service.shortage.note(self._too_many_connections(), self._loop.now)
                    self._starve()
                    return
                continue  # another lane may have taken the room that was made
            try:
                fd, peer = self._sock._accept()  # type: ignore[attr-defined]
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _GONE:
                    continue
                if error.errno not in EXHAUSTED:
                    _log.error("accept failed: %s", reason_of(error))
                elif not is_awaited(self._sock):
                    return  # accept(2) takes a descriptor before it looks whether a client is there
                if not self._make_room():
                    self._starve()
                    return
                continue
            self._welcome(fd, peer)
        self._loop.again(self._accept_on)

    def _welcome(self, fd: int, peer: object) -> None:
        self._service.tally.accepted += 1
        transport = self._transport_of(fd, peer)
        try:
            Connection(self._service, transport)
            self._loop.front.introduce(fd, self._family, transport.peer)
        except OSError as error:  # epoll's own limit (fs.epoll.max_user_watches)
            _log.error("a connection cannot be watched: %s", reason_of(error))
            transport.close()

    def _transport_of(self, fd: int, peer: object) -> Transport:
        """What was accepted, and from where."""
        sock = socket.SocketType(self._family, socket.SOCK_STREAM, self._sock.proto, fd)
        sock.setblocking(False)
        return SocketTransport(sock, str(peer[0]).partition("%")[0] if isinstance(peer, tuple) else "unix:")

    def _starve(self) -> None:
        self._starved = True
        self._retry_at = self._loop.now + RETRY_S
        self._loop.timers.arm(self)

    def _make_room(self) -> bool:
        """Free a descriptor, or turn one client away."""
        if self._shed_descriptor() or self._shed_endings() or self._shed_idlest(FRESH_S, self._short_of_descriptors()):
            return True
        if self._is_asking:
            return False
        now = self._loop.now
        if any(connection.clock.idle_since <= now for connection in self._service.connections):
            self._service.shortage.note(self._short_of_descriptors(), now)
        else:
            self._refuse()
        return False

    def _refuse(self) -> None:
        """Take a client out of the queue with the descriptor in reserve, and tell it 503. The descriptor comes back
        when the client has read that."""
        if not self._reserve.lend():
            return
        try:
            fd, peer = self._sock._accept()  # type: ignore[attr-defined]
        except OSError:
            self._reserve.take_back()
            return
        service = self._service
        service.shortage.note(self._short_of_descriptors(), self._loop.now, refused=1)
        service.tally.accepted += 1
        transport = self._transport_of(fd, peer)
        segments, length, _ = frame(reply.unavailable(), b"GET", b"")
        prefix = service.prefixes.of(503, CLOSE)
        service.tally.no_sites.note(503, b"")
        if service.log is not None:
            service.log(transport.peer, b"", b"", None, 503, length)
        try:
            service.tally.no_sites.bytes_sent += transport.send([prefix, *segments])  # type: ignore[list-item]
            Ending(self._service, transport, watched=False, freed=self._reserve.take_back)
        except OSError:
            transport.close()
            self._reserve.take_back()

    def _too_many_connections(self) -> Want:
        return Want(CONNECTIONS, f"--connections-max ({self._service.config.connections_max}) is reached")

    def _short_of_descriptors(self) -> Want:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return Want(DESCRIPTORS, f"no descriptor is left (the process may have {limit}: ulimit -n, LimitNOFILE=)")

    def _shed_endings(self) -> bool:
        """Close endings whose clients have everything, and do not close by themselves; False when there is none."""
        arrived = (ending for ending in list(self._service.endings) if ending.has_arrived())
        count = 0
        for ending in islice(arrived, SHED_BATCH):
            ending.close()
            count += 1
        return bool(count)

    def _shed_idlest(self, age_s: float, want: Want) -> bool:
        """Close the connections that have been idle longest; False when none is idle. A connection that is younger than
        `age_s` is spared, one that was not heard yet has `FRESH_S` in any case, and so is one to which an answer is
        still on its way. One whose first request may be on its way goes after all that had their answer."""
        service = self._service
        self._short_of = want
        shed = self._loop.front.shed(SHED_BATCH)
        if shed:
            self._has_shed(want, shed)
            return True
        self._is_asking = shed is None
        if self._is_asking:
            return False
        now = self._loop.now
        idle = [connection for connection in service.connections if connection.clock.may_be_shed(age_s)]
        idle.sort(key=lambda connection: (connection.clock.claim, connection.clock.idle_since))
        count = sum(connection.shed() for connection in idle[: min(SHED_BATCH, len(idle) // 2 + 1)])
        if count:
            service.shortage.note(want, now, shed=count)
        return bool(count)

    def _has_shed(self, want: Want, shed: int) -> None:
        """The front has closed so many connections."""
        self._is_asking = False
        self._service.shortage.note(want, self._loop.now, shed=shed)

    def _accept_last(self) -> None:
        """Accept those in the queue, as far as there is room."""
        for _ in range(self._service.config.backlog):
            if self._service.count() >= self._service.config.connections_max:
                return
            try:
                fd, peer = self._sock._accept()  # type: ignore[attr-defined]
            except OSError as error:
                if error.errno in _GONE:
                    continue
                return
            self._welcome(fd, peer)

    def fileno(self) -> int:
        """The socket's descriptor; -1 once it is closed."""
        return self._sock.fileno()

    def let_in(self) -> bool:
        """As `deferral.let_in`: whether clients are kept back that closing would reset."""
        return self._is_tcp and self.lent is None and self._sock.fileno() >= 0 and let_in(self._sock)

    def close(self, *, handed_over: bool = False) -> None:
        """Accept no more. Clients in the kernel's queue are accepted by the process that the socket was handed over to,
        or that systemd lends it next; or else here, as the last ones: closing would reset them."""
        if self._sock.fileno() < 0:
            return
        handed_over = handed_over or self.lent is not None
        if not handed_over:
            self._accept_last()
            with contextlib.suppress(OSError):  # a program that was to take over may have the socket, and hang
                self._sock.shutdown(socket.SHUT_RDWR)
        self._loop.forget(self._sock.fileno())
        close(self._sock, keep_name=handed_over)
