"""The words of HTTP: what a field value, a date, a tag, a range, a path means, and how each is written.

Pure functions and constants over bytes. This module knows no socket, no file, no cache and no connection; it
imports the standard library, errors.py and phrases.py. Every module above may use it.

Two habits hold throughout. A function that reads what a client sent answers None for "this is not one", so
that the caller decides between ignoring a field (RFC 9110 says so for most) and refusing the request; only
`canonical_path` raises, because a path that means nothing has one answer. And nothing is worse than linear in
the length of its input (n log n where ranges are sorted): patterns use possessive quantifiers where two
repeats of the same bytes meet, and digits are capped before `int` sees them.

Odd: `bytes.translate(None, SET)` deletes the allowed bytes in C, so that an empty rest means "all allowed";
nothing in CPython judges short strings faster.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import date
from enum import Enum
from functools import cache
from ipaddress import AddressValueError, IPv6Address
from typing import Final, NamedTuple, TypeAlias

from zcserve.errors import HttpError
from zcserve.phrases import PHRASES

# --- status lines and methods -----------------------------------------------------------------------------


def status_line(status: int) -> bytes:
    """The status line with its CRLF (RFC 9112 section 4); a status that is not in `PHRASES` has no phrase."""
    return f"HTTP/1.1 {status} {PHRASES.get(status, '')}\r\n".encode("ascii")


# Statuses whose answers have no content, and the Content-Length that says so; None: they have none (RFC 9110 sections
# 8.6, 15.3.5, 15.3.6, 15.4.5).
WITHOUT_CONTENT: dict[int, int | None] = {204: None, 205: 0, 304: None}


def has_content(method: bytes, status: int) -> bool:
    """Whether content follows the head of an answer (RFC 9110 section 6.4.1): the one place that knows."""
    return method != b"HEAD" and status not in WITHOUT_CONTENT


# IANA's method registry, without PRI (HTTP/2's preface, not a method). Known means 405, unknown 501.
KNOWN_METHODS: frozenset[bytes] = frozenset(
    b"""GET HEAD POST PUT DELETE CONNECT OPTIONS TRACE PATCH QUERY
    ACL BASELINE-CONTROL BIND CHECKIN CHECKOUT COPY LABEL LINK LOCK MERGE MKACTIVITY MKCALENDAR MKCOL
    MKREDIRECTREF MKWORKSPACE MOVE ORDERPATCH PROPFIND PROPPATCH REBIND REPORT SEARCH UNBIND UNCHECKOUT
    UNLINK UNLOCK UPDATE UPDATEREDIRECTREF VERSION-CONTROL""".split()
)

# --- tokens, field values, lists --------------------------------------------------------------------------

# Field lines (RFC 9110 section 5.2) in whatever protocol: names and values, in order.
FieldLines: TypeAlias = tuple[tuple[bytes, bytes], ...]

_ALNUM = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

# tchar (RFC 9110 section 5.6.2).
TOKEN_BYTES: bytes = b"!#$%&'*+-.^_`|~" + _ALNUM
# What may stand in a field value: HTAB, SP, VCHAR and obs-text (RFC 9110 section 5.5).
FIELD_VALUE_BYTES: bytes = b"\t" + bytes(range(0x20, 0x7F)) + bytes(range(0x80, 0x100))


def is_token(value: bytes) -> bool:
    """Whether `value` is a token (RFC 9110 section 5.6.2): a method, a field name, a coding."""
    return bool(value) and not value.translate(None, TOKEN_BYTES)


def is_field_value(value: bytes) -> bool:
    """Whether every byte of `value` may stand in a field value (RFC 9110 section 5.5); none need be there."""
    return not value.translate(None, FIELD_VALUE_BYTES)


# A list of more elements is none that a client means: a head holds 8,000, and to look at each takes milliseconds.
ELEMENTS_MAX = 100


def is_long(value: bytes) -> bool:
    """Whether a comma list may have more than `ELEMENTS_MAX` elements, empty ones and commas in quotes counted."""
    return value.count(b",") >= ELEMENTS_MAX


def parse_list(value: bytes) -> list[bytes]:
    """The elements of a comma list, white space trimmed, empty ones dropped (RFC 9110 section 5.6.1.2).

    It knows no quotes: for Connection, Transfer-Encoding and their like, whose elements hold no comma.
    """
    return [trimmed for element in value.split(b",") if (trimmed := element.strip(b" \t"))]


# --- dates ------------------------------------------------------------------------------------------------

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH_NUMBERS = {name.encode(): number for number, name in enumerate(_MONTHS, 1)}

_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_FIRST_SECOND = (1 - _EPOCH_ORDINAL) * 86400  # 0001-01-01T00:00:00Z
_LAST_SECOND = (date.max.toordinal() + 1 - _EPOCH_ORDINAL) * 86400 - 1  # 9999-12-31T23:59:59Z

_DAY = rb"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_LONG_DAY = rb"(?:Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday)"
_MONTH = rb"(?P<month>Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_TIME = rb"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
_DATE_FORMATS = (
    re.compile(_DAY + rb", (?P<day>\d\d) " + _MONTH + rb" (?P<year>\d{4}) " + _TIME + rb" GMT"),
    re.compile(_LONG_DAY + rb", (?P<day>\d\d)-" + _MONTH + rb"-(?P<year>\d\d) " + _TIME + rb" GMT"),
    re.compile(_DAY + b" " + _MONTH + rb" (?P<day>\d\d| \d) " + _TIME + rb" (?P<year>\d{4})"),
)


def format_date(seconds: int) -> bytes:
    """`seconds` since the epoch (UTC) as an IMF-fixdate (RFC 9110 section 5.6.7), whatever the locale.

    The grammar has four digits for the year, and file systems keep times far beyond: what lies outside the
    years 1 to 9999 becomes their first or last second.
    """
    moment = time.gmtime(min(max(seconds, _FIRST_SECOND), _LAST_SECOND))
    return (
        f"{_DAYS[moment.tm_wday]}, {moment.tm_mday:02} {_MONTHS[moment.tm_mon - 1]} {moment.tm_year:04} "
        f"{moment.tm_hour:02}:{moment.tm_min:02}:{moment.tm_sec:02} GMT"
    ).encode("ascii")


def parse_date(value: bytes, now: float | None = None) -> int | None:
    """Seconds since the epoch of an HTTP-date in any of its three formats (RFC 9110 section 5.6.7), or None.

    Strict and case-sensitive, as the grammar is; the name of the day is not checked against the date, and a
    second of 60 counts as the next minute's first. A two-digit year is the latest that is no more than 50
    years after `now` (seconds since the epoch; None: the clock).
    """
    for pattern in _DATE_FORMATS:
        if match := pattern.fullmatch(value):
            break
    else:
        return None
    year, day = int(match["year"]), int(match["day"])
    month = _MONTH_NUMBERS[match["month"]]
    hour, minute, second = int(match["hour"]), int(match["minute"]), int(match["second"])
    if hour > 23 or minute > 59 or second > 60:
        return None
    if len(match["year"]) == 2:
        today = time.gmtime(now)
        limit = (today.tm_year + 50, *today[1:6])
        year += limit[0] - limit[0] % 100
        if (year, month, day, hour, minute, second) > limit:
            year -= 100
    try:
        days = date(year, month, day).toordinal() - _EPOCH_ORDINAL
    except ValueError:  # 31 Feb, year 0
        return None
    return days * 86400 + hour * 3600 + minute * 60 + second


# --- entity tags ------------------------------------------------------------------------------------------


class EntityTag(NamedTuple):
    """An entity tag (RFC 9110 section 8.8.3): `opaque` with its quotes, and whether `W/` stood before it."""

    opaque: bytes
    weak: bool


class AnyTag(Enum):
    """The type of `ANY_TAG`, an enumeration of one, so that `is ANY_TAG` narrows a type."""

    ANY = "*"


ANY_TAG: Final = AnyTag.ANY

_TAG_ELEMENT = re.compile(rb'[ \t]*+(?:(?P<weak>W/)?(?P<opaque>"[\x21\x23-\x7e\x80-\xff]*+"))?+[ \t]*+(?:,|\Z)')


def parse_entity_tags(value: bytes) -> tuple[EntityTag, ...] | AnyTag | None:
    """The value of If-Match or If-None-Match (RFC 9110 sections 13.1.1, 13.1.2).

    `ANY_TAG` for `*`; the tags, possibly none, for a list (commas inside the quotes belong to the tag, empty
    elements are dropped, section 5.6.1.2); None when malformed, or when it `is_long`. If-Range and ETag are lists of
    one.
    """
    if is_long(value):
        return None
    if value.strip(b" \t") == b"*":
        return ANY_TAG
    tags = []
    position = 0
    while position < len(value):
        match = _TAG_ELEMENT.match(value, position)
        if match is None:
            return None
        if match["opaque"]:
            tags.append(EntityTag(match["opaque"], match["weak"] is not None))
        position = match.end()
    return tuple(tags)


def strong_match(a: EntityTag, b: EntityTag) -> bool:
    """Strong comparison (RFC 9110 section 8.8.3.2): the same opaque tag, and neither is weak."""
    return a.opaque == b.opaque and not a.weak and not b.weak


def weak_match(a: EntityTag, b: EntityTag) -> bool:
    """Weak comparison (RFC 9110 section 8.8.3.2): the same opaque tag."""
    return a.opaque == b.opaque


# --- ranges -----------------------------------------------------------------------------------------------

_RANGE_SPEC = re.compile(rb"(\d*)-(\d*)")
_SPECS_MAX = 1000  # --ranges-max goes no further
_POSITION_DIGITS_MAX = 19  # as 2**63 has: no file is larger, and int() raises on thousands of digits
_POSITION_BEYOND = 10**_POSITION_DIGITS_MAX
_OVERLAPS_MAX = 2


def _position(digits: bytes) -> int | None:
    """The number that `digits` write, None for none, `_POSITION_BEYOND` for any that no file reaches."""
    if not digits:
        return None
    significant = digits.lstrip(b"0")
    return int(significant or b"0") if len(significant) <= _POSITION_DIGITS_MAX else _POSITION_BEYOND


def parse_ranges(value: bytes) -> tuple[tuple[int | None, int | None], ...] | None:
    """The range-set of a Range field in bytes (RFC 9110 sections 14.1.1, 14.1.2), at least one spec.

    `(first, last)` both inclusive, `(first, None)` to the end, `(None, length)` the last `length` bytes. None
    when malformed, in another unit, or of more than 1,000 specs: the field is then ignored (section 14.2).
    """
    unit, equals, range_set = value.partition(b"=")
    if not equals or unit.lower() != b"bytes" or range_set.count(b",") >= _SPECS_MAX:
        return None
    specs: list[tuple[int | None, int | None]] = []
    for element in parse_list(range_set):
        match = _RANGE_SPEC.fullmatch(element)
        if match is None:
            return None
        first, last = _position(match[1]), _position(match[2])
        if first is None and last is None:
            return None
        if first is not None and last is not None and last < first:
            return None
        specs.append((first, last))
    return tuple(specs) or None


def resolve_ranges(
    specs: tuple[tuple[int | None, int | None], ...], size: int, count_max: int
) -> list[tuple[int, int]] | None:
    """What of `specs` a representation of `size` bytes can satisfy, as half-open `(start, stop)` in bytes.

    Ranges that overlap or touch are coalesced, and stand where the first of them was asked for (RFC 9110
    section 15.3.7.2); the rest keep the order of the request. [] when none can be satisfied (416; section
    14.1.2), which includes a suffix of 0 and a range of an empty representation that begins somewhere.

    None when the whole is to be sent. A suffix of an empty representation is satisfiable (section 14.1.2), but
    Content-Range has no words for it. Else the request is abuse, and the field is ignored (sections 14.2, 17.15):
    more than `count_max` specs; or more than two overlaps, where, in the order of their starts, each range
    that begins before an earlier one has ended is one. A client that resumes or seeks asks for neither.
    """
    if len(specs) > count_max or (not size and any(first is None and last for first, last in specs)):
        return None
    found: list[tuple[int, int, int]] = []  # start, stop, place in the request
    for place, (first, last) in enumerate(specs):
        if first is None:
            start, stop = max(size - (last or 0), 0), size
        else:
            start, stop = first, size if last is None else min(last + 1, size)
        if start < stop:
            found.append((start, stop, place))
    if len(found) == 1:  # what most clients ask for
        return [found[0][:2]]
    found.sort()
    merged: list[tuple[int, int, int]] = []
    overlaps = 0
    for start, stop, place in found:
        if merged and start <= merged[-1][1]:
            overlaps += start < merged[-1][1]
            merged[-1] = merged[-1][0], max(merged[-1][1], stop), min(merged[-1][2], place)
        else:
            merged.append((start, stop, place))
    if overlaps > _OVERLAPS_MAX:
        return None
    merged.sort(key=lambda part: part[2])
    return [(start, stop) for start, stop, _ in merged]


# --- content codings --------------------------------------------------------------------------------------

_CODING_ELEMENT = re.compile(
    rb"(?P<coding>[-!#$%&'*+.^_`|~0-9A-Za-z]++)"
    rb"(?:[ \t]*+;[ \t]*+[qQ]=(?P<weight>0(?:\.\d{0,3})?|1(?:\.0{0,3})?))?"
)


def parse_accept_encoding(value: bytes) -> dict[bytes, int]:
    """The codings of an Accept-Encoding field (RFC 9110 section 12.5.3) with their weights in thousandths.

    Names are lower case, x-gzip is gzip (section 8.4.1.3), `*` stays b"*". An element that is malformed, or
    whose weight is (section 12.4.2), is left out alone; of a coding named twice the lower weight holds. A list
    that `is_long` says nothing: then identity alone is sent.
    """
    accepted: dict[bytes, int] = {}
    if is_long(value):
        return accepted
    for element in parse_list(value):
        match = _CODING_ELEMENT.fullmatch(element)
        if match is None:
            continue
        coding = match["coding"].lower()
        if coding == b"x-gzip":
            coding = b"gzip"
        whole, _, decimals = (match["weight"] or b"1").partition(b".")
        accepted[coding] = min(int(whole + decimals.ljust(3, b"0")), accepted.get(coding, 1000))
    return accepted


def coding_quality(accepted: dict[bytes, int], coding: bytes) -> int:
    """How much `coding` is wanted, 0 (not acceptable) to 1000, under `accepted` of `parse_accept_encoding`.

    RFC 9110 section 12.5.3: what is not named has the weight of `*`; without a `*`, `identity` is acceptable
    and another coding is not. The RFC gives that `identity` no weight; here it is no better than the least of
    the acceptable codings that the client named, so that `gzip;q=0.5` still gets gzip.
    """
    quality = accepted.get(coding, accepted.get(b"*"))
    if quality is not None:
        return quality
    if coding != b"identity":
        return 0
    return min((named for named in accepted.values() if named), default=1000)


# --- hosts and paths --------------------------------------------------------------------------------------

_HOST = re.compile(
    rb"(?:(?P<name>(?:[-._~!$&'()*+,;=0-9A-Za-z]++|%[0-9A-Fa-f]{2})++)"
    rb"|\[(?:(?P<ipv6>[0-9A-Fa-f:.]++)|[vV][0-9A-Fa-f]++\.[-._~!$&'()*+,;=:0-9A-Za-z]++)\])"
    rb"(?::0*+(?P<port>\d{0,5}))?"
)


def is_host(value: bytes) -> bool:
    """Whether `value` is uri-host [":" port], a Host field's (RFC 9110 section 7.2, RFC 3986 section 3.2.2).

    The empty value is one: it stands for a target without an authority. A port without a host is none (in
    http an empty host is invalid, RFC 9110 section 4.2.1), nor are user information, a scope id, a port over
    65535.
    """
    match = _HOST.fullmatch(value)
    if match is None:
        return not value
    if int(match["port"] or 0) > 65535:
        return False
    if match["ipv6"] is not None:
        try:
            IPv6Address(match["ipv6"].decode("ascii"))
        except AddressValueError:
            return False
    return True


def host_name(value: bytes) -> bytes:
    """The name or address of what `is_host` takes: in lower case, without the port and a dot at its end (the same name
    in DNS); an IPv6 address with its brackets, in its shortest form (RFC 5952). All that compares hosts has them from
    here: sites, rules, requests."""
    name, colon, port = value.rpartition(b":")
    if not colon or (port and not port.isdigit()):  # or the colon is one of an address
        name = value
    if name[:1] == b"[" and name[-1:] == b"]":
        try:
            return b"[%b]" % IPv6Address(name[1:-1].decode("ascii")).compressed.encode("ascii")
        except ValueError:  # an address of a later version
            pass
    return name.lower().removesuffix(b".")


# What stands for itself in a canonical path: pchar without its percent, and the slash (RFC 3986 section 3.3).
_CANONICAL_BYTES = _ALNUM + b"-._~!$&'()*+,;=:@/"
# What is accepted raw: printable ASCII but the two that end a path; browsers send some of `|^[]{}"` so.
_RAW_BYTES = bytes(byte for byte in range(0x21, 0x7F) if byte not in b"#?")
_BAD_PERCENT = re.compile(rb"%(?![0-9A-Fa-f]{2})")


def _decoded(escaped: bytes) -> bytes:
    """Python knows the same escapes by another sign, and decodes all in one pass. Raises ValueError for a bad one."""
    return escaped.replace(b"\\", b"\\\\").replace(b"%", b"\\x").decode("unicode_escape").encode("latin-1")


def percent_decoded(raw: bytes) -> bytes:
    """`raw` percent-decoded once; a percent sign without two hex digits stands for itself."""
    return _decoded(_BAD_PERCENT.sub(b"%25", raw)) if b"%" in raw else raw


def parameter_pairs(query: bytes) -> Iterator[tuple[str, str]]:
    """Names and values of a query, percent-decoded, a plus as a space; a character is a byte (Latin-1).

    The query is decoded in one pass: characters that are no byte stand for what divides it meanwhile.
    """
    if b"%" not in query and b"+" not in query:  # most queries end here
        for pair in filter(None, query.decode("latin-1").split("&")):
            name, _, value = pair.partition("=")
            yield name, value
        return
    plain = _BAD_PERCENT.sub(b"%25", query).replace(b"\\", b"\\\\").replace(b"%", b"\\x").replace(b"+", b" ")
    divided = plain.replace(b"&", b"\\u0100").replace(b"=", b"\\u0101").decode("unicode_escape")
    for pair in filter(None, divided.split("\u0100")):
        name, _, value = pair.partition("\u0101")
        yield name, value.replace("\u0101", "=")


@cache
def _escapes(allowed: bytes) -> tuple[bytes, ...]:
    """What each byte is written as where these stand for themselves."""
    return tuple(b"%c" % byte if byte in allowed else b"%%%02X" % byte for byte in range(256))


def percent_encoded(raw: bytes, allowed: bytes) -> bytes:
    """`raw` with all percent-encoded, in upper case, that is not `allowed`."""
    if not raw.translate(None, allowed):
        return raw  # most end here
    return b"".join(map(_escapes(allowed).__getitem__, raw))


def encode_path(decoded: bytes) -> bytes:
    """`decoded` with all percent-encoded, in upper case, that does not stand for itself in a canonical path.

    It removes neither dot segments nor doubled slashes: the caller knows that there are none.
    """
    return percent_encoded(decoded, _CANONICAL_BYTES)


def canonical_path(path: bytes) -> bytes:
    """The one key of all spellings of `path`, the path of a request target (begins with `/`, has no query).

    Percent-decodes once, then collapses doubled slashes, then removes dot segments (RFC 3986 section 5.2.4)
    but never above the root, then encodes by `encode_path`. A trailing slash stays; `/a/.` and `/a/..` end in
    one. So `%2e%2e` is a dot segment and `%2F` a separator, as in nginx: the key is looked up in an index
    made by a walk, where no name holds a slash, so that neither leads where `..` and `/` do not. A path is bytes, as
    names on disk are: what is no UTF-8 is no error, and no byte stands for another (`%C0%AE` is no dot).
    A key holds no `//`, `/./`, `/../`, `?` or `%00`, and is its own key.

    Raises HttpError 400 for a path that does not begin with `/`, for raw controls, spaces, `#`, `?` and bytes
    from 0x7F up, for a percent sign without two hex digits, and, once decoded, for NUL.
    """
    if is_canonical(path):
        return path  # most requests end here
    if not path.startswith(b"/"):
        raise HttpError(400, "the path does not begin with a slash")
    if path.translate(None, _RAW_BYTES):
        raise HttpError(400, "bad character in the path")
    try:
        decoded = _decoded(path)
    except ValueError:
        raise HttpError(400, "bad percent-encoding in the path") from None
    if b"\0" in decoded:
        raise HttpError(400, "NUL in the path")
    return canonical_of(decoded)


def is_canonical(path: bytes) -> bool:
    """Whether a path is its own key, as far as that is seen at a glance."""
    return not path.translate(None, _CANONICAL_BYTES) and path[:1] == b"/" and b"//" not in path and b"/." not in path


def canonical_of(decoded: bytes) -> bytes:
    """The key of a path that is decoded already, whatever its bytes are."""
    segments = decoded.split(b"/")
    kept: list[bytes] = []
    for segment in segments:
        if segment == b"..":
            del kept[-1:]
        elif segment not in (b"", b"."):
            kept.append(segment)
    if kept and segments[-1] in (b"", b".", b".."):
        kept.append(b"")
    return encode_path(b"/" + b"/".join(kept))
