"""HTTP/1's framing of an application's answers: how a client knows where the content ends (RFC 9112 section 6.3).

By Content-Length where the length is known; else by chunks (section 7.1), or, for HTTP/1.0, by the connection's end.
"""

from __future__ import annotations

from zcserve.cache.entry import DiskSpan, Segment, Span
from zcserve.net.exchange import BODILESS, Answer, Piece, Stream
from zcserve.net.reply import Reply


class CutShortError(Exception):
    """A stream ended before its promised length."""


class Outgoing:
    """A stream on its way, and its framing: chunks (RFC 9112 section 7.1), a promised length, or the connection's end.
    `sent` counts bytes of content; `last` tells that the connection ends with it."""

    def __init__(self, stream: Stream, status: int, length: int | None, *, chunked: bool) -> None:
        self.stream = stream
        self.status = status
        self.sent = 0
        self.last = length is None and not chunked
        self.ended = False
        self._left = length
        self._chunked = chunked

    def frame(self, piece: Piece) -> tuple[Segment, ...]:
        """The segments that a piece becomes. Raises CutShortError. What exceeds the promised length is left out."""
        size = piece.length if isinstance(piece, (Span, DiskSpan)) else len(piece)
        if self._left is not None:
            if size > self._left:
                piece, size = _cut(piece, self._left), self._left
            self._left -= size
            if self._left and not size:
                raise CutShortError
            self.ended = not self._left
        else:
            self.ended = not size
        self.sent += size
        if not self._chunked:
            return (piece,) if size else ()
        return (b"%x\r\n" % size, piece, b"\r\n") if size else (b"0\r\n\r\n",)


def _cut(piece: Piece, length: int) -> Piece:
    if isinstance(piece, Span):
        return Span(piece.fd, piece.offset, length)
    if isinstance(piece, DiskSpan):
        return type(piece)(piece.file, piece.offset, length)
    return piece[:length]


def frame(made: Answer, *, has_content: bool, chunks: bool) -> tuple[Reply, Outgoing | None]:
    """An answer's head with its content, where that is there; or its head alone with what frames the stream that
    follows.

    has_content  whether content follows a head at all (it does not for HEAD)
    chunks       whether the client knows them (HTTP/1.1)
    """
    is_bodiless = made.status in BODILESS
    framing = b""
    if made.length is not None and not is_bodiless:  # RFC 9110 section 8.6
        framing = b"Content-Length: %d\r\n" % made.length
    elif chunks and not is_bodiless and not isinstance(made.content, (bytes, tuple)):
        framing = b"Transfer-Encoding: chunked\r\n"
    head = framing + made.fields + b"\r\n"
    content = made.content
    if isinstance(content, (bytes, tuple)):
        length = made.length if has_content and not is_bodiless and made.length is not None else 0
        segments = (content,) if isinstance(content, bytes) else content
        return Reply(made.status, (head, *segments) if length else (head,), length, made.body), None
    if not has_content or is_bodiless:
        content.close()
        return Reply(made.status, (head,)), None
    return Reply(made.status, (head,)), Outgoing(
        content, made.status, made.length, chunked=made.length is None and chunks
    )
