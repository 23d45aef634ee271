"""From bytes to a request's head (RFC 9112 sections 2, 3 and 5).

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
from typing import TypeAlias

from zcserve.config.table import Config
from zcserve.errors import HttpError
from zcserve.http import FIELD_VALUE_BYTES, KNOWN_METHODS, host_name, is_host, is_token
from zcserve.net.fields import CONDITIONAL, LOGGED, SIGNIFICANT, Fields, Line, combine

# Lines longer than this are judged each time: a memo of them would hold little and weigh much.
LINE_MEMO_BYTES_MAX = 512
# Lines and heads kept. A site's visitors send some hundreds of different lines; 4,096 of them weigh about 1 MiB.
MEMO_ENTRIES_MAX = 4096

# Well-formed, and different every time.
_NEVER_KEPT = frozenset((b"cookie", b"authorization"))
# A comma between a whole day's name and a day with dashes: a date whose two-digit year the present year decides.
_SHORT_YEAR = re.compile(rb"day, \d\d-")

_REQUEST_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([\x21-\x7e]+) HTTP/([0-9])\.([0-9])")
_EMPTY_LINES = re.compile(rb"(?:\r\n)*+")
_ABSOLUTE = re.compile(rb"(?i:https?)://([^/?#]*)([^#]*)")
_LINE_BYTES = bytes(range(0x20, 0x7F))
_PARTIAL_BYTES = FIELD_VALUE_BYTES + b"\r\n"
_METHOD_BYTES_MAX = max(map(len, KNOWN_METHODS))
_VERSION_BYTES = len(b"HTTP/1.1")

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
        kept = len(line) <= LINE_MEMO_BYTES_MAX and not (lower in CONDITIONAL and _SHORT_YEAR.search(value))
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
        fields = combine(lines, self._version_11)
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
        self._lines = _Lines(SIGNIFICANT | LOGGED if log_fields else SIGNIFICANT)
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

    RFC 9112 section 3.2. The authority of an absolute-form (`authority`) must be well-formed. Raises HttpError 400.
    """
    if not target.startswith(b"/"):
        match = _ABSOLUTE.fullmatch(target)
        if match is None or not match[1] or not is_host(match[1]):
            raise HttpError(400, "not a request target", close=True)
        target = match[2] if match[2].startswith(b"/") else b"/" + match[2]
    path, mark, query = target.partition(b"?")
    return path, query if mark else None


def host_of(target: bytes, fields: Fields) -> bytes:
    """The name of the host that a request is for, as `host_name` gives it: that of an absolute-form, else the Host
    field's. Where `split_target` does not take the target, any."""
    named = authority(target)
    return fields.host if named is None else host_name(named)


def authority(target: bytes) -> bytes | None:
    """Host and port of a target in absolute-form that `split_target` takes, which replace what Host says, whatever that
    is (RFC 9112 section 3.2.2); None for origin-form."""
    match = _ABSOLUTE.fullmatch(target) if not target.startswith(b"/") else None
    return match[1] if match is not None else None


def before_path(target: bytes) -> bytes:
    """What stands in front of the path of a target that `split_target` takes: scheme and authority of an absolute-form,
    of which the path may be empty; b"" for origin-form."""
    match = _ABSOLUTE.fullmatch(target) if not target.startswith(b"/") else None
    return target[: match.start(2)] if match is not None else b""
