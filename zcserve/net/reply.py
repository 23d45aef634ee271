"""Responses as segments: slices of precomputed heads behind the second's prefix (cache/heads.py tells the layout).

A `Reply` is everything behind the prefix. Its segments refer to memory that its `body` keeps.
"""

from __future__ import annotations

import itertools
import os
import time

from zcserve.cache import heads
from zcserve.cache.entry import Body, DiskSpan, Segment
from zcserve.http import format_date, status_line
from zcserve.net import spans
from zcserve.net.fields import CLOSE, KEEP, KEEP_10
from zcserve.phrases import PHRASES

ALLOW = b"Allow: GET, HEAD, OPTIONS\r\n"
VARY = b"Vary: Accept-Encoding\r\n"
RETRY = b"Retry-After: 1\r\n"  # in seconds
SERVER = b"zcserve"
# Of a page of HTML that was made here.
PAGE_FIELDS = b"Content-Type: text/html; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_CONNECTION = {KEEP: b"", KEEP_10: b"Connection: keep-alive\r\n", CLOSE: b"Connection: close\r\n"}


class Prefixes:
    """Status line, Server, Date and Connection of every response of the present second."""

    def __init__(self) -> None:
        self.second = 0
        self._made: dict[tuple[int, int], bytes] = {}
        self.ok: tuple[bytes, bytes, bytes] = (b"", b"", b"")
        self.refresh()

    def refresh(self) -> bool:
        """To be called each turn: Date is computed once a second. Whether it was."""
        second = int(time.time())
        if second == self.second:
            return False
        self.second = second
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
                format_date(self.second),
                _CONNECTION[mode],
            )
            self._made[status, mode] = prefix
        return prefix


class Reply:
    """A response without its prefix. `length` counts the content's bytes, for the log."""

    __slots__ = ("body", "length", "segments", "status")

    def __init__(self, status: int, segments: tuple[Segment, ...], length: int = 0, body: Body | None = None) -> None:
        self.status = status
        self.segments = segments
        self.length = length
        self.body = body

    def first_span(self) -> DiskSpan | None:
        """As `spans.first_span`."""
        return spans.first_span(self.segments, self.body)

    def begin(self, span: DiskSpan, piece: memoryview) -> None:
        """As `spans.begun`."""
        self.segments = spans.begun(self.segments, span, piece)

    def is_copied(self) -> bool:
        """Whether all of it is sent by copy, so that other responses go out with it."""
        return self.body.copied if self.body is not None else self.first_span() is None

    def dressed(self, status: int, fields: bytes) -> Reply:
        """With further header lines, and another status where it is a plain 200."""
        segments = (fields, *self.segments) if fields else self.segments
        return Reply(status if self.status == 200 else self.status, segments, self.length, self.body)


def whole(body: Body, *, with_content: bool) -> Reply:
    """200 with all of a representation, or its head alone."""
    if with_content:
        return Reply(200, body.whole(), body.size, body)
    return Reply(200, (body.head(),), 0, body)


def not_modified(body: Body) -> Reply:
    """304 (RFC 9110 section 15.4.5)."""
    head = body.head()
    return Reply(304, (head[heads.tail_start(head) :],), 0, body)


def partial(body: Body, ranges: tuple[tuple[int, int], ...]) -> Reply:
    """206 (RFC 9110 section 15.3.7) of one range, or of several as multipart/byteranges (section 14.6)."""
    head = body.head()
    rest = heads.lead_end(head)
    if len(ranges) == 1:
        start, stop = ranges[0]
        own = b"Content-Length: %d\r\nContent-Range: bytes %d-%d/%d\r\n" % (stop - start, start, stop - 1, body.size)
        return Reply(206, (own, head[rest:], body.part(start, stop)), stop - start, body)
    type_end = bytes(head).index(b"\r\n", rest) + 2
    content_type = bytes(head[rest:type_end])
    boundary = new_boundary()
    parts: list[Segment] = []
    length = 0
    for start, stop in ranges:
        part_head = b"\r\n--%b\r\n%bContent-Range: bytes %d-%d/%d\r\n\r\n" % (
            boundary, content_type, start, stop - 1, body.size,
        )  # fmt: skip
        parts += (part_head, body.part(start, stop))
        length += len(part_head) + stop - start
    end = b"\r\n--%b--\r\n" % boundary
    length += len(end)
    own = b"Content-Length: %d\r\nContent-Type: multipart/byteranges; boundary=%b\r\n" % (length, boundary)
    return Reply(206, (own, head[type_end:], *parts, end), length, body)


_boundary_stem = os.urandom(12).hex().encode()
_boundary_count = itertools.count()


def new_boundary() -> bytes:
    """Unguessable, so that no content can hold it on purpose (RFC 2046 section 5.1.1)."""
    return b"%b-%d" % (_boundary_stem, next(_boundary_count))


def redirect(location: bytes, query: bytes | None, *, with_content: bool) -> Reply:
    """301 to a directory with its slash, the query kept."""
    target = location if query is None else location + b"?" + query
    return page(301, with_content=with_content, extra=b"Location: %b\r\n" % target)


def options() -> Reply:
    """What a resource, or the server (`*`), can do (RFC 9110 section 9.3.7)."""
    return Reply(200, (ALLOW + b"Content-Length: 0\r\n\r\n",))


def unsatisfiable(size: int, *, extra: bytes = b"") -> Reply:
    """416 (RFC 9110 section 15.5.17)."""
    own = b"Content-Range: bytes */%d\r\nAccept-Ranges: bytes\r\n" % size
    return page(416, with_content=True, extra=own + extra)


def not_found(site_page: bytes | None, *, with_content: bool) -> Reply:
    """404, one and the same for what is absent and what is forbidden; with the site's own page if it has one."""
    if site_page is None:
        return page(404, with_content=with_content)
    head = _page_head(len(site_page), b"")
    return Reply(404, (head, site_page) if with_content else (head,), len(site_page) if with_content else 0)


def page(status: int, *, with_content: bool, extra: bytes = b"") -> Reply:
    """A small page that says the status, with further header lines `extra`."""
    content = page_content(status)
    head = _page_head(len(content), extra)
    return Reply(status, (head, content) if with_content else (head,), len(content) if with_content else 0)


def page_content(status: int, more: str = "") -> bytes:
    """What a page that says a status has in it; `more` is HTML."""
    title = f"{status} {PHRASES.get(status, '')}".rstrip()
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<h1>{title}</h1>{more}<p>zcserve</p></html>\n"
    ).encode()


def _page_head(length: int, extra: bytes) -> bytes:
    return b"Content-Length: %d\r\n%b%b\r\n" % (length, PAGE_FIELDS, extra)
