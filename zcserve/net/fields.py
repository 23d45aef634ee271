"""What the fields of a request's head mean (RFC 9110, RFC 9112 sections 3.2, 6, 7.1.1, 9.3).

The parser (request.py) judges a head line by line, and hands those that change an answer on as `Line`s. `combine` makes
one `Fields` of them: what the client accepts and asks for, how long its body is, whether its connection goes on. What
could be read in two ways is refused, and closes the connection.

Nothing here knows where a head lies in the bytes of a connection, nor which heads were seen before.
"""

from __future__ import annotations

import re

from zcserve.errors import HttpError
from zcserve.http import (
    AnyTag,
    EntityTag,
    coding_quality,
    host_name,
    is_host,
    is_token,
    parse_accept_encoding,
    parse_date,
    parse_entity_tags,
    parse_list,
    parse_ranges,
)

# What the prefix of the answer says about the connection (an index into `Prefixes.ok`).
KEEP, KEEP_10, CLOSE = 0, 1, 2

CHUNKED = -1  # `Fields.body` for a body whose length its chunks tell

_HOST, _CONNECTION, _EXPECT = b"host", b"connection", b"expect"
_LENGTH, _CODING = b"content-length", b"transfer-encoding"
_ACCEPT, _NONE_MATCH, _MODIFIED = b"accept-encoding", b"if-none-match", b"if-modified-since"
_UPGRADE = b"upgrade"
_MATCH, _UNMODIFIED, _RANGE, _IF_RANGE = b"if-match", b"if-unmodified-since", b"range", b"if-range"
_REFERER, _USER_AGENT = b"referer", b"user-agent"
_ORIGIN, _ASKS_METHOD, _ASKS_HEADERS = b"origin", b"access-control-request-method", b"access-control-request-headers"

# Names, in lower case. With a conditional field an answer depends on more than the target.
CONDITIONAL = frozenset((_NONE_MATCH, _MODIFIED, _MATCH, _UNMODIFIED, _RANGE, _IF_RANGE))
SIGNIFICANT = (
    CONDITIONAL
    | {_HOST, _CONNECTION, _EXPECT, _LENGTH, _CODING, _ACCEPT, _UPGRADE}
    | {_ORIGIN, _ASKS_METHOD, _ASKS_HEADERS}
)
LOGGED = frozenset((_REFERER, _USER_AGENT))  # significant where they are logged

# RFC 9110 section 8.6 allows leading zeros; `010` is read as ten and as eight, and so is refused.
_LENGTH_VALUE = re.compile(rb"0|[1-9][0-9]*")
_LENGTH_DIGITS_MAX = 18


class Line:
    """A field line that matters. Compared by identity: the memo gives the same object for the same bytes."""

    __slots__ = ("kept", "name", "value")

    def __init__(self, name: bytes, value: bytes, kept: bool) -> None:
        self.name = name
        self.value = value
        self.kept = kept


class Fields:
    """What a head's fields say together; immutable once made.

    version      b"HTTP/1.1" or b"HTTP/1.0", for the log
    host         the name that Host says, as `host_name` gives it; b"" for none
    plain        no condition, no range, no body, and identity is acceptable: the answer depends on the target alone,
                 and on `accept` where there are variants
    mode         KEEP, KEEP_10 or CLOSE: what becomes of the connection (RFC 9112 section 9.3)
    body         its length in bytes, 0 for none, or CHUNKED
    expects      whether the client waits for 100 (Continue)
    accept       codings and weights, None for a request without Accept-Encoding
    none_match, match        entity tags, ANY_TAG, or None for absent; () for malformed, which nothing matches
    modified_since, unmodified_since   seconds since 1970, or None
    ranges       range specs, or None;  if_range: a tag, seconds, or None for absent
    websocket    whether the client asks for one (RFC 6455 section 4.1)
    origin       of the page that asks; b"" for none
    preflight    the method and the field names that it asks leave for (Fetch standard, "CORS-preflight request"); None:
                 it asks for none
    """

    __slots__ = (
        "accept",
        "body",
        "expects",
        "host",
        "if_range",
        "match",
        "mode",
        "modified_since",
        "none_match",
        "origin",
        "plain",
        "preflight",
        "ranges",
        "referer",
        "unmodified_since",
        "user_agent",
        "version",
        "websocket",
    )

    version: bytes
    host: bytes
    plain: bool
    mode: int
    body: int
    expects: bool
    accept: dict[bytes, int] | None
    none_match: tuple[EntityTag, ...] | AnyTag | None
    match: tuple[EntityTag, ...] | AnyTag | None
    modified_since: int | None
    unmodified_since: int | None
    ranges: tuple[tuple[int | None, int | None], ...] | None
    if_range: EntityTag | int | None
    referer: bytes
    user_agent: bytes
    websocket: bool
    origin: bytes
    preflight: tuple[bytes, bytes] | None


def combine(lines: tuple[Line, ...], version_11: bool) -> Fields:
    """What the lines of one head mean together. Raises HttpError."""
    values: dict[bytes, list[bytes]] = {}
    for line in lines:
        values.setdefault(line.name, []).append(line.value)
    fields = Fields()
    fields.version = b"HTTP/1.1" if version_11 else b"HTTP/1.0"
    fields.host = _host(values.get(_HOST, []), version_11)
    fields.body = _body_length(values.get(_LENGTH, []), values.get(_CODING, []), version_11)
    fields.mode = mode_of(values.get(_CONNECTION, []), version_11)
    fields.expects = _expects(values.get(_EXPECT, []), version_11) and bool(fields.body)
    accept = values.get(_ACCEPT)
    fields.accept = None if accept is None else parse_accept_encoding(b",".join(accept))
    fields.none_match = _tags(values.get(_NONE_MATCH))
    fields.match = _tags(values.get(_MATCH))
    fields.modified_since = _date(values.get(_MODIFIED))
    fields.unmodified_since = _date(values.get(_UNMODIFIED))
    ranges = values.get(_RANGE, [])
    fields.ranges = parse_ranges(ranges[0]) if len(ranges) == 1 else None
    fields.if_range = _if_range(values.get(_IF_RANGE))
    fields.referer = values.get(_REFERER, [b""])[0]
    fields.user_agent = values.get(_USER_AGENT, [b""])[0]
    fields.websocket = version_11 and _is_among(b"websocket", values.get(_UPGRADE, []))
    fields.websocket = fields.websocket and _is_among(_UPGRADE, values.get(_CONNECTION, []))
    fields.origin = b", ".join(values.get(_ORIGIN, []))  # several are on no list
    asked = b", ".join(values.get(_ASKS_METHOD, []))
    fields.preflight = (asked, b",".join(values.get(_ASKS_HEADERS, []))) if fields.origin and asked else None
    takes_identity = fields.accept is None or coding_quality(fields.accept, b"identity") > 0
    fields.plain = takes_identity and not fields.body and not any(name in values for name in CONDITIONAL)
    return fields


def _host(hosts: list[bytes], version_11: bool) -> bytes:
    """As `Fields.host` (RFC 9112 section 3.2)."""
    if len(hosts) > 1:
        raise HttpError(400, "more than one Host", close=True)
    if not hosts and version_11:
        raise HttpError(400, "no Host", close=True)
    if hosts and not is_host(hosts[0]):
        raise HttpError(400, "an invalid Host", close=True)
    return host_name(hosts[0]) if hosts else b""


def _body_length(lengths: list[bytes], codings: list[bytes], version_11: bool) -> int:
    """RFC 9112 section 6.3; what could be read in two ways is refused (sections 6.1, 11.2).

    Empty list elements, leading zeros and a length that is said twice are lawful, but servers are known that read them
    otherwise: behind a proxy that does, the end of one client's request would be the beginning of another's.
    """
    if codings:
        if lengths:
            raise HttpError(400, "both Content-Length and Transfer-Encoding", close=True)
        if not version_11:
            raise HttpError(400, "Transfer-Encoding in HTTP/1.0", close=True)
        return _coded_length(b",".join(codings).lower())
    if not lengths:
        return 0
    if len(lengths) > 1 or not _LENGTH_VALUE.fullmatch(lengths[0]):
        raise HttpError(400, "not one Content-Length, written in one way", close=True)
    if len(lengths[0]) > _LENGTH_DIGITS_MAX:
        raise HttpError(413, "a body of absurd length", close=True)
    return int(lengths[0])


def _coded_length(codings: bytes) -> int:
    """CHUNKED. Other codings before it are lawful, and not implemented (RFC 9112 sections 6.1, 7)."""
    names = [coding.strip(b" \t") for coding in codings.split(b",")]
    if names[-1] != b"chunked" or names.count(b"chunked") > 1:
        raise HttpError(400, "a Transfer-Encoding that does not tell where the body ends", close=True)
    if not all(is_token(name.partition(b";")[0].rstrip(b" \t")) for name in names):
        raise HttpError(400, "a Transfer-Encoding that is no list of codings", close=True)
    if len(names) > 1:
        raise HttpError(501, "a transfer coding other than chunked", close=True)
    return CHUNKED


def _is_among(element: bytes, values: list[bytes]) -> bool:
    """Whether a list of tokens without case has an element (RFC 9110 sections 7.6.1, 7.8)."""
    return any(element == each.lower() for value in values for each in parse_list(value))


def mode_of(values: list[bytes], version_11: bool) -> int:
    """What the values of Connection say of it: KEEP, KEEP_10 or CLOSE (RFC 9112 section 9.3)."""
    options = {option.lower() for value in values for option in parse_list(value)}
    if b"close" in options:
        return CLOSE
    if version_11:
        return KEEP
    return KEEP_10 if b"keep-alive" in options else CLOSE


def _expects(values: list[bytes], version_11: bool) -> bool:
    """RFC 9110 section 10.1.1; an expectation of a 1.0 client is ignored."""
    if not values or not version_11:
        return False
    if any(member.lower() != b"100-continue" for value in values for member in parse_list(value)):
        raise HttpError(417, "an expectation other than 100-continue", close=True)
    return True


def _tags(values: list[bytes] | None) -> tuple[EntityTag, ...] | AnyTag | None:
    """A condition's tags; malformed ones match nothing, but the condition is there."""
    if values is None:
        return None
    tags = parse_entity_tags(b",".join(values))
    return () if tags is None else tags


def _date(values: list[bytes] | None) -> int | None:
    """A condition's date; none that is malformed or repeated (RFC 9110 section 13.1.3)."""
    return parse_date(values[0]) if values is not None and len(values) == 1 else None


def _if_range(values: list[bytes] | None) -> EntityTag | int | None:
    """A validator; what is not one becomes a tag that matches nothing, so that the whole is sent (section 13.1.5)."""
    if values is None:
        return None
    if len(values) == 1:
        tags = parse_entity_tags(values[0])
        if tags is not None and not isinstance(tags, AnyTag) and len(tags) == 1:
            return tags[0]
        date = parse_date(values[0])
        if date is not None:
            return date
    return EntityTag(b"", weak=True)
