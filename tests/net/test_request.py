"""zcserve.net.request: what a head means, what a body is, where each ends.

More refusals stand in wire/test_http_refusals.py.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from zcserve.config.table import Config
from zcserve.errors import HttpError
from zcserve.http import ANY_TAG, EntityTag
from zcserve.net import request
from zcserve.net.request import (
    CHUNKED,
    CLOSE,
    KEEP,
    KEEP_10,
    MEMO_ENTRIES_MAX,
    Discard,
    Fields,
    Parser,
    split_target,
)


def config(**limits: int) -> Config:
    return Config(root=Path(), **limits)  # type: ignore[arg-type]


def fields_of(*lines: bytes, version: bytes = b"1.1", host: bytes = b"Host: a\r\n", log: bool = False) -> Fields:
    head = b"GET / HTTP/" + version + b"\r\n" + host + b"".join(line + b"\r\n" for line in lines) + b"\r\n"
    parsed = Parser(config(), log_fields=log).parse(head, 0)
    assert parsed is not None
    assert parsed[3] == len(head)
    return parsed[2]


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
    ("lines", "version", "mode"),
    [
        ([], b"1.1", KEEP),
        ([b"Connection: keep-alive"], b"1.1", KEEP),
        ([b"Connection: upgrade, CLOSE"], b"1.1", CLOSE),
        ([b"Connection: upgrade", b"Connection: close"], b"1.1", CLOSE),
        ([], b"1.0", CLOSE),
        ([b"Connection: Keep-Alive"], b"1.0", KEEP_10),
        ([b"Connection: keep-alive, close"], b"1.0", CLOSE),
        ([], b"1.9", KEEP),
    ],
)
def test_the_mode_says_what_becomes_of_the_connection(lines: list[bytes], version: bytes, mode: int) -> None:
    assert fields_of(*lines, version=version).mode == mode


@pytest.mark.parametrize(
    ("lines", "body"),
    [
        ([], 0),
        ([b"Content-Length: 0"], 0),
        ([b"Content-Length: 17"], 17),
        ([b"content-length:\t17 "], 17),
        ([b"Transfer-Encoding: chunked"], CHUNKED),
        ([b"Transfer-Encoding:\tChunked "], CHUNKED),
    ],
)
def test_the_body_is_as_long_as_its_framing_says(lines: list[bytes], body: int) -> None:
    assert fields_of(*lines).body == body


TAG = EntityTag(b'"x"', weak=False)
WEAK = EntityTag(b'"y"', weak=True)


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        (b"If-None-Match: *", "none_match", ANY_TAG),
        (b'If-None-Match: "x", W/"y"', "none_match", (TAG, WEAK)),
        (b"If-None-Match: x", "none_match", ()),
        (b'If-Match: "x"', "match", (TAG,)),
        (b"If-Match:", "match", ()),
        (b"If-Modified-Since: Thu, 01 Jan 1970 00:01:00 GMT", "modified_since", 60),
        (b"If-Modified-Since: never", "modified_since", None),
        (b"If-Unmodified-Since: Thu, 01 Jan 1970 00:01:00 GMT", "unmodified_since", 60),
        (b"Range: bytes=1-2,-3", "ranges", ((1, 2), (None, 3))),
        (b"Range: nonsense", "ranges", None),
        (b'If-Range: "x"', "if_range", TAG),
        (b'If-Range: W/"y"', "if_range", WEAK),
        (b"If-Range: Thu, 01 Jan 1970 00:01:00 GMT", "if_range", 60),
        (b"If-Range: nonsense", "if_range", EntityTag(b"", weak=True)),
        (b"Accept-Encoding: gzip;q=0.5", "accept", {b"gzip": 500}),
        (b"Accept-Encoding:", "accept", {}),
        (b"User-Agent: x", "user_agent", b""),
    ],
)
def test_a_field_means_what_its_line_says(line: bytes, name: str, value: object) -> None:
    assert getattr(fields_of(line), name) == value


def test_lines_of_one_name_are_one_list() -> None:
    fields = fields_of(b'If-None-Match: "x"', b"Accept-Encoding: br", b'IF-NONE-MATCH: W/"y"', b"Accept-Encoding: gzip")
    assert fields.none_match == (TAG, WEAK)
    assert fields.accept == {b"br": 1000, b"gzip": 1000}


def test_the_log_has_its_fields_when_it_asks() -> None:
    fields = fields_of(b"User-Agent: x", b"Referer: http://y/", log=True)
    assert (fields.user_agent, fields.referer) == (b"x", b"http://y/")


@pytest.mark.parametrize(
    ("lines", "plain"),
    [
        ([], True),
        ([b"Accept-Encoding: gzip", b"Cookie: a=b", b"X: y"], True),
        ([b"Accept-Encoding: identity;q=0, gzip"], False),
        ([b"Range: nonsense"], False),
        ([b"If-None-Match: x"], False),
        ([b"Content-Length: 1"], False),
    ],
)
def test_plain_is_what_depends_on_the_target_alone(lines: list[bytes], plain: bool) -> None:
    assert fields_of(*lines).plain is plain


@pytest.mark.parametrize(
    ("lines", "version", "expects"),
    [
        ([b"Expect: 100-Continue", b"Content-Length: 1"], b"1.1", True),
        ([b"Expect: 100-continue", b"Transfer-Encoding: chunked"], b"1.1", True),
        ([b"Expect: 100-continue"], b"1.1", False),
        ([b"Expect: a miracle", b"Content-Length: 1"], b"1.0", False),
        ([b"Expect:", b"Content-Length: 1"], b"1.1", True),
    ],
)
def test_who_expects_100_has_a_body_to_send(lines: list[bytes], version: bytes, expects: bool) -> None:
    assert fields_of(*lines, version=version).expects is expects


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


def test_heads_that_are_refused_at_their_last_line_fill_no_memory() -> None:
    parser = Parser(config())
    kept = parser._lines
    for number in range(100):
        lines = b"".join(b"X: %d-%d\r\n" % (number, line) for line in range(99))
        with pytest.raises(HttpError):
            parser.parse(b"GET / HTTP/1.1\r\n" + lines + b"bad\r\n\r\n", 0)
    assert len(kept) <= MEMO_ENTRIES_MAX


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
    for n in range(100):
        parsed = parser.parse(b"GET / HTTP/1.1\r\nHost: a%d\r\nX%d: y\r\nRange: bytes=%d-\r\n\r\n" % (n, n, n), 0)
        assert parsed is not None
        assert parsed[2].ranges == ((n, None),)
        assert len(parser._lines) <= 13
        assert len(parser._lines._names) <= 10
        assert all(len(heads) <= 10 for heads in parser._heads.values())


def test_a_long_line_is_judged_and_not_kept() -> None:
    parser = Parser(config())
    head = b"GET / HTTP/1.1\r\nHost: a\r\nIf-None-Match: %b\r\n\r\n" % b", ".join(b'"%040d"' % n for n in range(90))
    for _ in range(2):
        parsed = parser.parse(head, 0)
        assert parsed is not None
        assert isinstance(parsed[2].none_match, tuple)
        assert len(parsed[2].none_match) == 90
    assert len(parser._lines) == 1  # Host
    assert not parser._heads[b"HTTP/1.1"]


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


# --- bodies -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("length", "body"),
    [
        (0, b""),
        (5, b"hello"),
        (CHUNKED, b"0\r\n\r\n"),
        (CHUNKED, b"5\r\nhello\r\n0;last\r\nTrailer: x\r\n\r\n"),
        (CHUNKED, b'000A ; a = "b;\\"c" \r\n'.replace(b" \r\n", b"\r\n") + b"0123456789\r\n0\r\n\r\n"),
    ],
)
@pytest.mark.parametrize("behind", [b"", b"GET /"])
def test_a_body_ends_where_its_framing_says(length: int, body: bytes, behind: bytes) -> None:
    discard = Discard(length, 100, 100)
    assert discard.feed(b"xx" + body + behind, 2, 10) == 2 + len(body)
    assert discard.done


@pytest.mark.parametrize(
    ("length", "body", "status"),
    [
        (101, b"", 413),
        (CHUNKED, b"65\r\n", 413),
        (CHUNKED, b"5\r\nhello\r\n60\r\n", 413),
        (CHUNKED, b"5\r\nhellooo", 400),
        (CHUNKED, b"0\r\n" + b"A: b\r\n" * 17, 400),
        (CHUNKED, b"0\r\n" + b"A" * 101, 400),
    ],
)
def test_a_body_is_bounded(length: int, body: bytes, status: int) -> None:
    with pytest.raises(HttpError) as caught:
        Discard(length, 100, 100).feed(body, 0, 100)
    assert (caught.value.status, caught.value.close) == (status, True)
