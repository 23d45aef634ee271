"""Validators, conditions and ranges over a real socket (RFC 9110 sections 8.8, 13, 14)."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.client import Client, Response
from tests.support.site import Serve, Site
from zcserve import Server
from zcserve.http import parse_date

MTIME = 1_445_412_480  # 2015-10-21T07:28:00Z
LAST_MODIFIED = "Wed, 21 Oct 2015 07:28:00 GMT"
TEXT = bytes(range(0x20, 0x20 + 90)) + b"\r\n\r\n--x--\n"  # 100 bytes, all different where it matters
LARGE = bytes(range(251)) * 1300  # over 300 KiB, sent by sendfile

ETAG = re.compile(rb'"[0-9a-f]{32}"')


@pytest.fixture(scope="module")
def server(lasting_site: Site, serve_lasting: Serve) -> Server:
    site = lasting_site
    site.write("text.txt", TEXT, mtime=MTIME)
    site.write("same.txt", TEXT, mtime=MTIME + 99)
    site.write("other.txt", TEXT[::-1], mtime=MTIME)
    site.write("large.bin", LARGE, mtime=MTIME)
    site.write("empty.txt", b"", mtime=MTIME)
    site.write("app.js", b"x" * 500, mtime=MTIME)
    site.write("app.js.gz", TEXT, mtime=MTIME)
    started: Server = serve_lasting(site.root, cache_control="max-age=60", trust_siblings=True)
    return started


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.port) as connected:
        yield connected


# --- validators -------------------------------------------------------------------------------------------


def test_the_etag_is_strong_and_belongs_to_the_bytes(client: Client) -> None:
    tags = {name: client.get(f"/{name}")["ETag"] for name in ("text.txt", "same.txt", "other.txt", "large.bin")}
    assert all(ETAG.fullmatch(tag) for tag in tags.values())
    assert tags["text.txt"] == tags["same.txt"] != tags["other.txt"]
    identity, gzip = client.get("/app.js"), client.get("/app.js", "Accept-Encoding: gzip")
    assert gzip["Content-Encoding"] == b"gzip"
    assert identity["ETag"] != gzip["ETag"]


def test_last_modified_is_the_files_time(client: Client) -> None:
    assert client.get("/text.txt")["Last-Modified"] == LAST_MODIFIED.encode()


@pytest.mark.parametrize("ahead", [3600, 2**33])
def test_last_modified_is_never_in_the_future(site: Site, serve: Serve, ahead: int) -> None:
    site.write("a.txt", b"a", mtime=time.time() + ahead)
    with Client(serve(site.root).port) as client:
        response = client.get("/a.txt")
        assert client.get("/a.txt", f"If-Modified-Since: {response['Last-Modified'].decode()}").status == 304
    modified, date = (parse_date(response[name]) for name in ("Last-Modified", "Date"))
    assert modified is not None
    assert date is not None
    assert modified <= date


@pytest.mark.parametrize(("mtime", "expected"), [(0, b"Thu, 01 Jan 1970 00:00:00 GMT"), (-1, None), (-99999, None)])
def test_times_at_and_before_1970_are_survived(site: Site, serve: Serve, mtime: int, expected: bytes | None) -> None:
    site.write("a.txt", b"a", mtime=mtime)
    with Client(serve(site.root).port) as client:
        response = client.get("/a.txt", "If-Modified-Since: Mon, 01 Jan 1900 00:00:00 GMT")
    assert (response.status, response["Last-Modified"]) == (200, expected)


# --- conditions -------------------------------------------------------------------------------------------

# In the lines below, TAG stands for the file's ETag.
BEFORE, SAME, AFTER = "Wed, 21 Oct 2015 07:27:59 GMT", LAST_MODIFIED, "Wed, 21 Oct 2015 07:28:01 GMT"

CONDITIONS = [
    (["If-None-Match: TAG"], 304),
    (["If-None-Match: W/TAG"], 304),
    (["If-None-Match: *"], 304),
    (['If-None-Match: "x", TAG'], 304),
    (['If-None-Match: "x,y" ,, W/"z",TAG,'], 304),
    (['If-None-Match: "x"', "If-None-Match: TAG"], 304),
    (['If-None-Match: "x"'], 200),
    (['If-None-Match: "x", "y"'], 200),
    (["If-None-Match: x"], 200),
    (["If-None-Match:"], 200),
    ([f"If-Modified-Since: {SAME}"], 304),
    ([f"If-Modified-Since: {AFTER}"], 304),
    ([f"If-Modified-Since: {BEFORE}"], 200),
    (["If-Modified-Since: Wednesday, 21-Oct-15 07:28:00 GMT"], 304),
    (["If-Modified-Since: Wednesday, 21-Oct-15 07:27:59 GMT"], 200),
    (["If-Modified-Since: Wed Oct 21 07:28:00 2015"], 304),
    (["If-Modified-Since: Wed Oct 21 07:27:59 2015"], 200),
    (["If-Modified-Since: Tue Oct  6 07:28:00 2015"], 200),
    (["If-Modified-Since: Fri, 31 Dec 9999 23:59:59 GMT"], 304),
    (["If-Modified-Since: 2015-10-21T07:28:00Z"], 200),
    (["If-Modified-Since: Wed, 21 Oct 2015 07:28:00 CET"], 200),
    (["If-Modified-Since: 0"], 200),
    ([f"If-Modified-Since: {SAME}", f"If-Modified-Since: {SAME}"], 200),
    (["If-Match: TAG"], 200),
    (["If-Match: *"], 200),
    (['If-Match: "x", TAG'], 200),
    (["If-Match: W/TAG"], 412),
    (['If-Match: "x"'], 412),
    (["If-Match: x"], 412),
    ([f"If-Unmodified-Since: {SAME}"], 200),
    ([f"If-Unmodified-Since: {AFTER}"], 200),
    ([f"If-Unmodified-Since: {BEFORE}"], 412),
    (["If-Unmodified-Since: Wed Oct 21 07:27:59 2015"], 412),
    (["If-Unmodified-Since: yesterday"], 200),
    # Precedence (section 13.2.2).
    (["If-Match: TAG", f"If-Unmodified-Since: {BEFORE}"], 200),
    (['If-Match: "x"', f"If-Unmodified-Since: {AFTER}"], 412),
    (['If-Match: "x"', "If-None-Match: TAG"], 412),
    (["If-Match: TAG", "If-None-Match: TAG"], 304),
    ([f"If-Unmodified-Since: {BEFORE}", "If-None-Match: TAG"], 412),
    ([f"If-Unmodified-Since: {SAME}", f"If-Modified-Since: {SAME}"], 304),
    (['If-None-Match: "x"', f"If-Modified-Since: {SAME}"], 200),
    (["If-None-Match: TAG", f"If-Modified-Since: {BEFORE}"], 304),
    (["If-None-Match: TAG", "Range: bytes=0-1"], 304),
    ([f"If-Modified-Since: {SAME}", "Range: bytes=0-1"], 304),
    (['If-Match: "x"', "Range: bytes=0-1"], 412),
    ([f"If-Unmodified-Since: {BEFORE}", "Range: bytes=0-1"], 412),
    (["If-Match: TAG", "Range: bytes=0-1"], 206),
    (['If-None-Match: "x"', "Range: bytes=0-1"], 206),
    (["If-Match: TAG", "Range: bytes=999999-"], 416),
    (['If-Match: "x"', "Range: bytes=999999-"], 412),
]


@pytest.mark.parametrize("path", ["/text.txt", "/large.bin"])
@pytest.mark.parametrize(("lines", "status"), CONDITIONS, ids=[" ".join(lines) for lines, _ in CONDITIONS])
def test_conditions(client: Client, path: str, lines: list[str], status: int) -> None:
    tag = client.get(path)["ETag"].decode()
    lines = [line.replace("TAG", tag) for line in lines]
    assert client.get(path, *lines).status == status
    expected = 200 if status in (206, 416) else status  # Range is for GET alone
    assert client.get(path, *lines, method="HEAD").status == expected
    assert client.get("/empty.txt").status == 200, "the connection is in step"


@pytest.mark.parametrize("coding", ["identity", "gzip"])
def test_304_carries_what_the_200_would_and_no_more(client: Client, coding: str) -> None:
    accept = f"Accept-Encoding: {coding}"
    full = client.get("/app.js", accept)
    response = client.get("/app.js", accept, f"If-None-Match: {full['ETag'].decode()}")
    assert response.status == 304
    names = [name for name, _ in response.fields]
    assert sorted(names) == [b"cache-control", b"date", b"etag", b"server", b"vary"]
    for name in ("Cache-Control", "ETag", "Vary"):
        assert response[name] == full[name] is not None


def test_each_encoding_has_validators_of_its_own(client: Client) -> None:
    identity = client.get("/app.js")["ETag"].decode()
    condition = f"If-None-Match: {identity}"
    assert client.get("/app.js", condition).status == 304
    assert client.get("/app.js", condition, "Accept-Encoding: gzip").status == 200


@pytest.mark.parametrize(("lines", "status"), [(('If-Match: "x"',), 412), (("Range: bytes=9999-",), 416)])
def test_refusals_of_a_resource_with_variants_vary_too(client: Client, lines: tuple[str, ...], status: int) -> None:
    response = client.get("/app.js", *lines)
    assert (response.status, response["Vary"]) == (status, b"Accept-Encoding")
    assert client.get("/text.txt", *lines)["Vary"] is None


def test_conditions_do_not_apply_to_what_is_absent(client: Client) -> None:
    for line in ("If-None-Match: *", 'If-Match: "x"', f"If-Modified-Since: {AFTER}", "Range: bytes=0-1"):
        assert client.get("/absent", line).status == 404


# --- ranges -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=0-49", 0, 49),
        ("bytes=50-", 50, 99),
        ("bytes=99-", 99, 99),
        ("bytes=90-200", 90, 99),
        ("bytes=0-99999999999999999999999999", 0, 99),
        ("bytes=-1", 99, 99),
        ("bytes=-10", 90, 99),
        ("bytes=-1000", 0, 99),
        ("bytes=00-007", 0, 7),
        ("Bytes=0-1", 0, 1),
        ("bytes= 0-1 ,", 0, 1),
        ("bytes=0-9,5-19", 0, 19),
        ("bytes=0-4,5-9", 0, 9),
        ("bytes=5-9,0-4", 0, 9),
        ("bytes=0-9,200-300", 0, 9),
        ("bytes=0-,-50", 0, 99),
    ],
)
def test_one_range_is_sent_alone(client: Client, value: str, first: int, last: int) -> None:
    full = client.get("/text.txt")
    response = client.get("/text.txt", f"Range: {value}")
    assert (response.status, response.body) == (206, TEXT[first : last + 1])
    assert response["Content-Range"] == b"bytes %d-%d/100" % (first, last)
    for name in ("Content-Type", "ETag", "Last-Modified", "Cache-Control", "Accept-Ranges"):
        assert response[name] == full[name] is not None


@pytest.mark.parametrize(
    "value",
    [
        "bytes=",
        "bytes",
        "bytes=5-2",
        "bytes=a-b",
        "bytes=-",
        "bytes=--1",
        "bytes=1",
        "bytes=1-2-3",
        "bytes=0x0-1",
        "bytes=+0-1",
        "bytes 0-1",
        "bytes=0-1, x",
        "bytes=0 - 1",
        "lines=0-1",
        "",
        # Too many, and overlapping on purpose (section 17.15).
        "bytes=" + ",".join(f"{n}-{n}" for n in range(0, 40, 2)),
        "bytes=0-,1-,2-,3-,4-",
    ],
)
def test_malformed_unknown_and_abusive_ranges_are_ignored(client: Client, value: str) -> None:
    response = client.get("/text.txt", f"Range: {value}")
    assert (response.status, response.body, response["Content-Range"]) == (200, TEXT, None)


def test_a_range_given_twice_is_ignored(client: Client) -> None:
    assert client.get("/text.txt", "Range: bytes=0-1", "Range: bytes=0-1").body == TEXT


@pytest.mark.parametrize("value", ["bytes=100-", "bytes=100-200", "bytes=-0", "bytes=100-,200-", f"bytes={10**30}-"])
def test_what_cannot_be_satisfied_is_416(client: Client, value: str) -> None:
    response = client.get("/text.txt", f"Range: {value}")
    assert (response.status, response["Content-Range"]) == (416, b"bytes */100")
    assert client.get("/text.txt").body == TEXT


def test_an_empty_file_has_no_ranges_that_begin_somewhere(site: Site, live: Serve) -> None:
    site.write("empty.txt", b"")
    with Client(live(site.root).port) as client:
        for _ in range(3):  # the native engine knows it from the second time on
            for value in ("bytes=0-0", "bytes=0-", "bytes=-0"):
                assert client.get("/empty.txt", f"Range: {value}")["Content-Range"] == b"bytes */0"
            for value in ("bytes=-1", "bytes=-5,0-0"):  # RFC 9110 section 14.1.2: all of it, which is nothing
                response = client.get("/empty.txt", f"Range: {value}")
                assert (response.status, response["Content-Length"], response["Content-Range"]) == (200, b"0", None)


def parts_of(response: Response) -> list[tuple[dict[bytes, bytes], bytes]]:
    """The parts of a multipart/byteranges body (RFC 2046 section 5.1.1): fields and content of each."""
    match = re.fullmatch(rb"multipart/byteranges; boundary=([0-9A-Za-z'()+_,./:=?-]{1,70})", response["Content-Type"])
    assert match is not None
    preamble, *parts, epilogue = (b"\r\n" + response.body).split(b"\r\n--" + match[1])
    assert preamble.strip() == b""
    assert epilogue == b"--\r\n"
    found = []
    for part in parts:
        head, blank, content = part.partition(b"\r\n\r\n")
        assert head.startswith(b"\r\n")
        assert blank
        lines = head.removeprefix(b"\r\n").split(b"\r\n")
        found.append((dict(line.lower().split(b": ", 1) for line in lines), content))
    return found


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("bytes=0-0,-1", [(0, 0), (99, 99)]),
        ("bytes=0-9, 20-29,\t-5", [(0, 9), (20, 29), (95, 99)]),
        ("bytes=50-59,0-9", [(50, 59), (0, 9)]),
        ("bytes=0-9,90-200,300-", [(0, 9), (90, 99)]),
        ("bytes=0-4,20-29,5-9", [(0, 9), (20, 29)]),
        ("bytes=" + ",".join(f"{n}-{n}" for n in range(0, 32, 2)), [(n, n) for n in range(0, 32, 2)]),
    ],
)
def test_many_ranges_are_sent_as_parts(client: Client, value: str, expected: list[tuple[int, int]]) -> None:
    response = client.get("/text.txt", f"Range: {value}")
    assert (response.status, response["Content-Range"]) == (206, None)
    parts = parts_of(response)
    assert [content for _, content in parts] == [TEXT[first : last + 1] for first, last in expected]
    for (fields, _), (first, last) in zip(parts, expected, strict=True):
        assert fields == {
            b"content-type": b"text/plain; charset=utf-8",
            b"content-range": b"bytes %d-%d/100" % (first, last),
        }
    assert client.get("/empty.txt").status == 200, "Content-Length told the end"


def test_the_cap_of_ranges_is_a_limit_with_a_name(site: Site, serve: Serve) -> None:
    site.write("text.txt", TEXT)
    with Client(serve(site.root, ranges_max=2).port) as client:
        assert client.get("/text.txt", "Range: bytes=0-0,5-5").status == 206
        assert client.get("/text.txt", "Range: bytes=0-0,5-5,9-9").status == 200
    with Client(serve(site.root, ranges_max=0).port) as client:
        assert client.get("/text.txt", "Range: bytes=0-0").status == 200


# How a large body may lie: in memory of our own, over the budget, or as the file itself.
LIES = [{}, {"memory": 64 << 10, "slab_bytes": 64 << 10}, {"in_place": True}]


@pytest.mark.parametrize("config", LIES, ids=["resident", "on disk", "in place"])
def test_ranges_of_large_files(site: Site, serve: Serve, config: dict[str, Any]) -> None:
    site.write("large.bin", LARGE)
    size = len(LARGE)
    with Client(serve(site.root, **config).port) as client:
        for first, last in ((0, 0), (1, 200_000), (4096, 8191), (size - 1, size - 1), (0, size - 1)):
            response = client.get("/large.bin", f"Range: bytes={first}-{last}")
            assert (response.status, response.body) == (206, LARGE[first : last + 1])
        parts = parts_of(client.get("/large.bin", "Range: bytes=100-150000, 200000-200009, -1"))
        assert [content for _, content in parts] == [LARGE[100:150001], LARGE[200000:200010], LARGE[-1:]]
        assert client.get("/large.bin").body == LARGE


def test_a_range_of_a_variant_counts_the_variants_bytes(client: Client) -> None:
    response = client.get("/app.js", "Accept-Encoding: gzip", "Range: bytes=10-19")
    assert (response.status, response.body) == (206, TEXT[10:20])
    assert response["Content-Range"] == b"bytes 10-19/100"
    assert (response["Content-Encoding"], response["Vary"]) == (b"gzip", b"Accept-Encoding")


@pytest.mark.parametrize(
    ("path", "value", "status"),
    [
        ("/text.txt", "TAG", 206),
        ("/text.txt", "W/TAG", 200),
        ("/text.txt", '"x"', 200),
        ("/text.txt", '"x", TAG', 200),
        ("/text.txt", "*", 200),
        ("/text.txt", "x", 200),
        ("/text.txt", "", 200),
        ("/text.txt", SAME, 206),
        ("/text.txt", "Wednesday, 21-Oct-15 07:28:00 GMT", 206),
        ("/text.txt", BEFORE, 200),
        ("/text.txt", AFTER, 200),
    ],
)
def test_if_range(client: Client, path: str, value: str, status: int) -> None:
    full = client.get(path)
    value = value.replace("TAG", full["ETag"].decode()).replace("DATE", full["Last-Modified"].decode())
    response = client.get(path, "Range: bytes=0-9", f"If-Range: {value}")
    assert (response.status, response.body) == (status, TEXT[:10] if status == 206 else TEXT)


@pytest.mark.parametrize(("validator", "status"), [("Last-Modified", 200), ("ETag", 206)])
def test_the_time_of_what_could_still_change_within_its_second_is_no_strong_validator(
    site: Site, serve: Serve, validator: str, status: int
) -> None:
    """RFC 9110 section 8.8.2.2."""
    site.write("new.txt", TEXT)
    with Client(serve(site.root).port) as client:
        value = client.get("/new.txt")[validator].decode()
        response = client.get("/new.txt", "Range: bytes=0-9", f"If-Range: {value}")
    assert (response.status, response.body) == (status, TEXT[:10] if status == 206 else TEXT)


def test_if_range_without_a_range_means_nothing(client: Client) -> None:
    assert client.get("/text.txt", 'If-Range: "x"').body == TEXT


def test_an_unsatisfiable_range_of_another_version_gets_the_whole(client: Client) -> None:
    assert client.get("/text.txt", "Range: bytes=999-", 'If-Range: "x"').body == TEXT


@pytest.mark.parametrize("path", ["/text.txt", "/large.bin", "/empty.txt", "/app.js"])
def test_every_file_says_that_it_takes_ranges(client: Client, path: str) -> None:
    assert client.get(path)["Accept-Ranges"] == b"bytes"
