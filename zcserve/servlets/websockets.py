"""What answers a client that asks a servlet or an application for a WebSocket (RFC 6455): 501, and a line in the log.

To ignore the wish would be lawful (RFC 9110 section 7.8). But then the application is called for a request that it does
not expect, and a browser does not say what it got. A client that gets no WebSocket comes again every few seconds, so
the log has a line for many.
"""

from __future__ import annotations

import time
from math import inf

from zcserve.log import Log
from zcserve.site.exchange import Answer, Exchange
from zcserve.site.reply import new_page

_log = Log(__name__)

# Seldom enough for a log that people read, often enough to be seen while an application is tried.
TOLD_EVERY_S = 60.0

_PAGE = new_page(501, (), "<p>WebSockets are not spoken here.</p>")


class NoWebSockets:
    """A `Resource`. One for all targets, in the loop's thread."""

    body_bytes_max = 0

    def __init__(self) -> None:
        self._told_at = -inf
        self._untold = 0

    def respond(self, exchange: Exchange) -> Answer | None:
        """501 (RFC 9110 section 15.6.2)."""
        now = time.monotonic()
        if now - self._told_at < TOLD_EVERY_S:
            self._untold += 1
            return _PAGE
        more = f"; {self._untold} more since the last line" if self._untold else ""
        self._told_at, self._untold = now, 0
        _log.warning(
            "%s asks for a WebSocket, which zcserve does not speak, and is answered 501: have a proxy in front send "
            "this path to a server that does%s",
            f"{exchange.method.decode('latin-1')} {exchange.target.decode('latin-1')}",
            more,
        )
        return _PAGE
