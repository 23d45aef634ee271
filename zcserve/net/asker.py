"""What a request tells the protocol that it came by: an answer is there, or a step failed; and what it asks it."""

from __future__ import annotations

from typing import Protocol

from zcserve.forwarded import Origin
from zcserve.site.exchange import Head


class Asker(Protocol):
    """What began a request: an HTTP/1 connection."""

    @property
    def origin(self) -> Origin | None:
        """What a trusted proxy says of the request; None: nothing."""

    @property
    def client(self) -> str:
        """The client's address without a port, "unix:" for a unix socket: the peer's, or what a trusted proxy says."""

    def addresses(self) -> tuple[object, object]:
        """As `Transport.addresses`."""

    def head(self) -> Head:
        """What else the request at hand says, for an application."""

    def resumed(self) -> None:
        """What a step of None waited for is there, and `Answering.go_on` may be called, now or later. Once for each
        such step, in the loop's thread, never from inside a call of the asker's."""

    def fail(self) -> None:
        """A step raised: the request is not to be trusted."""
