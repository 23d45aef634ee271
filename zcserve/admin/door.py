"""The admin listener's socket: few connections, accepted by Python, watched by the server's loop.

They are no clients: they count against no limit of the public port, and the server's end waits for none of them. One
that ends is one of them until its descriptor is free: else a flood of clients that say nothing would take those of the
public port.

A probe must be answered whatever all others do. So of more than CONNECTIONS_MAX one makes way for each newcomer, and
is closed at once: the one with the least claim (`Claim`). That is one that had its answer, or that the node waits
for (for the rest of a request, or to read); then a stream, the longest first; then what came a moment ago and has said
nothing. Only an answer that is being made keeps its place, and of these there are fewer (application.py, WAITING_MAX).
A first request that is there already is read before its client may have to go: so a flood of others delays it, by a
turn of the loop for some dozens of them, and does not push it out.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Iterator
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
from zcserve.net.inherited import Inherited, close
from zcserve.net.listener import ACCEPTING_S, ACCEPTS_MIN, ACCEPTS_PER_TURN, EXHAUSTED, bind, is_awaited, let_inherit
from zcserve.net.loop import Loop
from zcserve.net.prefixes import Prefixes
from zcserve.net.request import Parser
from zcserve.net.service import Claim, Connected, Service
from zcserve.net.timers import Deadline
from zcserve.net.transport import SocketTransport
from zcserve.site.site import Site

_log = Log(__name__)

# Dashboards, probes, scrapers and shells of one node, and as many that come anew.
CONNECTIONS_MAX = 128
# Newcomers that the kernel keeps meanwhile: some floods of them.
BACKLOG = 1024
# A unix socket is its owner's.
SOCKET_MODE = 0o600
# Where no descriptor is left, it is tried again after this many seconds.
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
        try:
            self._sock, *others = bind(address, inherited, "--admin")
        except UsageError as error:
            raise UsageError(f"admin: {error}") from None
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
            close(self._sock, keep_name=self._is_lent)
            raise UsageError(f"admin: cannot listen on {address}: {reason_of(error)}") from None
        self._round = -1  # of the loop, in which it accepted last
        self._loop.add(self._sock.fileno(), lambda _: self._accept())

    @property
    def sock(self) -> socket.socket:
        """For what says where it listens."""
        return self._sock

    def fileno(self) -> int:
        """The socket's descriptor; -1 once it is closed."""
        return self._sock.fileno()

    def _accept(self) -> None:
        self._retry.at = inf
        if self._round == self._loop.rounds:
            self._loop.again(self._accept)  # an event and a step came together: one turn has one share
            return
        self._round = self._loop.rounds
        leaving: Iterator[Connected] | None = None  # in their order
        until = self._loop.now + ACCEPTING_S
        for count in range(ACCEPTS_PER_TURN):
            if count >= ACCEPTS_MIN and time.monotonic() > until:
                break
            if self._sock.fileno() < 0:
                return
            if self._service.count() >= CONNECTIONS_MAX:
                if not is_awaited(self._sock):
                    return
                leaving = leaving or self._by_claim()
                if not (self._close_ending() or any(one.make_way() for one in leaving)):
                    break  # what all have said is read first
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
        self._loop.again(self._accept)

    def _retry_later(self) -> None:
        """No event tells when there is a descriptor again."""
        self._retry.at = self._loop.now + RETRY_S
        self._loop.timers.arm(self._retry)

    def _by_claim(self) -> Iterator[Connected]:
        """Those that may have to make way, in their order."""
        claims = (((one.clock.claim, one.clock.since), one) for one in self._service.connections)
        found = [(claim, one) for claim, one in claims if claim[0] is not Claim.OWED]
        found.sort(key=lambda claimed: claimed[0])
        return (one for _, one in found)

    def _close_ending(self) -> bool:
        """Close one that has its answer already, best one whose client's kernel has all of it."""
        endings = self._service.endings
        ending = next((one for one in endings if one.has_arrived()), None) or next(iter(endings), None)
        if ending is None:
            return False
        ending.close()
        return True

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
        self._loop.forget(self._sock.fileno())
        close(self._sock, keep_name=handed_over or self._is_lent)

    def end(self) -> None:
        """Close it, and all that has come through it."""
        self.close()
        for connection in list(self._service.connections):
            connection.end()
        for ending in list(self._service.endings):
            ending.close()
