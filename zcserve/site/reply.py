"""What a request is answered with: a status, fields, content. How that is written is for the protocol alone.

Fields that were made at load (cache/heads.py) are named by the part of them that the reply has, and not copied. Fields
made for this one reply are names and values. Neither has what the protocol adds: Date, Server, Connection, and the
length or another framing of the content. Nor is it decided here whether content follows: the reply to a HEAD has the
content that the reply to a GET has.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from functools import cache, lru_cache
from types import NoneType
from typing import Protocol, TypeAlias

from zcserve.cache import heads, spans
from zcserve.cache.entry import Body, DiskSpan, Segment
from zcserve.cache.heads import ALL, BUT_LENGTH, BUT_TYPE, TAIL
from zcserve.http import FieldLines
from zcserve.phrases import PHRASES
from zcserve.rules import protected
from zcserve.rules.compiled import NO_FIELDS, HeadFields

ALLOW: FieldLines = ((b"Allow", b"GET, HEAD, OPTIONS"),)
VARY: FieldLines = ((b"Vary", b"Accept-Encoding"),)
RETRY: FieldLines = ((b"Retry-After", b"1"),)  # in seconds
# Of HTML that was made here.
HTML_FIELDS: FieldLines = (
    (b"Content-Type", b"text/html; charset=utf-8"),
    (b"X-Content-Type-Options", b"nosniff"),
)
# The length of no content stands behind Allow.
_OPTIONS_FIELDS: FieldLines = (*ALLOW, (b"Content-Length", b"0"))

Piece: TypeAlias = Segment
Give: TypeAlias = Callable[["Piece | None"], None]


class Stream(Protocol):
    """Content that comes piece by piece, each when the one before is out: the client sets the pace."""

    def pull(self, give: Give) -> None:
        """Have the next piece brought. `give` is called once, in the loop's thread, now or later: with a piece, with
        b"" at the end, or with None when it failed, so that the response is cut short. Must not raise."""

    def close(self) -> None:
        """No more is wanted. Called once, in the loop's thread, after the end, too; a piece may be on its way. Must not
        raise."""


class Reply:
    """A response. An application's may be sent to several clients, and is not changed.

    status   200 to 599 (RFC 9110 section 15)
    fields   its own; checked, and without what the protocol adds
    content  bytes; or segments; or a stream; None: all that `body` has
    length   the content's, in bytes; of bytes it is known. None: not known, or not told
    body     whose memory the content refers to; None: the content's own
    part     which of the body's fields it has, behind its own: `heads.ALL`, ...; 0: none of them
    added    fields that stand in front of all others: an application's, of a file that it sends
    form     how a protocol writes it, kept by that for the next time; None: not written yet, or not worth keeping
    """

    __slots__ = ("added", "body", "content", "fields", "form", "length", "part", "status")

    def __init__(
        self,
        status: int,
        fields: FieldLines = (),
        content: bytes | tuple[Segment, ...] | Stream | None = b"",
        length: int | None = None,
        body: Body | None = None,
        part: int = 0,
    ) -> None:
        self.status = status
        self.fields = fields
        self.content = content
        self.length = len(content) if isinstance(content, bytes) else length
        self.body = body
        self.part = part
        self.added: FieldLines = ()
        self.form: tuple[bytes, ...] | None = None

    @property
    def is_stream(self) -> bool:
        """Whether the content comes piece by piece."""
        return not isinstance(self.content, (bytes, tuple, NoneType))

    def first_span(self) -> DiskSpan | None:
        """As `spans.first_span`."""
        content = self.content
        if content is None and self.body is not None:
            content = self.body.whole()
        if not isinstance(content, tuple) or not self.length:
            return None
        return spans.first_span(content, self.body)

    def begin(self, span: DiskSpan, piece: memoryview) -> None:
        """As `spans.begun`."""
        content = (span,) if self.content is None else self.content
        assert isinstance(content, tuple)
        self.content = spans.begun(content, span, piece)

    def dressed(self, status: int, fields: FieldLines) -> Reply:
        """This with further fields, and with another status where it is a plain 200."""
        own = self.status if self.status != 200 else status
        dressed = Reply(own, self.fields, self.content, self.length, self.body, self.part)
        dressed.added = fields
        return dressed

    def discard(self) -> None:
        """It is not sent."""
        if self.content is not None and not isinstance(self.content, (bytes, tuple)):
            self.content.close()


def whole(body: Body) -> Reply:
    """200 with all of a representation."""
    return Reply(200, (), None, body.size, body, ALL)


def not_modified(body: Body) -> Reply:
    """304 (RFC 9110 section 15.4.5)."""
    return Reply(304, (), (), None, body, TAIL)


def partial(body: Body, ranges: tuple[tuple[int, int], ...]) -> Reply:
    """206 (RFC 9110 section 15.3.7) of one range, or of several as multipart/byteranges (section 14.6)."""
    if len(ranges) == 1:
        start, stop = ranges[0]
        own = ((b"Content-Range", b"bytes %d-%d/%d" % (start, stop - 1, body.size)),)
        return Reply(206, own, (body.part(start, stop),), stop - start, body, BUT_LENGTH)
    content_type = heads.content_type(body.head())
    boundary = new_boundary()
    parts: list[Segment] = []
    length = 0
    for start, stop in ranges:
        part_head = b"\r\n--%b\r\nContent-Type: %b\r\nContent-Range: bytes %d-%d/%d\r\n\r\n" % (
            boundary, content_type, start, stop - 1, body.size,
        )  # fmt: skip
        parts += (part_head, body.part(start, stop))
        length += len(part_head) + stop - start
    end = b"\r\n--%b--\r\n" % boundary
    own = ((b"Content-Type", b"multipart/byteranges; boundary=" + boundary),)
    return Reply(206, own, (*parts, end), length + len(end), body, BUT_TYPE)


_boundary_stem = os.urandom(12).hex().encode()
_boundary_count = itertools.count()


def new_boundary() -> bytes:
    """Unguessable, so that no content can hold it on purpose (RFC 2046 section 5.1.1)."""
    return b"%b-%d" % (_boundary_stem, next(_boundary_count))


def redirect(status: int, location: bytes, query: bytes | None, fields: HeadFields = NO_FIELDS) -> Reply:
    """To a location, to which a query is appended, with what rules say of it. The location is the last field."""
    if query is None:
        return page(status, ((b"Location", location),), fields)
    return new_page(status, ((b"Location", location + b"?" + query),), fields=fields)


@lru_cache(maxsize=64)  # a list of origins has as many answers
def options(more: FieldLines = ()) -> Reply:
    """What a resource, or the server (`*`), can do (RFC 9110 section 9.3.7), with further fields."""
    return Reply(200, more + _OPTIONS_FIELDS, ())


@lru_cache(maxsize=64)
def preflight(fields: FieldLines) -> Reply:
    """Whether a page of another origin may ask so (Fetch standard, "CORS-preflight request"), which the fields say."""
    return Reply(204, fields)


def unsatisfiable(size: int, more: FieldLines = ()) -> Reply:
    """416 (RFC 9110 section 15.5.17), with further fields."""
    return new_page(416, ((b"Content-Range", b"bytes */%d" % size), (b"Accept-Ranges", b"bytes"), *more))


@lru_cache(maxsize=4)  # one for each site's page
def not_found(site_page: bytes | None, fields: HeadFields = NO_FIELDS) -> Reply:
    """404, one and the same for what is absent and what is forbidden; with the site's own page if it has one, and what
    rules say of that."""
    return page(404, (), fields) if site_page is None else Reply(404, _fields_of_html(fields), site_page)


@lru_cache(maxsize=16)  # pages that were replaced stay as long
def failed(status: int, site_page: bytes | None, more: FieldLines = ()) -> Reply:
    """503, which may pass, or another error; with the site's own page if it has one, and with further fields."""
    fields = (*more, *RETRY) if status == 503 else more
    return page(status, fields) if site_page is None else Reply(status, HTML_FIELDS + fields, site_page)


@lru_cache(maxsize=16)
def unauthorized(challenge: bytes, site_page: bytes | None, fields: FieldLines = ()) -> Reply:
    """401 (RFC 9110 section 15.5.2) that says how to ask; with the site's own page if it has one. No cache keeps it: a
    browser would show it once more when the user has logged in."""
    more = (*fields, (b"WWW-Authenticate", challenge), (b"Cache-Control", b"no-store"))
    return page(401, more) if site_page is None else Reply(401, HTML_FIELDS + more, site_page)


def limited(wait_s: int, fields: FieldLines = ()) -> Reply:
    """429 (RFC 6585 section 4): the client is to come again in so many seconds. No cache keeps it."""
    more = (*fields, (b"Retry-After", b"%d" % wait_s), (b"Cache-Control", b"no-store"))
    said = f"<p>There were too many wrong passwords. Please wait for {wait_s} s.</p>"
    return new_page(429, more, said)


def kept_private(answer: Reply) -> Reply:
    """The answer to a request with a password: no shared cache may keep it. One that has a file's head has that said
    there, or it is said besides."""
    if answer.part:
        assert answer.body is not None
        if heads.is_private(answer.body.head()):
            return answer
        return answer.dressed(answer.status, (*answer.added, *protected.PRIVATE))
    fields = protected.kept_private((*answer.added, *answer.fields))
    return Reply(answer.status, fields, answer.content, answer.length, answer.body)


def new_page(status: int, more: FieldLines, said: str = "", *, fields: HeadFields = NO_FIELDS) -> Reply:
    """A small page that says the status, with further fields, behind those that rules say; `said` is HTML."""
    return Reply(status, _fields_of_html(fields) + more, _content(status, said) if said else _content_of(status))


def _fields_of_html(fields: HeadFields) -> FieldLines:
    return HTML_FIELDS if fields is NO_FIELDS else (HTML_FIELDS[0], *fields.all_lines)


@lru_cache(maxsize=64)
def page(status: int, more: FieldLines = (), fields: HeadFields = NO_FIELDS) -> Reply:
    """As `new_page`, one and the same each time: for fields that repeat."""
    return new_page(status, more, fields=fields)


def refused(status: int, fields: FieldLines = (), reason: str = "") -> Reply:
    """The page of a request that is refused before it leads to anything; the reason is not told."""
    return unavailable() if status == 503 else page(status, fields)


def unavailable() -> Reply:
    """503 (RFC 9110 section 15.6.4)."""
    return page(503, RETRY)


@cache  # there are 500 statuses at most
def _content_of(status: int) -> bytes:
    return _content(status, "")


def _content(status: int, said: str) -> bytes:
    title = f"{status} {PHRASES.get(status, '')}".rstrip()
    text = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<h1>{title}</h1>{said}<p>zcserve</p></html>\n"
    )
    return text.encode(errors="backslashreplace")  # a reason may hold half a surrogate pair, by way of JSON
