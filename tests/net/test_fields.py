"""zcserve.net.fields: what the fields of a head mean. More refusals stand in wire/test_http_refusals.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from zcserve.config.table import Config
from zcserve.http import ANY_TAG, EntityTag
from zcserve.net.fields import CHUNKED, CLOSE, KEEP, KEEP_10, Fields
from zcserve.net.request import Parser


def fields_of(*lines: bytes, version: bytes = b"1.1", host: bytes = b"Host: a\r\n", log: bool = False) -> Fields:
    head = b"GET / HTTP/" + version + b"\r\n" + host + b"".join(line + b"\r\n" for line in lines) + b"\r\n"
    parsed = Parser(Config(root=Path()), log_fields=log).parse(head, 0)
    assert parsed is not None
    assert parsed[3] == len(head)
    return parsed[2]


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


@pytest.mark.parametrize(
    ("host", "name"),
    [
        (b"example.org", b"example.org"),
        (b"Example.ORG:8080", b"example.org"),
        (b"example.org.", b"example.org"),
        (b"example.org.:80", b"example.org"),
        (b"example.org:", b"example.org"),
        (b"192.0.2.1:80", b"192.0.2.1"),
        (b"[2001:DB8::1]", b"[2001:db8::1]"),
        (b"[2001:db8::1]:80", b"[2001:db8::1]"),
        (b"[::123]", b"[::123]"),
        (b"", b""),
    ],
)
def test_the_host_is_a_name_in_lower_case_without_port_and_last_dot(host: bytes, name: bytes) -> None:
    assert fields_of(host=b"Host: " + host + b"\r\n").host == name


def test_a_client_of_http_10_need_not_name_a_host() -> None:
    assert fields_of(version=b"1.0", host=b"").host == b""


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
def test_a_client_that_expects_100_has_a_body_to_send(lines: list[bytes], version: bytes, expects: bool) -> None:
    assert fields_of(*lines, version=version).expects is expects
