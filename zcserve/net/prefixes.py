"""What every HTTP/1 response of a second begins with: status line, Server, Date, Connection.

What stands behind it is the response's own (net/framing.py, cache/heads.py).
"""

from __future__ import annotations

import time

from zcserve.http import format_date, status_line
from zcserve.net.fields import CLOSE, KEEP, KEEP_10

SERVER = b"zcserve"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_CONNECTION = {KEEP: b"", KEEP_10: b"Connection: keep-alive\r\n", CLOSE: b"Connection: close\r\n"}


class Prefixes:
    """The prefixes of the present second."""

    def __init__(self) -> None:
        self.second = 0
        self._date = b""
        self._made: dict[tuple[int, int], bytes] = {}
        self.ok: tuple[bytes, bytes, bytes] = (b"", b"", b"")
        self.refresh()

    def refresh(self) -> bool:
        """To be called each turn: Date is computed once a second. Whether it was."""
        second = int(time.time())
        if second == self.second:
            return False
        self.second = second
        self._date = format_date(second)
        self._made.clear()
        self.ok = (self.of(200, KEEP), self.of(200, KEEP_10), self.of(200, CLOSE))
        return True

    def of(self, status: int, mode: int) -> bytes:
        """The prefix for a status and what becomes of the connection."""
        prefix = self._made.get((status, mode))
        if prefix is None:
            prefix = b"%bServer: %b\r\nDate: %b\r\n%b" % (
                status_line(status),
                SERVER,
                self._date,
                _CONNECTION[mode],
            )
            self._made[status, mode] = prefix
        return prefix
