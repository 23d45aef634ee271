"""zcserve.cache.heat_lines: what is written is read again, and what is no heat is refused with its line."""

from __future__ import annotations

import io

import pytest

from zcserve.cache import heat_lines
from zcserve.cache.heat import HALF_LIFE_S
from zcserve.cache.heat_lines import (
    LINE_BYTES_MAX,
    FileTold,
    HeatError,
    RootTold,
    Told,
    first_line,
    last_line,
    root_line,
)

FIRST = first_line(12.5)
FILE = heat_lines.file_line("www", b"/a%20b\xc3", 3, 1.00001)
GOOD = [FIRST, root_line("www", "/srv"), heat_lines.file_line("www", b'/a%20"b\\', 3, 1.25), last_line(1)]


def test_what_is_written_is_read_again() -> None:
    found = [Told(12.5, HALF_LIFE_S), RootTold("www", "/srv"), FileTold("www", '/a%20"b\\', 3, 1.25)]
    assert list(heat_lines.read(GOOD)) == found
    assert list(heat_lines.read(heat_lines.lines_in(io.BytesIO(b"".join(GOOD))))) == found


def test_members_that_are_unknown_are_passed_over() -> None:
    file = b'{"site": "a", "path": "/x", "bytes": 0, "uses": 1, "later": []}'
    assert list(heat_lines.read([FIRST, file, last_line(1)]))[1:] == [FileTold("a", "/x", 0, 1.0)]


def test_a_line_without_an_end_is_not_read_as_a_whole() -> None:
    file = io.BytesIO(b"x" * (3 * LINE_BYTES_MAX))
    assert len(next(heat_lines.lines_in(file))) == LINE_BYTES_MAX + 1


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ([], "its end is missing, behind line 0"),
        (GOOD[:-1], "its end is missing, behind line 3"),
        ([*GOOD, last_line(1)], "line 5 stands behind the last one"),
        ([FIRST, last_line(2)], "line 2 tells of 2 files, and there are 0"),
        ([b"\0\xff"], "line 1 is no JSON"),
        ([b"[" * 100_000], "line 1 has more than"),
        ([b"[" * 60_000], "line 1 is no JSON"),
        ([b"[]"], "line 1 is no JSON object"),
        ([b"{}"], "its first line does not say that it is heat"),
        ([b'{"format": "zcserve heat", "version": 2}'], "it has version 2; version 1 is understood"),
        ([b'{"format": "zcserve heat", "version": 1}'], "line 1: half_life_s is missing"),
        ([FIRST.replace(b"21600.0", b"0")], "line 1: half_life_s cannot be 0"),
        ([FIRST.replace(b"12.5", b"NaN")], "line 1: at is missing, or cannot be NaN"),
        ([FIRST, FILE, last_line(1)], "line 2: path is no path of a URL"),
        ([FIRST, b'{"site": "a", "path": "x", "bytes": 0, "uses": 1}'], "line 2: path is no path of a URL"),
        ([FIRST, b'{"site": "a", "path": "/x", "bytes": -1, "uses": 1}'], "line 2: bytes is missing, or cannot be -1"),
        ([FIRST, b'{"site": "a", "path": "/x", "bytes": true, "uses": 1}'], "line 2: bytes is missing"),
        ([FIRST, b'{"site": "a", "path": "/x", "bytes": 1, "uses": 1e999}'], "line 2: uses is missing"),
        ([FIRST, b'{"site": "a", "path": "/x", "bytes": 1, "uses": "1"}'], "line 2: uses is missing"),
        ([FIRST, b'{"site": 1, "path": "/x", "bytes": 1, "uses": 1}'], "line 2: site is missing, or cannot be 1"),
        ([FIRST, b'{"site": "a", "root": 1}'], "line 2: root is missing"),
        ([FIRST, b'{"path": ' + b"1" * LINE_BYTES_MAX + b"}"], "line 2 has more than"),
    ],
)  # fmt: skip
def test_what_is_no_heat_is_refused_with_its_line(lines: list[bytes], why: str) -> None:
    with pytest.raises(HeatError) as caught:
        list(heat_lines.read(lines))
    assert why in str(caught.value)
