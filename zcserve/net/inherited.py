"""Listening sockets that another process opened: the one before this (upgrade.py), or systemd (activation.py).

Each is taken by the address that it is bound to, or by the name that systemd has for it, instead of bound anew, with
the clients that wait in its queue.

What systemd passes is lent: it has the socket, too, and gives it to the next process. So this one neither shuts it down
nor removes a unix socket's name; clients in its queue wait for the next process.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping

from zcserve.config.addresses import FdAddress, TcpAddress, UnixAddress
from zcserve.errors import UsageError
from zcserve.net.unix_names import give_back


class Inherited:
    """Such sockets, until they are taken."""

    def __init__(self, sockets: Iterable[tuple[int, int]] = (), lent: Mapping[int, str] | None = None) -> None:
        """`sockets` are descriptors, each with the port that was asked for, which may have been 0 (any); of those that
        are `lent`, the names."""
        names = lent or {}
        self._waiting = [(socket.socket(fileno=fd), port) for fd, port in sockets]
        self._names = {sock: names[sock.fileno()] for sock, _ in self._waiting if sock.fileno() in names}
        self._taken: set[socket.socket] = set()
        self._aside: set[socket.socket] = set()

    def set_aside(self, address: TcpAddress | UnixAddress) -> None:
        """The lent socket of this address is not for whoever takes all of them."""
        self._aside |= {sock for sock in self._names if address_of(sock) == address}

    @property
    def has_lent(self) -> bool:
        """Whether systemd has passed any that are for whoever takes all of them."""
        return not self._names.keys() <= self._aside

    def take(self, family: int, host: str, port: int = 0) -> socket.socket | None:
        """The socket of this address (of a unix socket, `host` is the path), or None: it was not bound before."""
        for sock, asked in self._waiting:
            where = sock.getsockname()
            bound = (where, 0) if family == socket.AF_UNIX else (where[0], where[1])
            if sock.family == family and host == bound[0] and port in (asked, bound[1]):
                self._take(sock)
                return sock
        return None

    def take_named(self, name: str) -> list[socket.socket]:
        """Those that systemd has by this name, or all that are left where it is "". Raises UsageError where there is
        none."""
        lent = [sock for sock, _ in self._waiting if sock in self._names]
        found = [sock for sock in lent if (name == self._names[sock] if name else sock not in self._aside)]
        if not found:
            raise self._refusal(name)
        for sock in found:
            self._take(sock)
        return found

    def find_named(self, name: str) -> TcpAddress | UnixAddress:
        """Where the one that systemd has by this name is bound. Raises UsageError where there is not one alone."""
        found = [sock for sock, known in self._names.items() if known == name]
        if len(found) != 1:
            raise self._refusal(name)
        return address_of(found[0])

    def _refusal(self, name: str) -> UsageError:
        passed = " ".join(sorted({f"fd:{one}" for one in self._names.values()})) or "none"
        return UsageError(f"cannot listen on {FdAddress(name)}: systemd passed no such socket; passed: {passed}")

    def _take(self, sock: socket.socket) -> None:
        self._waiting = [(other, asked) for other, asked in self._waiting if other is not sock]
        self._taken.add(sock)
        sock.setblocking(False)

    def covers(self, host: str, port: int) -> bool:
        """Whether an IPv6 socket has the clients of this IPv4 address as well, as systemd's has of a port alone."""
        sockets = [*self._taken, *(sock for sock, _ in self._waiting)]
        return host == "0.0.0.0" and any(
            sock.family == socket.AF_INET6
            and sock.getsockname()[:2] == ("::", port)
            and not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
            for sock in sockets
        )

    def name_of(self, sock: socket.socket) -> str | None:
        """What systemd calls it; None: it is not lent."""
        return self._names.get(sock)

    def refuse_left(self) -> None:
        """Raises UsageError where a lent socket was not taken: its clients would wait without end."""
        for sock, _ in self._waiting:
            if sock in self._names and sock not in self._aside:
                name = self._names[sock]
                raise UsageError(
                    f"systemd passed a socket at {address_of(sock)} ({name}), which is not listened on: "
                    f"name it by --listen {address_of(sock)} or --listen {FdAddress(name)}, or give no address at all"
                )

    def unbind(self, sock: socket.socket) -> None:
        """Close a socket that `bind` gave and that is not listened on after all."""
        close(sock, keep_name=sock in self._taken)

    def close(self) -> None:
        """Close those that were not taken: their addresses are not used any more."""
        while self._waiting:
            sock, _ = self._waiting.pop()
            close(sock, keep_name=sock in self._names)


def address_of(sock: socket.socket) -> TcpAddress | UnixAddress:
    """Where a socket is bound."""
    where = sock.getsockname()
    return UnixAddress(where) if sock.family == socket.AF_UNIX else TcpAddress(where[0], where[1])


def close(sock: socket.socket, *, keep_name: bool = False) -> None:
    """Close a listening socket, and remove the name of a unix socket where that is still its own."""
    if sock.family == socket.AF_UNIX and not keep_name:
        give_back(sock)
    else:
        sock.close()
