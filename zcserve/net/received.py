"""A request's body as it is received: where it ends (RFC 9112 sections 6 and 7), and what is done with its bytes.

`Discard` throws a body away, so that the next request is found behind it; `Collect` keeps it for an application. Both
are handed bytes and know no connection. bodies.py counts what all bodies take together.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from io import BytesIO

from zcserve.errors import HttpError
from zcserve.http import FIELD_VALUE_BYTES, is_token
from zcserve.net.bodies import Hold
from zcserve.net.fields import CHUNKED

# A chunk's size line with its extensions (RFC 9112 section 7.1.1); no client of ours needs more.
CHUNK_LINE_BYTES_MAX = 1024

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*+"'
_CHUNK_LINE = re.compile(
    rb"([0-9A-Fa-f]{1,16})(?:[ \t]*+;[ \t]*+%b(?:[ \t]*+=[ \t]*+(?:%b|%b))?)*+" % (_TOKEN, _TOKEN, _QUOTED)
)


class Discard:
    """A request's body that is thrown away.

    `feed` takes the bytes that belong to the body and tells where it stopped; what it leaves it wants again, with more
    behind it. `done` tells that the body is complete, `taken` how much of its content has come, `lines` how many chunks
    and trailers have begun. A client may send chunks of one byte, each for some microseconds of our time: so `feed` is
    given a share of lines, and `rests` tells that it stopped for that alone. Raises HttpError 400 for bad chunks, 413
    beyond `bytes_max`.
    """

    # What the next bytes are. A function of the class: a bound method would refer back to its object, and what is in
    # such a circle waits for the garbage collector, body and all.
    _step: Callable[[Discard, bytes, int], int]

    def __init__(self, length: int, bytes_max: int, trailer_bytes_max: int) -> None:
        if length > bytes_max:
            raise HttpError(413, f"a body of more than {bytes_max} bytes", close=True)
        self.done = length == 0
        self.rests = False
        self.taken = self.lines = 0
        self._chunked = length == CHUNKED
        self._left = 0 if self._chunked else length
        self._allowed = bytes_max
        self._trailer_allowed = trailer_bytes_max
        self._step = Discard._size_line if self._chunked else Discard._data
        self.expect(self._left)

    def expect(self, count: int) -> None:
        """`count` bytes of content are announced. May raise HttpError: the body is refused."""

    def take(self, data: bytes, start: int, stop: int) -> None:
        """Content, of which nothing is kept here."""

    def feed(self, data: bytes, at: int, lines_max: int) -> int:
        """Consume from `data[at:]`, of chunks and trailers `lines_max`; returns the offset behind what was consumed."""
        lines_max += self.lines
        self.rests = False
        while not self.done:
            if self.lines >= lines_max and self._step is not Discard._data and at < len(data):
                self.rests = True
                break
            behind = self._step(self, data, at)
            if behind < 0:
                break
            at = behind
        return at

    def _data(self, data: bytes, at: int) -> int:
        if at == len(data):
            return -1
        taken = min(self._left, len(data) - at)
        self._left -= taken
        self.taken += taken
        self.take(data, at, at + taken)
        if not self._left:
            self.done = not self._chunked
            self._step = Discard._data_end
        return at + taken

    def _data_end(self, data: bytes, at: int) -> int:
        line, behind = self._line(data, at, 0)
        if behind >= 0 and line:
            raise HttpError(400, "a chunk longer than its size", close=True)
        self._step = Discard._size_line if behind >= 0 else Discard._data_end
        return behind

    def _size_line(self, data: bytes, at: int) -> int:
        line, behind = self._line(data, at, CHUNK_LINE_BYTES_MAX)
        if behind < 0:
            return behind
        match = _CHUNK_LINE.fullmatch(line)
        if match is None:
            raise HttpError(400, "a bad chunk size or extension", close=True)
        self._left = int(match[1], 16)
        self.lines += 1
        self._allowed -= self._left
        if self._allowed < 0:
            raise HttpError(413, "a body that is too long", close=True)
        self.expect(self._left)
        self._step = Discard._data if self._left else Discard._trailer
        return behind

    def _trailer(self, data: bytes, at: int) -> int:
        line, behind = self._line(data, at, self._trailer_allowed)
        if behind < 0:
            return behind
        self.lines += 1
        self._trailer_allowed -= behind - at
        name, colon, value = line.partition(b":")
        if not line:
            self.done = True
        elif not colon or not is_token(name) or value.translate(None, FIELD_VALUE_BYTES):
            raise HttpError(400, "a bad trailer", close=True)
        return behind

    def _line(self, data: bytes, at: int, bytes_max: int) -> tuple[bytes, int]:
        """The line at `at` and the offset behind its CRLF, or -1 when it is not complete."""
        end = data.find(b"\r\n", at)
        line = data[at:end] if end >= 0 else data[at:].removesuffix(b"\r")
        if len(line) > bytes_max or line.translate(None, FIELD_VALUE_BYTES):
            raise HttpError(400, "a bad line in a chunked body", close=True)
        return line, end + 2 if end >= 0 else -1


class Collect(Discard):
    """A request's body, kept for the resource that wants it; `hold` counts what is announced. Raises HttpError 503 when
    all bodies together would be too much."""

    def __init__(self, length: int, bytes_max: int, trailer_bytes_max: int, hold: Hold) -> None:
        self._content = BytesIO()  # which gives its bytes away without a copy
        self.hold = hold
        super().__init__(length, bytes_max, trailer_bytes_max)

    def expect(self, count: int) -> None:
        """As `Discard.expect`."""
        self.hold.grow(count)

    def take(self, data: bytes, start: int, stop: int) -> None:
        """Keep a piece of content."""
        self._content.write(memoryview(data)[start:stop])

    def content(self) -> bytes:
        """All of it, once it is done."""
        return self._content.getvalue()
