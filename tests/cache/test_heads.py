"""Heads: every field, and the slices that other responses are made of."""

from __future__ import annotations

from itertools import product

import pytest

from tests.support.trees import field
from zcserve.cache import heads
from zcserve.http import FieldLines, format_date
from zcserve.rules.compiled import NO_FIELDS, HeadFields

ETAG = b'"0123456789abcdef0123456789abcdef"'
MODIFIED = 784111777  # Sun, 06 Nov 1994 08:49:37 GMT


def build(
    name: str = "page.html",
    size: int = 1000,
    modified: int | None = MODIFIED,
    etag: bytes = ETAG,
    encoding: bytes = b"",
    cache_control: str = "",
    vary: bool = False,
) -> bytes:
    fields = HeadFields(((b"Cache-Control", cache_control.encode()),)) if cache_control else NO_FIELDS
    return heads.build(name, size, modified, etag, encoding=encoding, vary=vary, fields=fields)


def test_a_head_is_these_bytes() -> None:
    assert build(encoding=b"gzip", cache_control="max-age=60", vary=True) == (
        b"Content-Length: 1000\r\n"
        b"Content-Type: text/html; charset=utf-8\r\n"
        b"Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
        b"Accept-Ranges: bytes\r\n"
        b"X-Content-Type-Options: nosniff\r\n"
        b"Content-Encoding: gzip\r\n"
        b"ETag: " + ETAG + b"\r\n"
        b"Cache-Control: max-age=60\r\n"
        b"Vary: Accept-Encoding\r\n"
        b"\r\n"
    )


def test_what_does_not_apply_is_not_there() -> None:
    head = build(modified=None)
    for name in (b"Last-Modified", b"Content-Encoding", b"Cache-Control", b"Vary"):
        assert field(head, name) is None
    assert head.endswith(b"ETag: " + ETAG + b"\r\n\r\n")


@pytest.mark.parametrize("size", [0, 1, 1000, 1 << 40])
def test_the_length_is_the_size(size: int) -> None:
    assert field(build(size=size), b"Content-Length") == b"%d" % size


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("page.html", b"text/html; charset=utf-8"),
        ("PAGE.HTML", b"text/html; charset=utf-8"),
        ("a.b.css", b"text/css; charset=utf-8"),
        ("app.js", b"text/javascript; charset=utf-8"),
        ("data.json", b"application/json"),
        ("icon.svg", b"image/svg+xml; charset=utf-8"),
        ("page.tar.gz", b"application/gzip"),
        ("module.wasm", b"application/wasm"),
        ("a%20b.png", b"image/png"),
        ("README", b"application/octet-stream"),
        ("x.unheard-of", b"application/octet-stream"),
        (".html", b"application/octet-stream"),
        ("ends.", b"application/octet-stream"),
        ("%D1%84.%D1%84", b"application/octet-stream"),
        ("100%25.%25d%25b", b"application/octet-stream"),
    ],
)
def test_the_extension_decides_the_type(name: str, expected: bytes) -> None:
    assert field(build(name), b"Content-Type") == expected


@pytest.mark.parametrize("modified", [0, 1, MODIFIED, 4102444800])
def test_times_are_written_as_http_dates(modified: int) -> None:
    assert field(build(modified=modified), b"Last-Modified") == format_date(modified)


@pytest.mark.parametrize("value", ["no-cache", "max-age=60, public", "private=%d", "x=100%", "%b%s%%", 'a="%(x)s"'])
def test_cache_control_is_sent_as_it_is_with_its_percent_signs(value: str) -> None:
    assert field(build(cache_control=value), b"Cache-Control") == value.encode()


@pytest.mark.parametrize("encoding", [b"br", b"zstd", b"gzip"])
def test_a_variant_names_its_coding_and_keeps_the_type(encoding: bytes) -> None:
    head = build("style.css", encoding=encoding, vary=True)
    assert field(head, b"Content-Encoding") == encoding
    assert field(head, b"Content-Type") == b"text/css; charset=utf-8"


EVERY_SHAPE = list(
    product((0, 1 << 40), (None, MODIFIED), (b"", b"gzip"), ("", "max-age=60", "x=%d, ETag: %b"), (False, True))
)


@pytest.mark.parametrize(("size", "modified", "encoding", "cache_control", "vary"), EVERY_SHAPE)
@pytest.mark.parametrize("as_buffer", [bytes, memoryview])
def test_the_slices_divide_a_head_into_length_middle_and_tail(
    as_buffer: type[bytes] | type[memoryview],
    size: int,
    modified: int | None,
    encoding: bytes,
    cache_control: str,
    vary: bool,
) -> None:
    whole = build(size=size, modified=modified, encoding=encoding, cache_control=cache_control, vary=vary)
    head = as_buffer(whole)
    lead, tail = heads.start(head, heads.BUT_LENGTH), heads.start(head, heads.TAIL)
    assert bytes(head[:lead]) == b"Content-Length: %d\r\n" % size
    middle = [line.partition(b":")[0] for line in bytes(head[lead:tail]).split(b"\r\n")]
    optional = [b"Last-Modified"] * (modified is not None)
    coding = [b"Content-Encoding"] * bool(encoding)
    expected = [b"Content-Type", *optional, b"Accept-Ranges", b"X-Content-Type-Options", *coding, b""]
    assert middle == expected
    ending = [line.partition(b":")[0] for line in bytes(head[tail:]).split(b"\r\n")]
    assert ending == [b"ETag", *[b"Cache-Control"] * bool(cache_control), *[b"Vary"] * vary, b"", b""]


@pytest.mark.parametrize("vary", [False, True])
@pytest.mark.parametrize("lines", [(), ((b"X-A", b"1"), (b"Vary", b"Origin")), ((b"X-A", b"a: b, ETag: c"),) * 5])
def test_what_a_head_has_of_rules_is_read_back(lines: FieldLines, vary: bool) -> None:
    head = heads.build("a.css", 5, None, b'"x"', b"gzip" if vary else b"", vary, fields=HeadFields(lines))
    assert heads.lines_of_rules(head) == lines
