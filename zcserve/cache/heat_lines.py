"""Heat written down: what the admin listener tells, and what --heat-file keeps, as lines of JSON.

    {"format": "zcserve heat", "version": 1, "at": 1764527276.1, "half_life_s": 21600.0}
    {"site": "default", "root": "/srv/www"}
    {"site": "default", "path": "/a%20b.html", "bytes": 1200, "uses": 3.25}
    ...
    {"files": 1}

The first line says what this is, and when it was true, of the wall clock. A line with a root stands before the files of
a site, and the last one tells that nothing is missing. Paths are keys: as in a URL, percent-encoded. What has another
version is not understood; members that are unknown are passed over.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from json.encoder import encode_basestring_ascii as quoted
from math import isfinite
from typing import Any, BinaryIO, NamedTuple, TypeVar

from zcserve.cache.heat import HALF_LIFE_S

FORMAT = "zcserve heat"
VERSION = 1
# A line is a path of a URL and little more; a request's target has 8 KiB by default.
LINE_BYTES_MAX = 64 * 1024
# Far more uses than a node counts in some half-lives.
USES_MAX = 1e18
BYTES_END = 1 << 63

T = TypeVar("T")


class HeatError(ValueError):
    """It is no heat that is understood. The text says why."""


class Told(NamedTuple):
    """The first line: when it was true, of the wall clock, and after how many seconds half of the uses were left."""

    at: float
    half_life_s: float


class RootTold(NamedTuple):
    """The root of a site."""

    site: str
    root: str


class FileTold(NamedTuple):
    """A file: its key, the bytes of it and its variants, and its decayed uses."""

    site: str
    path: str
    bytes: int
    uses: float


def first_line(at: float) -> bytes:
    """What stands before all else."""
    return _line({"format": FORMAT, "version": VERSION, "at": at, "half_life_s": HALF_LIFE_S})


def root_line(site: str, root: str) -> bytes:
    """What stands before the files of a site."""
    return _line({"site": site, "root": root})


def file_line(site: str, key: bytes, size: int, uses: float) -> bytes:
    """One file."""
    path = quoted(key.decode("latin-1"))
    return f'{{"site": {quoted(site)}, "path": {path}, "bytes": {size}, "uses": {round(uses, 4)!r}}}\n'.encode()


def last_line(files: int) -> bytes:
    """What stands behind so many files."""
    return _line({"files": files})


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode() + b"\n"


def lines_in(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file; of one that is too long no more than tells that it is."""
    return iter(lambda: file.readline(LINE_BYTES_MAX + 1), b"")


def read(lines: Iterable[bytes]) -> Iterator[Told | RootTold | FileTold]:
    """What the lines say: a `Told` first. Raises HeatError, perhaps only at the end: what was said before is to be
    thrown away then."""
    number = files = 0
    is_whole = False
    for number, line in enumerate(lines, 1):
        value = _object(line, number)
        if number == 1:
            yield _first(value)
        elif is_whole:
            raise HeatError(f"line {number} stands behind the last one")
        elif "path" in value:
            files += 1
            yield _file(value, number)
        elif "root" in value:
            yield RootTold(_text(value, "site", number), _text(value, "root", number))
        else:
            is_whole = True
            if (told := _count(value, "files", number)) != files:
                raise HeatError(f"line {number} tells of {told} files, and there are {files}")
    if not is_whole:
        raise HeatError(f"its end is missing, behind line {number}")


def _object(line: bytes, number: int) -> dict[str, Any]:
    if len(line) > LINE_BYTES_MAX:
        raise HeatError(f"line {number} has more than {LINE_BYTES_MAX} bytes")
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        raise HeatError(f"line {number} is no JSON") from None
    if not isinstance(value, dict):
        raise HeatError(f"line {number} is no JSON object")
    return value


def _first(value: dict[str, Any]) -> Told:
    if value.get("format") != FORMAT:
        raise HeatError("its first line does not say that it is heat")
    if value.get("version") != VERSION:
        raise HeatError(f"it has version {json.dumps(value.get('version'))[:40]}; version {VERSION} is understood")
    half_life = _number(value, "half_life_s", 1)
    if not half_life:
        raise HeatError("line 1: half_life_s cannot be 0")
    return Told(_number(value, "at", 1), half_life)


def _file(value: dict[str, Any], number: int) -> FileTold:
    site, path, size, uses = value.get("site"), value.get("path"), value.get("bytes"), value.get("uses")
    if (
        (isinstance(site, str) and isinstance(path, str) and path[:1] == "/" and path.isascii())
        and (type(size) is int and 0 <= size < BYTES_END)
        and (type(uses) is float and 0 <= uses <= USES_MAX)
    ):
        return FileTold(site, path, size, uses)  # as nearly all lines are: a start may wait for a million
    path = _text(value, "path", number)
    if not path.startswith("/") or not path.isascii():
        raise HeatError(f"line {number}: path is no path of a URL, percent-encoded")
    uses = _number(value, "uses", number)
    return FileTold(_text(value, "site", number), path, _count(value, "bytes", number), uses)


def _text(value: dict[str, Any], name: str, number: int) -> str:
    return _checked(value, name, number, lambda one: one if isinstance(one, str) else None)


def _count(value: dict[str, Any], name: str, number: int) -> int:
    return _checked(value, name, number, lambda one: one if type(one) is int and 0 <= one < BYTES_END else None)


def _number(value: dict[str, Any], name: str, number: int) -> float:
    def check(one: object) -> float | None:
        is_number = isinstance(one, int | float) and not isinstance(one, bool)
        return float(one) if is_number and 0 <= one <= USES_MAX and isfinite(one) else None  # type: ignore[arg-type, operator]

    return _checked(value, name, number, check)


def _checked(value: dict[str, Any], name: str, number: int, check: Callable[[object], T | None]) -> T:
    if (found := check(value.get(name))) is None:
        raise HeatError(f"line {number}: {name} is missing, or cannot be {json.dumps(value.get(name))[:40]}")
    return found
