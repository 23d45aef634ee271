"""Response heads in HTTP/1's form, computed at load.

A response is `prefix | head | body`. The prefix (status line, Date, Server, Connection) changes every second and is
the same for all responses (net/prefixes.py); the head is all that belongs to one representation, down to the blank
line. Its fields stand in an order that makes every other response a slice of it:

    Content-Length: 1000\\r\\n                     lead: left out where another length is sent
    Content-Type, Last-Modified, Accept-Ranges, X-Content-Type-Options, Content-Encoding
    ETag, Cache-Control, Vary, blank line        tail: exactly what a 304 carries (RFC 9110 section 15.4.5)

What an application adds (cache/entry.py, `ComposedEntry`), and what rules do (rules/), stands in the tail: their
policies go with a 304 as well.

So 200 is the whole, HEAD the whole without a body, 304 the tail, and 206 its own Content-Range and
Content-Length before the rest (`start`). Nothing is assembled when a request comes.
"""

from __future__ import annotations

from functools import lru_cache

from zcserve.http import FieldLines, format_date, parse_list
from zcserve.media_types import MEDIA_TYPES, MediaTypes
from zcserve.rules.compiled import NO_FIELDS, HeadFields

Buffer = bytes | memoryview

# What a head usually takes, for plans and estimates.
HEAD_BYTES = 320

_TAIL_MARK = b"\r\nETag: "
_VARY = b"Vary: Accept-Encoding"


# Which of the fields of a head a response has: all but the length; all but length and type; all; those of a 304.
BUT_LENGTH, BUT_TYPE, ALL, TAIL = 1, 2, 3, 4


def encode_fields(fields: FieldLines) -> bytes:
    """Field lines in HTTP/1's form (RFC 9112 section 5), each with its CRLF."""
    if len(fields) > 4:
        return b"\r\n".join((*map(b": ".join, fields), b""))
    lines = b""
    for field in fields:
        lines += b"%b: %b\r\n" % field
    return lines


@lru_cache(maxsize=4096)
def _date(seconds: int) -> bytes:
    return format_date(seconds)


def _template(content_type: str, encoding: bytes, more: bytes, vary: bool, nosniff: bool = True) -> bytes:
    """All fields with three holes: length, Last-Modified line, ETag. `more` are header lines."""
    fields = b"Content-Length: %%d\r\nContent-Type: %b\r\n%%b" % content_type.encode("latin-1").replace(b"%", b"%%")
    fields += b"Accept-Ranges: bytes\r\n"
    if nosniff:
        fields += b"X-Content-Type-Options: nosniff\r\n"
    if encoding:
        fields += b"Content-Encoding: %b\r\n" % encoding
    fields += b"ETag: %b\r\n" + more.replace(b"%", b"%%")
    if vary:
        fields += b"Vary: Accept-Encoding\r\n"
    return fields + b"\r\n"


@lru_cache(maxsize=1024)
def _template_of_file(types: MediaTypes, extension: str, encoding: bytes, fields: HeadFields, vary: bool) -> bytes:
    name = "x" + extension
    codings = b", ".join(filter(None, (types.coding(name), encoding)))  # in the order in which they were applied
    content_type = types.told(name, fields.content_type, fields.charset)
    return _template(content_type, codings, encode_fields(fields.lines), vary, fields.nosniff)


def _filled(template: bytes, size: int, modified: int | None, etag: bytes) -> bytes:
    line = b"Last-Modified: %b\r\n" % _date(modified) if modified is not None else b""
    return template % (size, line, etag)


def build(
    name: str,
    size: int,
    modified: int | None,
    etag: bytes,
    encoding: bytes,
    vary: bool,
    types: MediaTypes = MEDIA_TYPES,
    fields: HeadFields = NO_FIELDS,
) -> bytes:
    """The head of one representation of a file.

    `name` is the file's name (its extension decides the type), `size` the body in bytes, `modified` seconds since
    1970 or None for a file without a usable time, `etag` with its quotes, `encoding` a content coding or b"",
    `fields` what rules say.
    """
    dot = name.rfind(".")
    template = _template_of_file(types, name[dot:].lower() if dot > 0 else "", encoding, fields, vary)
    return _filled(template, size, modified, etag)


def compose(
    content_type: str,
    size: int,
    modified: int | None,
    etag: bytes,
    encoding: bytes,
    more: FieldLines,
    vary: bool,
    nosniff: bool = True,
) -> bytes:
    """As `build`, of content that comes from no file: its type is told, and so are further fields (`more`)."""
    return _filled(_template(content_type, encoding, encode_fields(more), vary, nosniff), size, modified, etag)


def start(head: Buffer, part: int) -> int:
    """Where in a head that part of it begins (`BUT_LENGTH`, ...) which goes on to the blank line."""
    if part == BUT_LENGTH:
        return bytes(head[:64]).index(b"\r\n") + 2
    if part == TAIL:
        return bytes(head).rindex(_TAIL_MARK) + 2
    if part == BUT_TYPE:
        return bytes(head).index(b"\r\n", start(head, BUT_LENGTH)) + 2
    return 0


def lines_of_rules(head: Buffer) -> FieldLines:
    """What a file's head has of rules: what stands in its tail besides what the server says there itself."""
    lines = bytes(head[start(head, TAIL) : -4]).split(b"\r\n")[1:]
    if lines and lines[-1] == _VARY:
        lines.pop()
    pairs = (line.partition(b": ") for line in lines)
    return tuple((name, value) for name, _, value in pairs)


def content_type(head: Buffer) -> bytes:
    """Content-Type's value."""
    return bytes(head[start(head, BUT_LENGTH) + len(b"Content-Type: ") : start(head, BUT_TYPE) - 2])


def is_private(head: Buffer) -> bool:
    """Whether it keeps shared caches from keeping what it is of (RFC 9111 section 5.2.2.7)."""
    lines = (line.partition(b":") for line in bytes(head).split(b"\r\n"))
    values = b",".join(value for name, _, value in lines if name.lower() == b"cache-control")
    return not {b"private", b"no-store"}.isdisjoint(one.lower() for one in parse_list(values))
