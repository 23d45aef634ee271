"""From bytes to a request (RFC 9112 sections 2-7).

`Parser.parse` has three answers: a request and where it ends, None for "more bytes are needed", and an HttpError for
what can never become a request. However the bytes are cut into pieces, the answer is the same.

A head is judged line by line, and lines repeat: browsers send the same dozen but for a cookie. So there are two
bounded memos. The first keeps what a line means: None for a well-formed field that changes nothing here, else a
`Line`. The second keeps what a head's lines mean together, as a `Fields`. A head seen before costs a split and two
lookups; a new cookie costs the judging of one line. Both memos only save work: they are emptied when full, and hold
nothing that the bytes do not say. So a parser that has seen much answers as a fresh one does: what a part of a line
means is never taken from a memo before the whole line is known to be well-formed, and what the clock decides (a date
with two digits for its year) is not kept.

All malformed heads are 400 and close: where the request's end is in doubt, nothing after it can be trusted (section
11.2).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from io import BytesIO
from typing import TypeAlias

from zcserve.config.table import Config
from zcserve.errors import HttpError
from zcserve.http import (
    FIELD_VALUE_BYTES,
    KNOWN_METHODS,
    AnyTag,
    EntityTag,
    coding_quality,
    is_host,
    is_token,
    parse_accept_encoding,
    parse_date,
    parse_entity_tags,
    parse_list,
    parse_ranges,
)
from zcserve.net.bodies import Hold

# What the prefix of the answer says about the connection (an index into reply.Prefixes).
KEEP, KEEP_10, CLOSE = 0, 1, 2

CHUNKED = -1  # `Fields.body` for a body whose length its chunks tell

# Lines longer than this are judged each time: a memo of them would hold little and weigh much.
LINE_MEMO_BYTES_MAX = 512
# Lines and heads kept. A site's visitors send some hundreds of different lines; 4,096 of them weigh about 1 MiB.
MEMO_ENTRIES_MAX = 4096

_HOST, _CONNECTION, _EXPECT = b"host", b"connection", b"expect"
_LENGTH, _CODING = b"content-length", b"transfer-encoding"
_ACCEPT, _NONE_MATCH, _MODIFIED = b"accept-encoding", b"if-none-match", b"if-modified-since"
_UPGRADE = b"upgrade"
_MATCH, _UNMODIFIED, _RANGE, _IF_RANGE = b"if-match", b"if-unmodified-since", b"range", b"if-range"
REFERER, USER_AGENT = b"referer", b"user-agent"
_CONDITIONAL = (_NONE_MATCH, _MODIFIED, _MATCH, _UNMODIFIED, _RANGE, _IF_RANGE)
_SIGNIFICANT = frozenset((_HOST, _CONNECTION, _EXPECT, _LENGTH, _CODING, _ACCEPT, _UPGRADE, *_CONDITIONAL))
# Well-formed, and different every time.
_NEVER_KEPT = frozenset((b"cookie", b"authorization"))
# A comma between a whole day's name and a day with dashes: a date whose two-digit year the present year decides.
_SHORT_YEAR = re.compile(rb"day, \d\d-")

_REQUEST_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([\x21-\x7e]+) HTTP/([0-9])\.([0-9])")
_EMPTY_LINES = re.compile(rb"(?:\r\n)*+")
_ABSOLUTE = re.compile(rb"(?i:https?)://([^/?#]*)([^#]*)")
# RFC 9110 section 8.6 allows leading zeros; `010` is read as ten and as eight, and so is refused.
_LENGTH_VALUE = re.compile(rb"0|[1-9][0-9]*")
_LENGTH_DIGITS_MAX = 18
_LINE_BYTES = bytes(range(0x20, 0x7F))
_PARTIAL_BYTES = FIELD_VALUE_BYTES + b"\r\n"
_METHOD_BYTES_MAX = max(map(len, KNOWN_METHODS))
_VERSION_BYTES = len(b"HTTP/1.1")


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
    """

    __slots__ = (
        "accept",
        "body",
        "expects",
        "if_range",
        "match",
        "mode",
        "modified_since",
        "none_match",
        "plain",
        "ranges",
        "referer",
        "unmodified_since",
        "user_agent",
        "version",
        "websocket",
    )

    version: bytes
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


# method, target, fields, offset behind the head
Parsed: TypeAlias = tuple[bytes, bytes, Fields, int]


class _Lines(dict[bytes, "Line | None"]):
    """Field line -> its meaning, judged at the first sight of it."""

    def __init__(self, significant: frozenset[bytes]) -> None:
        super().__init__()
        self._significant = significant
        self._names: dict[bytes, bytes] = {}
        self.full = False

    def __missing__(self, line: bytes) -> Line | None:
        name, colon, value = line.partition(b":")
        if not colon:  # before any memo is asked: a name that was seen with its colon says nothing about this line
            raise HttpError(400, "a field line without a colon", close=True)
        lower = self._names.get(name) or self._judge_name(name)
        if value.translate(None, FIELD_VALUE_BYTES):
            raise HttpError(400, "control character in a field value", close=True)
        if lower in _NEVER_KEPT:
            return None
        kept = len(line) <= LINE_MEMO_BYTES_MAX and not (lower in _CONDITIONAL and _SHORT_YEAR.search(value))
        meaning = Line(lower, value.strip(b" \t"), kept) if lower in self._significant else None
        if kept and not self.full:  # heads that are refused at their last line never come to `_forget`
            self[line] = meaning
            self.full = len(self) >= MEMO_ENTRIES_MAX
        return meaning

    def _judge_name(self, name: bytes) -> bytes:
        """RFC 9112 section 5.1: no white space before the colon; 5.2: no folded lines."""
        if not is_token(name):
            raise HttpError(400, "a field name that is no token", close=True)
        lower = name.lower()
        if len(name) <= 64:
            if len(self._names) >= MEMO_ENTRIES_MAX:
                self._names.clear()
            self._names[name] = lower
        return lower


class _Heads(dict[tuple[Line, ...], Fields]):
    """The lines that matter, in order -> what they mean together, for one minor version."""

    def __init__(self, version_11: bool) -> None:
        super().__init__()
        self._version_11 = version_11

    def __missing__(self, lines: tuple[Line, ...]) -> Fields:
        fields = _combine(lines, self._version_11)
        if all(line.kept for line in lines):
            if len(self) >= MEMO_ENTRIES_MAX:
                self.clear()
            self[lines] = fields
        return fields


class Parser:
    """Parses heads under a configuration's limits. `log_fields`: keep Referer and User-Agent for the log."""

    def __init__(self, config: Config, *, log_fields: bool = False) -> None:
        self._head_bytes_max = config.head_bytes_max
        self._fields_max = config.head_fields_max
        self._target_bytes_max = config.target_bytes_max
        self._lines = _Lines(_SIGNIFICANT | {REFERER, USER_AGENT} if log_fields else _SIGNIFICANT)
        self._judge = self._lines.__getitem__
        self._heads = {b"HTTP/1.1": _Heads(True), b"HTTP/1.0": _Heads(False)}

    def parse(self, data: bytes, start: int) -> Parsed | None:
        """The request whose head begins at `start`. None: incomplete. Raises HttpError.

        The target is as sent; `split_target` says what it means.
        """
        end = data.find(b"\r\n\r\n", start)
        if end < 0 or end - start > self._head_bytes_max:
            return self._parse_unusual(data, start, end)
        lines = data[start:end].split(b"\r\n")
        first = lines[0]
        # The order of these steps is the order in which pieces would show the faults: what is malformed comes first.
        try:
            method, target, version = first.split(b" ")
            heads = self._heads[version]
        except (ValueError, KeyError):
            return self._parse_unusual(data, start, end)
        if first.translate(None, _LINE_BYTES) or not target or method not in KNOWN_METHODS:
            _judge_request_line(first)
        del lines[0]
        meanings = tuple(filter(None, map(self._judge, lines)))
        if self._lines.full:
            self._forget()
        if len(lines) > self._fields_max:
            raise HttpError(431, f"more than {self._fields_max} header fields", close=True)
        if len(target) > self._target_bytes_max:
            raise HttpError(414, f"a target longer than {self._target_bytes_max} bytes", close=True)
        return method, target, heads[meanings], end + 4

    def _parse_unusual(self, data: bytes, start: int, end: int) -> Parsed | None:
        """Heads that begin with empty lines, are incomplete, too long, or not of version 1.0 or 1.1."""
        if data.startswith(b"\r\n", start):  # RFC 9112 section 2.2
            behind = _EMPTY_LINES.match(data, start, start + self._head_bytes_max + 2)
            assert behind is not None
            if behind.end() - start > self._head_bytes_max:
                raise HttpError(400, "nothing but empty lines", close=True)
            return self.parse(data, behind.end())
        if end < 0 or end - start > self._head_bytes_max:
            # What lies beyond the limit is not looked at, so that it does not matter how much of it is here.
            head = data[start : start + self._head_bytes_max + 1]
            _judge_partial(head)
            if end < 0 and len(data) - start <= self._head_bytes_max + 3:  # 3: the blank line may be on its way
                return None
            raise self._too_long(head)
        return self._parse_other_version(data, start, end)

    def _too_long(self, head: bytes) -> HttpError:
        """What is too long in a head whose beginning, longer than the limit, is `head`, and well-formed so far."""
        line, crlf, _ = head.partition(b"\r\n")
        method, _, rest = line.partition(b" ")
        target, _, version = rest.partition(b" ")
        if not crlf and (not is_token(method) or len(version.removesuffix(b"\r")) > _VERSION_BYTES):
            return HttpError(400, "not a request line of HTTP/1.1", close=True)
        if len(method) > _METHOD_BYTES_MAX:  # RFC 9112 section 3
            return HttpError(501, "a method longer than any", close=True)
        if len(target) > self._target_bytes_max or not crlf:
            return HttpError(414, f"a target longer than {self._target_bytes_max} bytes", close=True)
        return HttpError(431, f"a head longer than {self._head_bytes_max} bytes", close=True)

    def _parse_other_version(self, data: bytes, start: int, end: int) -> Parsed | None:
        first, crlf, rest = data[start:end].partition(b"\r\n")
        major, minor = _judge_request_line(first)
        for line in rest.split(b"\r\n") if crlf else ():
            self._judge(line)
        if major != b"1":
            raise HttpError(505, "HTTP/1.1 and HTTP/1.0 are spoken here", close=True)
        # A higher minor version is answered as the highest we know (RFC 9110 section 2.5).
        parsed = self.parse(first[: -len(minor)] + b"1" + crlf + rest + b"\r\n\r\n", 0)
        assert parsed is not None
        return (*parsed[:3], end + 4)

    def _forget(self) -> None:
        self._lines.clear()
        self._lines.full = False
        for heads in self._heads.values():
            heads.clear()


def _judge_request_line(line: bytes) -> tuple[bytes, bytes]:
    """The version's major and minor digit (RFC 9112 section 3). Raises HttpError 400."""
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        raise HttpError(400, "not a request line of HTTP/1.1", close=True)
    return match[3], match[4]


def _judge_partial(head: bytes) -> None:
    """Refuse at once what no further byte can mend: a client that speaks something else would wait for ever."""
    if head.translate(None, _PARTIAL_BYTES):
        raise HttpError(400, "control character in the head", close=True)
    rest = head.replace(b"\r\n", b"")
    if b"\n" in rest or b"\r" in rest[:-1] or (rest.endswith(b"\r") and not head.endswith(b"\r")):
        raise HttpError(400, "a bare CR or LF in the head", close=True)
    line, crlf, _ = head.partition(b"\r\n")
    if crlf:
        _judge_request_line(line)


def split_target(target: bytes) -> tuple[bytes, bytes | None]:
    """Path and query (None: no question mark) of a request target in origin-form or absolute-form.

    RFC 9112 section 3.2. The authority of an absolute-form (`authority`) must be well-formed; with one site it decides
    nothing. Raises HttpError 400.
    """
    if not target.startswith(b"/"):
        match = _ABSOLUTE.fullmatch(target)
        if match is None or not match[1] or not is_host(match[1]):
            raise HttpError(400, "not a request target", close=True)
        target = match[2] if match[2].startswith(b"/") else b"/" + match[2]
    path, mark, query = target.partition(b"?")
    return path, query if mark else None


def authority(target: bytes) -> bytes | None:
    """Host and port of a target in absolute-form that `split_target` takes, which replace what Host says, whatever that
    is (RFC 9112 section 3.2.2); None for origin-form."""
    match = _ABSOLUTE.fullmatch(target) if not target.startswith(b"/") else None
    return match[1] if match is not None else None


def _combine(lines: tuple[Line, ...], version_11: bool) -> Fields:
    """What the lines of one head mean together. Raises HttpError."""
    values: dict[bytes, list[bytes]] = {}
    for line in lines:
        values.setdefault(line.name, []).append(line.value)
    fields = Fields()
    fields.version = b"HTTP/1.1" if version_11 else b"HTTP/1.0"
    _check_host(values.get(_HOST, []), version_11)
    fields.body = _body_length(values.get(_LENGTH, []), values.get(_CODING, []), version_11)
    fields.mode = _mode(values.get(_CONNECTION, []), version_11)
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
    fields.referer = values.get(REFERER, [b""])[0]
    fields.user_agent = values.get(USER_AGENT, [b""])[0]
    fields.websocket = version_11 and _is_among(b"websocket", values.get(_UPGRADE, []))
    fields.websocket = fields.websocket and _is_among(_UPGRADE, values.get(_CONNECTION, []))
    takes_identity = fields.accept is None or coding_quality(fields.accept, b"identity") > 0
    fields.plain = takes_identity and not fields.body and not any(name in values for name in _CONDITIONAL)
    return fields


def _check_host(hosts: list[bytes], version_11: bool) -> None:
    """RFC 9112 section 3.2."""
    if len(hosts) > 1:
        raise HttpError(400, "more than one Host", close=True)
    if not hosts and version_11:
        raise HttpError(400, "no Host", close=True)
    if hosts and not is_host(hosts[0]):
        raise HttpError(400, "an invalid Host", close=True)


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


def _mode(values: list[bytes], version_11: bool) -> int:
    """RFC 9112 section 9.3."""
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


# --- bodies, read to be thrown away, or to be kept ---------------------------------------------------------

# A chunk's size line with its extensions (RFC 9112 section 7.1.1); no client of ours needs more.
CHUNK_LINE_BYTES_MAX = 1024

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*+"'
_CHUNK_LINE = re.compile(
    rb"([0-9A-Fa-f]{1,16})(?:[ \t]*+;[ \t]*+%b(?:[ \t]*+=[ \t]*+(?:%b|%b))?)*+" % (_TOKEN, _TOKEN, _QUOTED)
)


class Discard:
    """A request's body on its way to nowhere, so that the connection stays in step.

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
