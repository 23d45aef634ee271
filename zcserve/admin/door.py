"""The admin listener's socket: few connections, accepted by Python, watched by the server's loop.

They are no clients: they count against no limit of the public port, and the server's end waits for none of them. Of
more than CONNECTIONS_MAX the one that was idle longest is closed; where all are busy, who comes waits in the kernel.
One that ends is one of them until its descriptor is free: else a flood of clients that say nothing would take those of
the public port.
"""

from __future__ import annotations

import os
import socket
import struct
from contextlib import suppress
from dataclasses import replace
from math import inf

from zcserve.cache.fetcher import Fetcher
from zcserve.config.addresses import TcpAddress, UnixAddress
from zcserve.config.table import Config
from zcserve.config.units import MIB
from zcserve.errors import UsageError, reason_of
from zcserve.log import Log
from zcserve.net.bodies import Allowance
from zcserve.net.connection import Connection
from zcserve.net.front import Kind
from zcserve.net.inherited import Inherited
from zcserve.net.listener import EXHAUSTED, bind, is_awaited, let_inherit
from zcserve.net.loop import Loop
from zcserve.net.prefixes import Prefixes
from zcserve.net.request import Parser
from zcserve.net.service import Service
from zcserve.net.timers import Deadline
from zcserve.net.transport import SocketTransport
from zcserve.site.site import Site

_log = Log(__name__)

# Dashboards, probes, scrapers and shells of one node.
CONNECTIONS_MAX = 64
BACKLOG = 128
# A unix socket is its owner's.
SOCKET_MODE = 0o600
# Where there is no room, or no descriptor is left, it is tried again after this many seconds.
RETRY_S = 0.25
# What waits in the kernel for one client, who may have a page open in a machine that sleeps: some seconds of it.
SEND_BUFFER_BYTES = 64 * 1024
# Bodies of requests that are under way together.
BODIES_BYTES_MAX = 128 * MIB
_PEER_CREDENTIALS = struct.Struct("3i")  # SO_PEERCRED (unix(7)): process, user, group


def service_of(config: Config, loop: Loop, prefixes: Prefixes, fetcher: Fetcher, site: Site) -> Service:
    """What the connections of an admin listener share. They have the server's limits, but those that are about many
    clients."""
    own = replace(config, connections_max=CONNECTIONS_MAX, access_log="", app_timeout_s=0.0, unknown_host="default")
    return Service(
        config=own,
        loop=loop,
        parser=Parser(own),
        prefixes=prefixes,
        fetcher=fetcher,
        sites=(site,),
        bodies=Allowance(BODIES_BYTES_MAX),
        kind=Kind.STREAM,
    )


class Door:
    """A listening socket in the loop. Raises UsageError where it cannot be had."""

    def __init__(self, address: TcpAddress | UnixAddress, service: Service, inherited: Inherited | None = None) -> None:
        """`inherited` are the sockets that a process before this one has left, or systemd has lent."""
        self._service = service
        self._loop = service.loop
        self._sock, *others = bind(address, inherited)
        for other in others:  # "localhost" may be two: one is enough
            other.close()
        self._is_unix = isinstance(address, UnixAddress)
        self._is_lent = inherited is not None and inherited.name_of(self._sock) is not None
        self.port = 0 if isinstance(address, UnixAddress) else address.port  # as asked for
        self._retry = Deadline(self._accept)
        try:
            if isinstance(address, UnixAddress) and not self._is_lent:
                os.chmod(address.path, SOCKET_MODE)
            if not self._is_unix:
                let_inherit(self._sock, service.config.write_timeout_s)
            self._sock.listen(BACKLOG)
        except OSError as error:
            raise UsageError(f"admin: cannot listen on {address}: {reason_of(error)}") from None
        self._loop.add(self._sock.fileno(), lambda _: self._accept())
        service.closed.subscribe(self._again)

    @property
    def sock(self) -> socket.socket:
        """For what says where it listens."""
        return self._sock

    def fileno(self) -> int:
        """The socket's descriptor; -1 once it is closed."""
        return self._sock.fileno()

    def _again(self) -> None:
        self._loop.again(self._accept)

    def _accept(self) -> None:
        self._retry.at = inf
        while self._sock.fileno() >= 0:
            if self._service.count() >= CONNECTIONS_MAX:
                if not is_awaited(self._sock):
                    return
                if not self._make_room():
                    self._retry_later()
                    return
            try:
                sock, _ = self._sock.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in EXHAUSTED:
                    _log.warning("admin: accept failed: %s; tried again in %g s", reason_of(error), RETRY_S)
                    self._retry_later()
                    return
                continue
            self._welcome(sock)

    def _retry_later(self) -> None:
        """No event tells when there is room: one that is busy may be idle then."""
        self._retry.at = self._loop.now + RETRY_S
        self._loop.timers.arm(self._retry)

    def _make_room(self) -> bool:
        """Close what is at its end and has arrived. If that is not enough, end one that is idle: it may take a while
        until that has arrived, so as many may be at their end as may be here."""
        service = self._service
        for ending in list(service.endings):
            if ending.has_arrived():
                ending.close()
        return service.count() < CONNECTIONS_MAX or (service.count() < 2 * CONNECTIONS_MAX and self._shed_idlest())

    def _shed_idlest(self) -> bool:
        idle = [one for one in self._service.connections if one.may_be_shed(0.0)]
        idle.sort(key=lambda one: one.idle_since)
        return any(one.shed() for one in idle)

    def _welcome(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        peer = self._peer_of(sock)
        bare = socket.SocketType(sock.family, sock.type, sock.proto, sock.detach())
        transport = SocketTransport(bare, peer)
        try:
            Connection(self._service, transport)
        except OSError as error:
            _log.error("admin: a connection cannot be watched: %s", reason_of(error))
            transport.close()

    def _peer_of(self, sock: socket.socket) -> str:
        """Who it is, for the log: an address, or a process and its user."""
        if not self._is_unix:
            with suppress(OSError):
                return str(sock.getpeername()[0])
            return "unknown"
        process, user, _ = _PEER_CREDENTIALS.unpack(
            sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
        )
        return f"process {process} of user {user}"

    def close(self, *, handed_over: bool = False) -> None:
        """Accept no more."""
        if self._sock.fileno() < 0:
            return
        path = self._sock.getsockname() if self._is_unix and not (handed_over or self._is_lent) else None
        self._loop.forget(self._sock.fileno())
        self._sock.close()
        if path is not None:
            with suppress(OSError):
                os.unlink(path)

    def end(self) -> None:
        """Close it, and all that has come through it."""
        self.close()
        for connection in list(self._service.connections):
            connection.end()
        for ending in list(self._service.endings):
            ending.close()
