"""What the head of a request says, for an application: HTTP/1's way to tell it, read when it is asked for.

Most servlets ask for nothing of it. The head was judged before (request.py): nothing here can be malformed.
"""

from __future__ import annotations

from zcserve.http import FieldLines


class SentHead:
    """As `exchange.Head`, of the bytes of HTTP/1: the request line and the field lines, as sent, with the empty line.
    Two threads that ask at once read it twice."""

    __slots__ = ("_lines", "_version", "sent")

    def __init__(self, sent: bytes) -> None:
        self.sent = sent
        self._version = b""
        self._lines: FieldLines = ()

    @property
    def version(self) -> bytes:
        """As `Head.version`."""
        self._read()
        return self._version

    @property
    def lines(self) -> FieldLines:
        """As `Head.lines`."""
        self._read()
        return self._lines

    def _read(self) -> None:
        if self._version:
            return
        first, *rest = self.sent.strip(b"\r\n").split(b"\r\n")  # empty lines may come first (RFC 9112 section 2.2)
        self._lines = tuple([(name, value.strip(b" \t")) for name, _, value in [line.partition(b":") for line in rest]])
        self._version = first.rpartition(b" ")[2]
