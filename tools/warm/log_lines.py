"""Access logs, read: which files were asked for, and when.

Both of the server's formats are understood, with or without the fields that --access-log-fields puts behind a line; so
are the combined and the common format of other servers. A file may be compressed by gzip, as rotated ones are.

What counts is a GET that was answered with content, or with "not modified" (200, 206, 304). How large a file is, is
told by the longest answer with all of it (200).
"""

from __future__ import annotations

import json
import re
import sys
from calendar import timegm
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from functools import lru_cache
from gzip import GzipFile
from io import BufferedReader
from typing import NamedTuple, cast

from zcserve.errors import HttpError
from zcserve.http import canonical_path, host_name

# Longer lines are none of a server's: a head has 64 KiB at most.
LINE_BYTES_MAX = 256 * 1024
COUNTED = frozenset((200, 206, 304))

_GZIP = b"\x1f\x8b"
_COMBINED = re.compile(
    rb'\S+ \S+ \S+ \[(?P<time>[^\]]+)\] "(?P<request>(?:[^"\\]|\\.)*)" (?P<status>[0-9]{3}) (?P<length>[0-9]+|-)'
    rb'(?: "(?:[^"\\]|\\.)*" "(?:[^"\\]|\\.)*"(?: "(?P<host>(?:[^"\\]|\\.)*)")?)?'
)
_TIME = re.compile(rb"(\d\d)/(\w{3})/(\d{4}):(\d\d):(\d\d):(\d\d) ([+-])(\d\d)(\d\d)")
_JSON_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)Z")
_MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")
_ESCAPED = re.compile(rb"\\x([0-9a-fA-F]{2})")
_ORIGIN = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")


class Hit(NamedTuple):
    """A request that counts: the key of what was asked for, when, of the wall clock in seconds; the bytes of the file,
    0 where the answer does not tell; and the host's name, b"" where the line has none."""

    path: str
    at: float
    size: int
    host: bytes


class Answered(NamedTuple):
    """What a line says."""

    at: float
    method: bytes
    target: bytes
    status: int
    length: int
    host: bytes


def hits_in(lines: Iterable[bytes]) -> Iterator[Hit | bytes]:
    """The requests that count; and each line that is none of an access log, as it is."""
    for line in lines:
        if (said := answered(line)) is None:
            yield line
        elif (hit := hit_of(said)) is not None:
            yield hit


def lines_of(path: str) -> Iterator[bytes]:
    """The lines of a log; - is standard input. Raises OSError, EOFError and zlib.error (a compressed file is cut, or
    broken)."""
    with ExitStack() as stack:
        file = cast(BufferedReader, sys.stdin.buffer if path == "-" else stack.enter_context(open(path, "rb")))
        read = file.readline
        if file.peek(2)[:2] == _GZIP:
            read = stack.enter_context(GzipFile(fileobj=file)).readline
        yield from iter(lambda: read(LINE_BYTES_MAX), b"")


def answered(line: bytes) -> Answered | None:
    """What a line of a log says; None: it is none, or says nothing of a request."""
    if line.startswith(b"{"):
        return _of_json(line)
    found = _COMBINED.match(line)
    if found is None or (at := _time(found["time"])) is None:
        return None
    words = found["request"].split(b" ")
    method, target = (words[0], words[1]) if len(words) in (2, 3) else (b"", b"")
    length = 0 if found["length"] == b"-" else int(found["length"])
    return Answered(at, method, _unescaped(target), int(found["status"]), length, _unescaped(found["host"] or b""))


def _of_json(line: bytes) -> Answered | None:
    try:
        facts = json.loads(line)
        at = _json_time(facts["time"])
        method, target = (facts[name].encode(errors="surrogatepass") for name in ("method", "target"))
        status, length = facts["status"], facts["bytes"]
        host = facts.get("host", "").encode(errors="surrogatepass")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    if at is None or type(status) is not int or type(length) is not int:
        return None
    return Answered(at, method, _unescaped(target), status, length, host)


def hit_of(said: Answered) -> Hit | None:
    """The request, where it counts."""
    if said.method != b"GET" or said.status not in COUNTED:
        return None
    if (path := _path(said.target)) is None:
        return None
    return Hit(path, said.at, said.length if said.status == 200 else 0, host_name(said.host) if said.host else b"")


@lru_cache(maxsize=1 << 16)
def _path(target: bytes) -> str | None:
    """The key of what is asked for; None: a server answers that with 400."""
    try:
        return canonical_path(re.split(rb"[?#]", _ORIGIN.sub(b"", target, count=1), maxsplit=1)[0]).decode("latin-1")
    except HttpError:
        return None


def _unescaped(text: bytes) -> bytes:
    return _ESCAPED.sub(lambda match: bytes([int(match[1], 16)]), text) if b"\\" in text else text


@lru_cache(maxsize=64)
def _time(text: bytes) -> float | None:
    """06/Nov/1994:08:49:37 +0000, in seconds."""
    if (found := _TIME.fullmatch(text)) is None or found[2] not in _MONTHS:
        return None
    day, year, hour, minute, second = (int(found[place]) for place in (1, 3, 4, 5, 6))
    east = (int(found[8]) * 60 + int(found[9])) * (60 if found[7] == b"+" else -60)
    return _seconds(year, _MONTHS.index(found[2]) + 1, day, hour, minute, second, east)


@lru_cache(maxsize=64)
def _json_time(text: str) -> float | None:
    """1994-11-06T08:49:37Z, in seconds."""
    found = _JSON_TIME.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second = map(int, found.groups())
    return _seconds(year, month, day, hour, minute, second, 0)


def _seconds(year: int, month: int, day: int, hour: int, minute: int, second: int, east: int) -> float | None:
    try:
        return float(timegm((year, month, day, hour, minute, second)) - east)
    except ValueError:
        return None
