"""A reply in HTTP/1's form: its field lines, and how a client knows where the content ends (RFC 9112 section 6.3).

By Content-Length where the length is known; else by chunks (section 7.1), or, for HTTP/1.0, by the connection's end.
What stands before that is the prefix (prefixes.py).
"""

from __future__ import annotations

from zcserve.cache.entry import DiskSpan, Segment, Span
from zcserve.cache.heads import ALL, encode_fields, start
from zcserve.http import WITHOUT_CONTENT, has_content
from zcserve.site.reply import Piece, Reply, Stream


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


def frame(reply: Reply, method: bytes, version: bytes) -> tuple[tuple[Segment, ...], int, Outgoing | None]:
    """What stands behind the prefix: the head, and the content where that is there; how many bytes of content those
    are; and the stream that follows, if one does. `method` and `version` are the request's: b"HTTP/1.1" knows chunks.
    """
    follows = has_content(method, reply.status)
    form = reply.form
    if form is None and isinstance(reply.content, bytes) and not reply.part:
        form = reply.form = _form_of(reply)
    if form is not None:
        return (form, len(form[-1]), None) if follows and len(form) > 1 else (form[:1], 0, None)
    content = reply.content
    head = _head_of(reply, version, is_whole=follows and content is None)
    if not follows or not content:
        if content is None and follows:
            assert reply.body is not None
            return head, reply.body.size, None
        if content:
            reply.discard()
        return head, 0, None
    if isinstance(content, bytes):
        content = (content,)
    if isinstance(content, tuple):
        return head + content, reply.length or 0, None
    chunked = reply.length is None and version == b"HTTP/1.1"
    return head, 0, Outgoing(content, reply.status, reply.length, chunked=chunked)


def _form_of(reply: Reply) -> tuple[bytes, ...]:
    """The head of a reply whose content is bytes, with no field of its body's; and the content, if there is any."""
    assert isinstance(reply.content, bytes)
    length = WITHOUT_CONTENT.get(reply.status, reply.length)  # RFC 9110 section 8.6
    lines = encode_fields(reply.fields)
    head = lines + b"\r\n" if length is None else b"Content-Length: %d\r\n%b\r\n" % (length, lines)
    if reply.added:
        head = encode_fields(reply.added) + head
    return (head, reply.content) if reply.content else (head,)


def _head_of(reply: Reply, version: bytes, *, is_whole: bool) -> tuple[Segment, ...]:
    """The head of any other reply; `is_whole`: with all that its body has behind it."""
    status, part = reply.status, reply.part
    lines = b""
    if part < ALL:  # else the length stands with what was made at load, or there is none
        length = WITHOUT_CONTENT.get(status, reply.length)
        lines = encode_fields(reply.fields)
        if length is not None:
            lines = b"Content-Length: %d\r\n%b" % (length, lines)
        elif version == b"HTTP/1.1" and status not in WITHOUT_CONTENT and reply.is_stream:
            lines = b"Transfer-Encoding: chunked\r\n" + lines
    if reply.added:
        lines = encode_fields(reply.added) + lines
    if not part:
        head = (lines + b"\r\n",)
        if not (reply.content or reply.length):
            reply.form = head
        return head
    body = reply.body
    assert body is not None
    if is_whole:
        return (lines, *body.whole()) if lines else body.whole()
    made_at_load = body.head()
    rest = made_at_load if part == ALL else made_at_load[start(made_at_load, part) :]
    return (lines, rest) if lines else (rest,)
