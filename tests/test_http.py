"""The words of HTTP as tables of (what a client sent, what it means)."""

from __future__ import annotations

import calendar
import re
import sys
from datetime import UTC, datetime

import pytest

from zcserve import http
from zcserve.errors import HttpError
from zcserve.http import ANY_TAG, EntityTag

LONG = 60_000  # bytes: a field or path longer than any limit lets through

# --- status lines and methods


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (100, b"HTTP/1.1 100 Continue\r\n"),
        (200, b"HTTP/1.1 200 OK\r\n"),
        (206, b"HTTP/1.1 206 Partial Content\r\n"),
        (304, b"HTTP/1.1 304 Not Modified\r\n"),
        (413, b"HTTP/1.1 413 Content Too Large\r\n"),
        (414, b"HTTP/1.1 414 URI Too Long\r\n"),
        (416, b"HTTP/1.1 416 Range Not Satisfiable\r\n"),
        (422, b"HTTP/1.1 422 Unprocessable Content\r\n"),
        (431, b"HTTP/1.1 431 Request Header Fields Too Large\r\n"),
        (505, b"HTTP/1.1 505 HTTP Version Not Supported\r\n"),
        (299, b"HTTP/1.1 299 \r\n"),
    ],
)
def test_a_status_line_has_the_phrase_of_rfc_9110(status: int, line: bytes) -> None:
    assert http.status_line(status) == line


def test_methods_are_known_by_their_exact_name() -> None:
    assert {b"GET", b"HEAD", b"POST", b"PATCH", b"TRACE", b"CONNECT", b"PROPFIND"} <= http.KNOWN_METHODS
    assert not {b"get", b"BREW", b"PRI", b""} & http.KNOWN_METHODS
    assert all(http.is_token(method) for method in http.KNOWN_METHODS)


# --- tokens, field values, lists


@pytest.mark.parametrize("value", [b"GET", b"x-Custom_1", b"!#$%&'*+-.^_`|~", b"0"])
def test_a_token_is_made_of_token_characters(value: bytes) -> None:
    assert http.is_token(value)


@pytest.mark.parametrize("value", [b"", b"a b", b"a:", b"a\t", b"a\0", b"(a)", b"a,b", b'"a"', b"\xe9"])
def test_anything_else_is_no_token(value: bytes) -> None:
    assert not http.is_token(value)


def test_a_field_value_holds_tabs_spaces_printables_and_obs_text_or_nothing() -> None:
    assert http.is_field_value(b"")
    refused = [byte for byte in range(256) if not http.is_field_value(b"a" + bytes((byte,)) + b"b")]
    assert refused == [*range(0x09), *range(0x0A, 0x20), 0x7F]


@pytest.mark.parametrize(
    ("value", "elements"),
    [
        (b"", []),
        (b" , ,\t,", []),
        (b"close", [b"close"]),
        (b"keep-alive ,\tUpgrade, ,x y ", [b"keep-alive", b"Upgrade", b"x y"]),
    ],
)
def test_a_list_loses_white_space_and_empty_elements(value: bytes, elements: list[bytes]) -> None:
    assert http.parse_list(value) == elements


# --- dates

RFC_DATE = 784111777  # RFC 9110 section 5.6.7's example, in its three formats


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, b"Thu, 01 Jan 1970 00:00:00 GMT"),
        (RFC_DATE, b"Sun, 06 Nov 1994 08:49:37 GMT"),
        (-1, b"Wed, 31 Dec 1969 23:59:59 GMT"),
        (951782400, b"Tue, 29 Feb 2000 00:00:00 GMT"),
        (-62135596800, b"Mon, 01 Jan 0001 00:00:00 GMT"),
        (253402300799, b"Fri, 31 Dec 9999 23:59:59 GMT"),
        (-62135596801, b"Mon, 01 Jan 0001 00:00:00 GMT"),
        (2**63, b"Fri, 31 Dec 9999 23:59:59 GMT"),
    ],
)
def test_dates_are_written_as_imf_fixdate(seconds: int, text: bytes) -> None:
    assert http.format_date(seconds) == text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (b"Sun, 06 Nov 1994 08:49:37 GMT", RFC_DATE),
        (b"Sunday, 06-Nov-94 08:49:37 GMT", RFC_DATE),
        (b"Sun Nov  6 08:49:37 1994", RFC_DATE),
        (b"Sun Nov 06 08:49:37 1994", RFC_DATE),
        (b"Mon, 06 Nov 1994 08:49:37 GMT", RFC_DATE),  # the day's name is not checked
        (b"Tue, 29 Feb 2000 00:00:00 GMT", 951782400),
        (b"Sat, 31 Dec 2016 23:59:60 GMT", 1483228800),
        (b"Mon, 01 Jan 0001 00:00:00 GMT", -62135596800),
        (b"Fri, 31 Dec 9999 23:59:59 GMT", 253402300799),
    ],
)
def test_the_three_formats_of_a_date_are_read(text: bytes, seconds: int) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
    assert http.parse_date(text, now) == seconds


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"0",
        b"Sun, 06 Nov 1994 08:49:37",
        b"Sun, 06 Nov 1994 08:49:37 UTC",
        b"Sun, 06 Nov 1994 08:49:37 gmt",
        b"sun, 06 Nov 1994 08:49:37 GMT",
        b"Sun, 06 nov 1994 08:49:37 GMT",
        b"Sun, 6 Nov 1994 08:49:37 GMT",
        b"Sun, 06 Nov 94 08:49:37 GMT",
        b"Sun,  06 Nov 1994 08:49:37 GMT",
        b" Sun, 06 Nov 1994 08:49:37 GMT",
        b"Sun, 06 Nov 1994 08:49:37 GMT\n",
        b"Sun, 06 Nov 1994 08:49:37 GMT; length=3",
        b"Thu, 31 Feb 1994 08:49:37 GMT",
        b"Wed, 29 Feb 1995 08:49:37 GMT",
        b"Sun, 00 Nov 1994 08:49:37 GMT",
        b"Sun, 06 Nov 0000 08:49:37 GMT",
        b"Sun, 06 Nov 1994 24:00:00 GMT",
        b"Sun, 06 Nov 1994 08:60:00 GMT",
        b"Sun, 06 Nov 1994 08:49:61 GMT",
        b"Sun, 06-Nov-94 08:49:37 GMT",
        b"Sunday, 06-Nov-1994 08:49:37 GMT",
        b"Sun Nov 6 08:49:37 1994",
        b"Sun Nov  6 08:49:37 1994 GMT",
        "Sun, \u0660\u0666 Nov 1994 08:49:37 GMT".encode(),
    ],
)
def test_what_only_looks_like_a_date_is_none(text: bytes) -> None:
    assert http.parse_date(text) is None


@pytest.mark.parametrize(
    ("now", "text", "year"),
    [
        ((2026, 6, 15), b"Monday, 15-Jun-76 00:00:00 GMT", 2076),  # 50 years to the second
        ((2026, 6, 15), b"Monday, 15-Jun-76 00:00:01 GMT", 1976),
        ((2026, 6, 15), b"Monday, 15-Jun-27 00:00:00 GMT", 2027),
        ((2026, 6, 15), b"Monday, 15-Jun-99 00:00:00 GMT", 1999),
        ((2026, 6, 15), b"Monday, 15-Jun-00 00:00:00 GMT", 2000),
        ((1998, 6, 15), b"Monday, 15-Jun-03 00:00:00 GMT", 2003),
        ((2060, 6, 15), b"Monday, 15-Jun-05 00:00:00 GMT", 2105),
        ((2060, 6, 15), b"Monday, 15-Jun-11 00:00:00 GMT", 2011),
    ],
)
def test_two_digits_are_the_latest_year_within_fifty(now: tuple[int, ...], text: bytes, year: int) -> None:
    seconds = http.parse_date(text, calendar.timegm((*now, 0, 0, 0)))
    assert seconds is not None
    assert datetime.fromtimestamp(seconds, UTC).year == year


# --- entity tags

A, WEAK_A, B = EntityTag(b'"a"', False), EntityTag(b'"a"', True), EntityTag(b'"b"', False)


@pytest.mark.parametrize(
    ("value", "tags"),
    [
        (b'"a"', (A,)),
        (b'W/"a"', (WEAK_A,)),
        (b'"a","b"', (A, B)),
        (b' "a" ,\t W/"a" , "b"\t', (A, WEAK_A, B)),
        (b',, "a",, "b",', (A, B)),
        (b'"a,b", "W/"', (EntityTag(b'"a,b"', False), EntityTag(b'"W/"', False))),
        (b'""', (EntityTag(b'""', False),)),
        (b'"\xff\\!"', (EntityTag(b'"\xff\\!"', False),)),
        (b"", ()),
        (b" , ", ()),
        (b"*", ANY_TAG),
        (b" * ", ANY_TAG),
    ],
)
def test_entity_tags_are_read(value: bytes, tags: object) -> None:
    assert http.parse_entity_tags(value) == tags


@pytest.mark.parametrize(
    "value",
    [b"a", b'"a', b'a"', b'"a" "b"', b'"a""b"', b'w/"a"', b'W/ "a"', b'"a b"', b'"\x7f"', b'*, "a"', b"**"],
)
def test_malformed_entity_tags_are_none(value: bytes) -> None:
    assert http.parse_entity_tags(value) is None


@pytest.mark.parametrize(
    ("a", "b", "strong", "weak"),
    [  # RFC 9110 section 8.8.3.2's table
        (WEAK_A, WEAK_A, False, True),
        (WEAK_A, EntityTag(b'"b"', True), False, False),
        (WEAK_A, A, False, True),
        (A, WEAK_A, False, True),
        (A, A, True, True),
        (A, B, False, False),
    ],
)
def test_tags_are_compared_strongly_and_weakly(a: EntityTag, b: EntityTag, strong: bool, weak: bool) -> None:
    assert (http.strong_match(a, b), http.weak_match(a, b)) == (strong, weak)


# --- ranges


@pytest.mark.parametrize(
    ("value", "specs"),
    [
        (b"bytes=0-0", ((0, 0),)),
        (b"BYTES=0-499", ((0, 499),)),
        (b"bytes=9500-", ((9500, None),)),
        (b"bytes=-500", ((None, 500),)),
        (b"bytes=-0", ((None, 0),)),
        (b"bytes=0-0,-1", ((0, 0), (None, 1))),
        (b"bytes=, 5-6 ,,\t1-2 , ", ((5, 6), (1, 2))),
        (b"bytes=007-0000000000000000000000000000008", ((7, 8),)),
        (b"bytes=0-9999999999999999999", ((0, 10**19 - 1),)),
        (b"bytes=0-99999999999999999999", ((0, 10**19),)),
    ],
)
def test_ranges_are_read(value: bytes, specs: object) -> None:
    assert http.parse_ranges(value) == specs


def test_numbers_of_any_length_are_read() -> None:
    digits = b"9" * LONG  # int() itself raises from 4,300 digits on
    assert http.parse_ranges(b"bytes=5-%b, %b-, -%b" % (digits, digits, digits)) == (
        (5, 10**19),
        (10**19, None),
        (None, 10**19),
    )


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"bytes",
        b"bytes=",
        b"bytes=,",
        b"bytes=-",
        b"bytes=1",
        b"bytes=a-b",
        b"bytes=2-1",
        b"bytes=0-1,x",
        b"bytes=0-1,5-4",
        b"bytes=0 - 1",
        b"bytes=0--1",
        b"bytes=+0-1",
        b"bytes=0x0-1",
        b"bytes =0-1",
        b" bytes=0-1",
        b"bytes:0-1",
        b"items=0-1",
        "bytes=\u0660-\u0661".encode(),
    ],
)
def test_malformed_ranges_and_other_units_are_none(value: bytes) -> None:
    assert http.parse_ranges(value) is None


@pytest.mark.parametrize(
    ("value", "size", "parts"),
    [
        (b"bytes=0-0", 10, [(0, 1)]),
        (b"bytes=2-4", 10, [(2, 5)]),
        (b"bytes=9-", 10, [(9, 10)]),
        (b"bytes=5-99999999999999999999999", 10, [(5, 10)]),
        (b"bytes=-3", 10, [(7, 10)]),
        (b"bytes=-99", 10, [(0, 10)]),
        (b"bytes=10-", 10, []),
        (b"bytes=99999999999999999999999-", 10, []),
        (b"bytes=-0", 10, []),
        (b"bytes=0-", 0, []),
        (b"bytes=-0", 0, []),
        (b"bytes=-1", 0, None),
        (b"bytes=0-,-5", 0, None),
        (b"bytes=-0,10-,3-3", 10, [(3, 4)]),
        (b"bytes=0-0,-1", 10, [(0, 1), (9, 10)]),
        (b"bytes=8-9,0-1,4-5", 10, [(8, 10), (0, 2), (4, 6)]),
        (b"bytes=0-4,5-9", 10, [(0, 10)]),
        (b"bytes=0-5,3-7", 10, [(0, 8)]),
        (b"bytes=0-9,2-3", 10, [(0, 10)]),
        (b"bytes=6-7,0-1,4-5", 10, [(4, 8), (0, 2)]),  # a joined range stands where its first was asked for
        (b"bytes=0-0,2-2,1-1", 10, [(0, 3)]),
        (b"bytes=0-5,1-6,2-7", 10, [(0, 8)]),  # two overlaps
    ],
)
def test_ranges_are_resolved_against_a_size(value: bytes, size: int, parts: list[tuple[int, int]] | None) -> None:
    specs = http.parse_ranges(value)
    assert specs is not None
    assert http.resolve_ranges(specs, size, 10) == parts


@pytest.mark.parametrize(
    ("value", "count_max"),
    [
        (b"bytes=0-0,2-2,4-4", 2),
        (b"bytes=90-,91-,92-", 2),  # counted before it is looked whether they can be satisfied
        (b"bytes=0-,0-,0-,0-", 10),
        (b"bytes=0-2,2-4,4-6,6-8", 10),
        (b"bytes=6-8,4-6,2-4,0-2", 10),
    ],
)
def test_many_ranges_and_many_overlaps_are_abuse(value: bytes, count_max: int) -> None:
    specs = http.parse_ranges(value)
    assert specs is not None
    assert http.resolve_ranges(specs, 10, count_max) is None


def test_as_many_ranges_as_allowed_are_no_abuse() -> None:
    assert http.resolve_ranges(((0, 0), (2, 2)), 10, 2) == [(0, 1), (2, 3)]


# --- content codings


@pytest.mark.parametrize(
    ("value", "accepted"),
    [
        (b"", {}),
        (b"gzip", {b"gzip": 1000}),
        (b"GZip, X-GZIP;q=0.5", {b"gzip": 500}),
        (b"x-gzip", {b"gzip": 1000}),
        (b"gzip, deflate, br, zstd", {b"gzip": 1000, b"deflate": 1000, b"br": 1000, b"zstd": 1000}),
        (b"br;q=1.0, gzip;q=0.8, *;q=0.1", {b"br": 1000, b"gzip": 800, b"*": 100}),
        (b"br \t; \tQ=0.123 ,, identity;q=0", {b"br": 123, b"identity": 0}),
        (b"a;q=1, b;q=1., c;q=1.000", {b"a": 1000, b"b": 1000, b"c": 1000}),
        (b"a;q=0, b;q=0., c;q=0.05", {b"a": 0, b"b": 0, b"c": 50}),
        (b"a;q=1.001, b;q=0.1234, c;q=.5, d;q=2, e;q=-1, f;q=, br", {b"br": 1000}),
        (b"a;q=0.5;x, b;x=1, c;q = 1, d e, ;q=1, gzip;q=0.3", {b"gzip": 300}),
        (b"gzip;q=0, gzip", {b"gzip": 0}),
    ],
)
def test_accept_encoding_is_read_but_for_its_bad_elements(value: bytes, accepted: dict[bytes, int]) -> None:
    assert http.parse_accept_encoding(value) == accepted


@pytest.mark.parametrize(
    ("value", "br", "gzip", "identity"),
    [
        (b"", 0, 0, 1000),
        (b"gzip", 0, 1000, 1000),
        (b"gzip;q=0.5", 0, 500, 500),
        (b"br, gzip;q=0.5", 1000, 500, 500),
        (b"gzip;q=0", 0, 0, 1000),
        (b"gzip;q=0, br;q=0.2", 200, 0, 200),
        (b"*", 1000, 1000, 1000),
        (b"*;q=0.3, gzip", 300, 1000, 300),
        (b"*;q=0", 0, 0, 0),
        (b"gzip, *;q=0", 0, 1000, 0),
        (b"identity;q=0", 0, 0, 0),
        (b"identity;q=0, *", 1000, 1000, 0),
        (b"*;q=0, identity;q=0.1", 0, 0, 100),
        (b"identity, gzip;q=0.5", 0, 500, 1000),
    ],
)
def test_a_coding_has_the_quality_of_rfc_9110(value: bytes, br: int, gzip: int, identity: int) -> None:
    accepted = http.parse_accept_encoding(value)
    qualities = [http.coding_quality(accepted, coding) for coding in (b"br", b"gzip", b"identity")]
    assert qualities == [br, gzip, identity]


# --- hosts


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"localhost",
        b"www.example.com",
        b"www.example.com:8080",
        b"127.0.0.1",
        b"127.0.0.1:0",
        b"a:",
        b"a:65535",
        b"a:00000000000080",
        b"a_b~c!$&'()*+,;=",
        b"caf%C3%a9.example",
        b"[::1]",
        b"[::1]:8080",
        b"[2001:DB8::7]:",
        b"[::ffff:192.0.2.1]",
        b"[v1.fe80::a+en1]:80",
    ],
)
def test_a_host_is_a_name_or_an_address_and_perhaps_a_port(value: bytes) -> None:
    assert http.is_host(value)


@pytest.mark.parametrize(
    "value",
    [
        b" ",
        b":80",
        b"a b",
        b"a\0",
        b"a\n",
        b"a/b",
        b"a?b",
        b"a#b",
        b"user@a",
        b"user:password@a",
        b"a:b",
        b"a:80:80",
        b"a:65536",
        b"a:+80",
        b"a:999999999999",
        b"%",
        b"%4",
        b"%zz",
        b"a\\b",
        b"a\xe9",
        b"::1",
        b"[]",
        b"[::1",
        b"::1]",
        b"[:::1]",
        b"[1:2:3:4:5:6:7:8:9]",
        b"[127.0.0.1]",
        b"[fe80::1%eth0]",
        b"[fe80::1%25eth0]",
        b"[v.a]",
        b"[v1.]",
        b"[::1]80",
        b"http://a",
    ],
)
def test_anything_else_is_no_host(value: bytes) -> None:
    assert not http.is_host(value)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (b"", b""),
        (b"B.Test", b"b.test"),
        (b"b.test.:80", b"b.test"),
        (b"b.test:", b"b.test"),
        (b"[::1]", b"[::1]"),
        (b"[2001:DB8:0:0:0:0:0:1]:80", b"[2001:db8::1]"),
        (b"[0::0:1]:", b"[::1]"),
        (b"[V1.A:b]:80", b"[v1.a:b]"),
        (b"[::g]", b"[::g]"),
        (b"[\xff]", b"[\xff]"),
    ],
)
def test_all_spellings_of_a_host_have_one_name(value: bytes, name: bytes) -> None:
    assert http.host_name(value) == name


# --- paths


@pytest.mark.parametrize(
    ("path", "key"),
    [
        (b"/", b"/"),
        (b"/index.html", b"/index.html"),
        (b"/a/b/", b"/a/b/"),
        (b"/%61%2Ehtml", b"/a.html"),
        (b"/a%20b", b"/a%20b"),
        (b"/caf%c3%a9", b"/caf%C3%A9"),
        (b"/-._~!$&'()*+,;=:@", b"/-._~!$&'()*+,;=:@"),
        (b"/%2D%2E%5F%7E%21%24%26%27%28%29%2a%2b%2c%3b%3d%3a%40", b"/-._~!$&'()*+,;=:@"),
        (b'/a|b^c`d{e}"<f>[g]', b"/a%7Cb%5Ec%60d%7Be%7D%22%3Cf%3E%5Bg%5D"),
        (b"/a\\b", b"/a%5Cb"),
        (b"/..%5c..%5cx", b"/..%5C..%5Cx"),
        (b"/what%3f", b"/what%3F"),
        (b"/%23", b"/%23"),
        (b"/%0a%7f", b"/%0A%7F"),
        (b"/100%25", b"/100%25"),
        (b"/%252e%252e/a", b"/%252e%252e/a"),  # decoded once
        (b"//", b"/"),
        (b"//a///b//", b"/a/b/"),
        (b"/a%2Fb", b"/a/b"),
        (b"/a%2f%2fb%2f", b"/a/b/"),
        (b"/.", b"/"),
        (b"/..", b"/"),
        (b"/../x", b"/x"),
        (b"/../../../etc/passwd", b"/etc/passwd"),
        (b"/%2e%2e/x", b"/x"),
        (b"/.%2E/x", b"/x"),
        (b"/%2e%2e%2fx", b"/x"),
        (b"/a/.", b"/a/"),
        (b"/a/./b", b"/a/b"),
        (b"/a/..", b"/"),
        (b"/a/b/..", b"/a/"),
        (b"/a/b/../", b"/a/"),
        (b"/a/b/../c", b"/a/c"),
        (b"/a//../b", b"/b"),  # the slashes collapse first
        (b"/a/b/c/./../../g", b"/a/g"),  # RFC 3986 section 5.2.4's example
        (b"/...", b"/..."),
        (b"/..a/.b", b"/..a/.b"),
        (b"/.well-known/x", b"/.well-known/x"),
    ],
)
def test_all_spellings_of_a_path_have_one_key(path: bytes, key: bytes) -> None:
    assert http.canonical_path(path) == key


@pytest.mark.parametrize(
    "path",
    [
        b"",
        b"a",
        b"*",
        b"%2Fa",
        b"http://a/",
        b"/a b",
        b"/a\tb",
        b"/a\0b",
        b"/a\r\nb",
        b"/a\x7f",
        b"/a#b",
        b"/a?b",
        b"/caf\xc3\xa9",
        b"/\xff",
        b"/%",
        b"/%2",
        b"/a%zz",
        b"/%%20",
        b"/%u0041",
        b"/%+1",
        b"/%00",
        b"/a%00.html",
    ],
)
def test_a_path_that_means_nothing_is_a_400(path: bytes) -> None:
    with pytest.raises(HttpError) as caught:
        http.canonical_path(path)
    assert caught.value.status == 400
    assert not caught.value.close


@pytest.mark.parametrize(
    "path",
    [b"/%ff", b"/%c3", b"/%c0%ae%c0%ae/", b"/a/%c0%af/b", b"/%ed%a0%80", b"/%f4%90%80%80", b"/%c3/%a9"],
    ids=["no byte of UTF-8", "half", "overlong dots", "overlong slash", "a surrogate", "beyond Unicode", "cut in two"],
)
def test_a_path_that_is_not_utf8_is_its_bytes(path: bytes) -> None:
    assert http.canonical_path(path) == re.sub(rb"%..", lambda escape: escape[0].upper(), path)


@pytest.mark.parametrize("raw", [b"%ff", b"%2e%2e/", b"%61", b'"'])
def test_a_long_path_of_escapes_costs_no_call_for_each(raw: bytes) -> None:
    path = b"/" + raw * (8000 // len(raw))

    def calls() -> int:
        count = 0

        def note(*_: object) -> None:
            nonlocal count
            count += 1

        sys.setprofile(note)
        try:
            http.canonical_path(path)
        finally:
            sys.setprofile(None)
        return count

    calls()  # what is made once
    assert calls() < 100


def test_encode_path_leaves_dots_and_slashes_to_its_caller() -> None:
    assert http.encode_path(b"/a//../\xff \xc3\xa9?%") == b"/a//../%FF%20%C3%A9%3F%25"


# --- length


@pytest.mark.parametrize("filler", [b" ", b",", b'"', b'"a",', b"W/", b"a", b"-", b"0-0,", b"%", b";q="])
def test_long_nonsense_is_answered_in_time(filler: bytes) -> None:
    """The patterns are linear: were one quadratic, this would take minutes and the suite would be stopped."""
    value = filler * (LONG // len(filler)) + b"\0"
    assert http.parse_entity_tags(value) is None
    assert http.parse_date(value) is None
    assert http.parse_ranges(b"bytes=" + value) is None
    assert http.is_host(value) is False
    assert http.is_host(b"a:" + value) is False
    assert b"\0" not in http.parse_accept_encoding(value)
    with pytest.raises(HttpError):
        http.canonical_path(b"/" + value)


@pytest.mark.parametrize("element", [b"gzip", b"", b'"a"'])
def test_a_list_longer_than_any_that_is_meant_is_not_looked_at(element: bytes) -> None:
    short, long = (b",".join([element] * count) for count in (http.ELEMENTS_MAX, http.ELEMENTS_MAX + 1))
    assert (http.is_long(short), http.is_long(long)) == (False, True)
    assert http.parse_accept_encoding(long) == {}
    assert http.parse_entity_tags(long) is None


def test_as_many_ranges_are_read_as_may_be_answered() -> None:
    specs = b"bytes=" + b"0-0," * 1000
    assert len(http.parse_ranges(specs[:-1]) or ()) == 1000
    assert http.parse_ranges(specs + b"0-0") is None
