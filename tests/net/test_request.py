"""zcserve.net.request: where a head ends, which are refused, and what a target is.

More refusals stand in wire/test_http_refusals.py.
"""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from zcserve.config.table import Config
from zcserve.errors import HttpError
from zcserve.net import request
from zcserve.net.request import MEMO_ENTRIES_MAX, Parser, host_of, split_target


def config(**limits: int) -> Config:
    return Config(root=Path(), **limits)  # type: ignore[arg-type]


def status_of(data: bytes) -> int:
    with pytest.raises(HttpError) as caught:
        Parser(config()).parse(data, 0)
    assert caught.value.close
    return caught.value.status


# --- heads ------------------------------------------------------------------------------------------------


def test_a_head_is_its_method_target_fields_and_end() -> None:
    head = b"HEAD /a?b HTTP/1.1\r\nHost: a\r\n\r\n"
    parsed = Parser(config()).parse(b"before" + head + b"behind", 6)
    assert parsed is not None
    method, target, fields, end = parsed
    assert (method, target, end) == (b"HEAD", b"/a?b", 6 + len(head))
    assert fields.version == b"HTTP/1.1"


@pytest.mark.parametrize("cut", range(len(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")))
def test_an_incomplete_head_is_no_answer(cut: int) -> None:
    assert Parser(config()).parse(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[:cut], 0) is None


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/3.0\r\n\r\n", 505),
        (b"GET / HTTP/3.0\r\nbad\r\n\r\n", 400),
        (b"\r\n" * 9000, 400),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nbad\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 101 + b"\r\n", 431),
        (b"A" * 17_000, 501),
        (b"A" * 17_000 + b" / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        (b"A" * 16_380 + b" / HTTP/1", 501),
        (b"A@" + b"A" * 17_000, 400),
        (b"GET / HTTP/1.1" + b"x" * 17_000, 400),
        (b"GET /" + b"x" * 9000 + b" " + b"x" * 9000, 400),
        (b"GET /" + b"x" * 17_000, 414),
    ],
)
def test_of_several_faults_the_malformed_one_is_told(data: bytes, status: int) -> None:
    assert status_of(data) == status


@pytest.mark.parametrize("line", [b"X-A", b"Host", b"Cookie", b"connection", b"Content-Length"])
def test_a_line_without_a_colon_is_400_whatever_was_seen_before(line: bytes) -> None:
    parser = Parser(config())
    seen = b"GET / HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nCookie: 1\r\nconnection: close\r\nContent-Length: 0\r\n\r\n"
    assert parser.parse(seen, 0) is not None
    for before in (b"", b"Host: a\r\n"):
        with pytest.raises(HttpError) as raised:
            parser.parse(b"GET / HTTP/1.1\r\n" + before + line + b"\r\n\r\n", 0)
        assert (raised.value.status, raised.value.close) == (400, True)


def test_a_year_of_two_digits_is_read_by_the_clock_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    parser = Parser(config())
    head = b"GET / HTTP/1.1\r\nHost: a\r\nIf-Modified-Since: Sunday, 06-Nov-94 08:49:37 GMT\r\n\r\n"
    years = []
    for now in (1990, 2043, 2050):  # 06-Nov-94 is the latest such year that is at most 50 years ahead
        monkeypatch.setattr("zcserve.http.time.gmtime", lambda _=None, now=now: time.struct_time((now,) + (1,) * 8))
        parsed = parser.parse(head, 0)
        assert parsed is not None
        assert parsed[2].modified_since is not None
        years.append(1970 + parsed[2].modified_since // 31_556_952)
    assert years == [1994, 1994, 2094]


LINE_BYTES = 200  # what one kept line takes, at the least


def grows(work: Callable[[], None]) -> int:
    """By how many bytes what is held grows."""
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        work()
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()


def test_heads_that_are_refused_at_their_last_line_fill_no_memory() -> None:
    parser = Parser(config())

    def refused(numbers: range) -> None:
        for number in numbers:
            lines = b"".join(b"X: %d-%d\r\n" % (number, line) for line in range(99))
            with pytest.raises(HttpError):
                parser.parse(b"GET / HTTP/1.1\r\n" + lines + b"bad\r\n\r\n", 0)

    refused(range(MEMO_ENTRIES_MAX // 99 + 1))
    assert grows(lambda: refused(range(1000, 1100))) < 100 * 99 * LINE_BYTES / 4


def test_empty_lines_that_trickle_in_are_skipped_at_once() -> None:
    parser, data = Parser(config(head_bytes_max=1 << 20)), b"\r\n" * 20_000
    began = time.thread_time()
    for end in range(2, len(data), 512):
        assert parser.parse(data[:end], 0) is None
    assert time.thread_time() - began < 0.03  # 0.003 in C, 0.06 with a step in Python for each line


def test_a_head_seen_before_is_not_judged_anew() -> None:
    parser = Parser(config())
    head = b"GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\nCookie: %b\r\n\r\n"
    first, second = parser.parse(head % b"x", 0), parser.parse(head % b"y", 0)
    assert first is not None
    assert second is not None
    assert first[2] is second[2]


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request, "MEMO_ENTRIES_MAX", 10)
    parser = Parser(config())

    def parsed(numbers: range) -> None:
        for n in numbers:
            request = b"GET / HTTP/1.1\r\nHost: a%d\r\nX%d: y\r\nRange: bytes=%d-\r\n\r\n" % (n, n, n)
            found = parser.parse(request, 0)
            assert found is not None
            assert found[2].ranges == ((n, None),)

    parsed(range(30))
    assert grows(lambda: parsed(range(1000, 2000))) < 30 * 1000  # a head that is kept takes about 1,000 bytes


def test_a_long_line_is_judged_and_not_kept() -> None:
    parser = Parser(config())
    head = b"GET / HTTP/1.1\r\nHost: a\r\nIf-None-Match: %b\r\n\r\n" % b", ".join(b'"%040d"' % n for n in range(90))
    judged = []
    for _ in range(2):
        parsed = parser.parse(head, 0)
        assert parsed is not None
        judged.append(parsed[2])
    assert all(isinstance(fields.none_match, tuple) and len(fields.none_match) == 90 for fields in judged)
    assert judged[0] is not judged[1]
    assert judged[0].none_match is not judged[1].none_match


# --- targets ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"/", (b"/", None)),
        (b"/a?", (b"/a", b"")),
        (b"/a?b?c", (b"/a", b"b?c")),
        (b"//a/b", (b"//a/b", None)),
        (b"http://h", (b"/", None)),
        (b"http://h?q", (b"/", b"q")),
        (b"HttpS://h:1/a?q", (b"/a", b"q")),
        (b"http://[::1]/a", (b"/a", None)),
    ],
)
def test_a_target_is_a_path_and_a_query(target: bytes, expected: tuple[bytes, bytes | None]) -> None:
    assert split_target(target) == expected


@pytest.mark.parametrize(
    "target", [b"*", b"a", b"h:80", b"http:/a", b"http:///a", b"http://u@h/", b"ws://h/", b"http://h#f", b"http://h:x/"]
)
def test_what_is_no_target_raises_400(target: bytes) -> None:
    with pytest.raises(HttpError) as caught:
        split_target(target)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("target", "host"),
    [
        (b"/", b"field.example"),
        (b"//a.example/", b"field.example"),
        (b"*", b"field.example"),
        (b"http://A.example/", b"a.example"),
        (b"HTTPS://a.example.:8080?q", b"a.example"),
        (b"http://[::1]:80/", b"[::1]"),
        (b"a.example:80", b"field.example"),
    ],
)
def test_the_authority_of_a_target_replaces_host(target: bytes, host: bytes) -> None:
    parser = Parser(Config(root="."))
    for named in (b"Field.example:80", b"field.example"):
        parsed = parser.parse(b"GET " + target + b" HTTP/1.1\r\nHost: " + named + b"\r\n\r\n", 0)
        assert parsed is not None
        assert host_of(parsed[1], parsed[2]) == host
