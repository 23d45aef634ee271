"""Deferral: the kernel tells of a new client when that has sent something (TCP_DEFER_ACCEPT, tcp(7)).

Otherwise most clients are accepted before their request is there: that takes another recv, a registration with epoll,
and an event more for each. A client that sends nothing is told of after DEFER_S. Until then it takes some hundred
bytes of the kernel's, and is neither counted nor timed here. Nothing would close it sooner: it has `FRESH_S` to ask.

Odd: what is kept back goes with its listener, and is reset when it asks. So a server that stops has the kernel say
whether there is any (`let_in`; sock_diag.py), and keeps the listener open for as long as such clients may still ask.
"""

from __future__ import annotations

import socket
import struct

from zcserve.net.sock_diag import ask
from zcserve.net.states import FRESH_S

# In seconds. The kernel counts in its own steps, of which this is the first: one second, then it asks the client again.
DEFER_S = 1
# After so long none is kept back any more: the kernel's timer comes up to a tenth late, and its question takes a round
# trip.
LET_IN_S = FRESH_S + 0.25

# linux/inet_diag.h. One such request gets all sockets of a state and a port.
_SYN_RECV = 1 << 3
_REQUEST = struct.Struct("=BBBxI")  # family, protocol, extensions, states; behind it the socket's ports and the rest
_PORTS = struct.Struct("!HH44x")


def defer(listener: socket.socket) -> None:
    """Have a TCP listener tell of clients that have sent something, and of others after DEFER_S."""
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, DEFER_S)


def let_in(listener: socket.socket) -> bool:
    """Have a TCP listener tell of new clients at once. Whether there may be any that was kept back: it is told of when
    it sends something, or within LET_IN_S."""
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 0)
    try:
        return _is_any_kept(listener)
    except OSError:  # a sandbox without sock_diag
        return True


def _is_any_kept(listener: socket.socket) -> bool:
    """Whether the kernel has clients of this port that are not established yet. Raises OSError."""
    asked = _REQUEST.pack(listener.family, socket.IPPROTO_TCP, 0, _SYN_RECV) + _PORTS.pack(listener.getsockname()[1], 0)
    return any(True for _ in ask(asked))
