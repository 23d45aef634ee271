"""The end of a connection: what was sent arrives, whatever the client still sends.

A socket that is closed while input lies in it unread, or that gets input after it was closed, is reset by the kernel,
and a reset throws away what is still queued for the client (RFC 9112 section 9.6). So a connection whose answer may not
have arrived ends in two steps: its sending half is closed (the client reads the end behind the answer), and what the
client sends is read and thrown away until one of these comes:

    the client closes        nothing can be lost any more
    the queue is empty       the client's kernel has the answer; `linger_timeout_s` later the socket is closed, or at
                             once where the client has said that it sends no more, and has kept to it
    the queue does not fall  for `write_timeout_s`: the client reads nothing

The FIN is the queue's last byte. When it is acknowledged an event says that the socket is writable, as it was before;
none tells that the queue falls, so it is looked at a few times in a linger timeout.

By then the connection object is gone, and an `Ending` has the socket: it is small, knows no HTTP, and is counted among
the open connections. `may_close` tells when the second step can be left out.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from zcserve.net.poller import ERROR
from zcserve.net.service import Service
from zcserve.net.timers import SLOTS_PER_S
from zcserve.net.transport import Transport

# How often the queue is looked at in a linger timeout: the timeout is kept to a quarter of itself.
LOOKS = 4


def may_close(transport: Transport, *, says_no_more: bool | None) -> bool:
    """Whether a connection can be closed at once and everything that was sent still arrives.

    True   the client has closed its side, or has said that it will (`Connection: close`, RFC 9112 section 9.6). It is
           relied upon for what is under way: should it send on all the same, the reset stands behind the answer
    False  it may be sending: the server ends what the client would go on with
    None   it is idle
    """
    if says_no_more is False or transport.has_unread():
        return False
    return not (transport.unsent() if says_no_more else transport.unacknowledged())


class Ending:
    """A transport of which nothing more is wanted, until the client has what was sent.

    `watched` tells that the loop has the descriptor already; `says_no_more` is True of `may_close`; `freed` hears that
    the descriptor is free again.
    """

    __slots__ = ("_freed", "_look_at", "_loop", "_queued", "_says_no_more", "_service", "_since", "_transport", "armed")

    def __init__(
        self,
        service: Service,
        transport: Transport,
        *,
        watched: bool,
        says_no_more: bool = False,
        freed: Callable[[], None] = lambda: None,
    ) -> None:
        """Closes the sending half. Raises OSError where it cannot be watched; it is closed then."""
        self._service = service
        self._loop = service.loop
        self._transport = transport
        self._says_no_more = says_no_more
        self._freed = freed
        self._queued = 0
        self._since = self._loop.now  # of the last progress
        self._look_at = self._loop.now
        self.armed = inf
        if watched:
            self._loop.handlers[transport.fd] = self._on_event
        else:
            try:
                self._loop.add(transport.fd, self._on_event, service.kind)
            except OSError:
                transport.close()
                raise
        service.endings.add(self)
        if not transport.end_output():
            self._loop.again(self.close)
            return
        self._queued = transport.unacknowledged()
        self._look_later()
        self._loop.again(self._read_on)

    def _on_event(self, mask: int) -> None:
        if mask & ERROR:
            self.close()
        else:
            self._read_on()

    def _read_on(self) -> None:
        """Throw away a piece of what has come; the rest in the next turns."""
        if self._transport.fd < 0:
            return
        try:
            count = self._transport.discard()
        except BlockingIOError:
            self.expire()  # the FIN may be acknowledged
            return
        except OSError:
            count = 0
        if count:
            self._says_no_more = False
            self._loop.again(self._read_on)
        else:
            self.close()

    def _look_later(self) -> None:
        config = self._service.config
        wait = 0.0 if self._service.hurried else min(config.linger_timeout_s, config.write_timeout_s) / LOOKS
        self._look_at = self._loop.now + max(wait, 1 / SLOTS_PER_S)
        self._loop.timers.arm(self)

    def due(self) -> float:
        """When the queue is looked at."""
        return self._look_at

    def expire(self) -> None:
        """Look whether the client has everything, or reads at all."""
        config, now = self._service.config, self._loop.now
        queued = self._transport.unacknowledged()
        if queued < self._queued:
            self._queued = queued
            self._since = now
        is_over = self._says_no_more or self._service.hurried
        limit = config.write_timeout_s if queued else 0.0 if is_over else config.linger_timeout_s
        if now - self._since >= limit:
            self.close()
        else:
            self._look_later()

    def has_arrived(self) -> bool:
        """Whether the client's kernel has all that was sent."""
        return not self._transport.unacknowledged()

    def hurry(self) -> None:
        """The server ends: wait no longer than until everything has arrived."""
        self._look_later()

    def fail(self) -> None:
        """A step raised."""
        self.close()

    def close(self) -> None:
        """Give the descriptor back; harmless when repeated."""
        if self._transport.fd < 0:
            return
        self._loop.forget(self._transport.fd)
        self._loop.timers.disarm(self)
        self._transport.close()
        self._service.endings.discard(self)
        self._freed()
        self._service.closed()
