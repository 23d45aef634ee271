"""The parser against h11: on generated heads, good and damaged, both accept and mean the same, or both refuse.

Where one is stricter on purpose, `STRICTER` and `LAXER` say so, each with a test of the bytes alone; a difference that
neither explains fails.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zcserve.config.table import Config
from zcserve.errors import HttpError
from zcserve.http import is_host
from zcserve.net.fields import CHUNKED, CLOSE
from zcserve.net.request import Parser

pytest.importorskip("h11")
pytest.importorskip("hypothesis")
import h11
from hypothesis import example, given
from hypothesis import strategies as st

CONFIG = Config(root=Path())


def head_of(data: bytes) -> bytes:
    return data.partition(b"\r\n\r\n")[0]


def lines_of(data: bytes) -> list[bytes]:
    """The field lines."""
    return head_of(data).lstrip(b"\r\n").split(b"\r\n")[1:]


def values_of(data: bytes, name: bytes) -> list[bytes]:
    pairs = [line.partition(b":") for line in lines_of(data)]
    return [value.strip(b" \t") for key, _, value in pairs if key.lower() == name]


def has_control(data: bytes) -> bool:
    return bool(re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", head_of(data).replace(b"\r\n", b"")))


# What zcserve refuses and h11 takes.
STRICTER: dict[str, Callable[[bytes], Any]] = {
    "a bare LF ends no line (RFC 9112 section 2.2 lets a recipient choose)": lambda data: re.search(
        rb"(?<!\r)\n", data
    ),
    "a control character in a value (RFC 9110 section 5.5)": has_control,
    "a folded line (RFC 9112 section 5.2)": lambda data: any(line[:1] in (b" ", b"\t") for line in lines_of(data)),
    "Host must be one (RFC 9112 section 3.2)": lambda data: not all(map(is_host, values_of(data, b"host"))),
    "no Host in a version above 1.1": lambda data: (
        re.match(rb"\S+ \S+ HTTP/1\.[2-9]\r\n", data) and not values_of(data, b"host")
    ),
    "two framings (RFC 9112 section 6.3)": lambda data: (
        values_of(data, b"transfer-encoding") and values_of(data, b"content-length")
    ),
    "Transfer-Encoding in 1.0 (RFC 9112 section 6.1)": lambda data: (
        b" HTTP/1.0\r\n" in data and values_of(data, b"transfer-encoding")
    ),
    "other expectations fail (RFC 9110 section 10.1.1)": lambda data: any(
        value.lower() not in (b"", b"100-continue") for value in values_of(data, b"expect")
    ),
    "only HTTP/1 is spoken": lambda data: re.match(rb"\S+ \S+ HTTP/[02-9]", data),
    "a body of 19 and more digits": lambda data: any(len(value) > 18 for value in values_of(data, b"content-length")),
    "Content-Length has one spelling (RFC 9112 section 11.2)": lambda data: (
        len(values_of(data, b"content-length")) > 1
        or any(re.search(rb"[^0-9]|^0.", value) for value in values_of(data, b"content-length"))
    ),
}

# What h11 refuses and zcserve takes.
LAXER: dict[str, Callable[[bytes], Any]] = {
    "empty lines before a request (RFC 9112 section 2.2)": lambda data: data.startswith(b"\r\n"),
}


def explained(table: dict[str, Callable[[bytes], Any]], data: bytes) -> bool:
    return any(test(data) for test in table.values())


def ours(data: bytes) -> Any:
    """(method, target, body, ends the connection), None for incomplete, or False for refused."""
    try:
        parsed = Parser(CONFIG).parse(data, 0)
    except HttpError:
        return False
    return parsed and (*parsed[:2], parsed[2].body, parsed[2].mode == CLOSE)


def theirs(data: bytes) -> Any:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError:
        return False
    if not isinstance(event, h11.Request):
        return None
    headers = list(event.headers)
    coded = any(name == b"transfer-encoding" for name, _ in headers)
    length = next((int(value) for name, value in headers if name == b"content-length"), 0)
    options = [one.strip().lower() for name, value in headers if name == b"connection" for one in value.split(b",")]
    kept = b"close" not in options and (event.http_version != b"1.0" or b"keep-alive" in options)
    return event.method, event.target, CHUNKED if coded else length, not kept


METHODS = st.sampled_from([b"GET", b"HEAD", b"OPTIONS", b"POST", b"BREW", b"get", b"M-SEARCH"])
TARGETS = st.sampled_from([b"/", b"/a/b?c=d", b"*", b"http://a/b", b"//", b"/%zz", b"/a|b", b"a:80"])
VERSIONS = st.sampled_from([b"1.1"] * 6 + [b"1.0", b"1.0", b"1.2", b"2.0", b"0.9"])
GOOD_LINES = st.sampled_from(
    [
        b"Accept: text/html,application/xhtml+xml;q=0.9,*/*;q=0.8",
        b"Accept-Encoding: gzip, deflate, br",
        b"Connection: close",
        b"Connection: keep-alive",
        b"connection:\tKeep-Alive , X",
        b"Content-Length: 0",
        b"Content-Length: 12",
        b"content-length: 12,12",
        b"Transfer-Encoding: chunked",
        b"TRANSFER-ENCODING: Chunked",
        b"Expect: 100-continue",
        b"Cookie: a=b; c=\xe9",
        b'If-None-Match: W/"x", "y"',
        b"Range: bytes=0-1",
        b"Empty:",
        b"Blank:  \t ",
        b"X-!#$%&'*+.^_`|~: y",
    ]
)
ODD_LINES = st.sampled_from(
    [
        b"no colon",
        b": no name",
        b"Name : value",
        b" folded",
        b"N\xe4me: value",
        b"Name: a\x00b",
        b"Name: a\x01b",
        b"Name: a\rb",
        b"Name: a\nOther: b",
        b"Content-Length: -1",
        b"Content-Length: 1 2",
        b"Content-Length: 12, 13",
        b"Content-Length: 012",
        b"Content-Length:",
        b"Content-Length: 1" + b"0" * 18,
        b"Content-Length: 1" + b"0" * 25,
        b"Transfer-Encoding: gzip",
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding: chunked, chunked",
        b"Transfer-Encoding: chunked,",
        b"Expect: a miracle",
        b"Host: b",
        b"",
    ]
)
HOSTS = st.sampled_from(
    [b"Host: a"] * 5 + [b"host:\t[::1]:80 ", b"Host:", b"Host: a b", b"Host: a/b", b"Host: a:b", b"X: y"]
)
DAMAGE = st.sampled_from(
    [b"", b" ", b"\t", b":", b"\r", b"\n", b"\r\n", b"\x00", b"\x7f", b"\xff", b",", b"A", b"1", b"/"]
)


@st.composite
def heads(draw: st.DrawFn) -> bytes:
    """A head: good lines, some odd ones, and perhaps a few bytes damaged."""
    first = draw(METHODS) + b" " + draw(TARGETS) + b" HTTP/" + draw(VERSIONS)
    lines = draw(st.lists(GOOD_LINES | GOOD_LINES | GOOD_LINES | ODD_LINES, max_size=5))
    lines.insert(draw(st.integers(0, len(lines))), draw(HOSTS))
    data = bytearray(b"\r\n".join([first, *lines, b"", b""]))
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 2))] = draw(DAMAGE)
    return bytes(data) + b"\r\n\r\n"  # damaged or not, complete: h11 waits where zcserve refuses at once


@given(heads())
@example(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
@example(b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n")
@example(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n")
def test_both_accept_and_mean_the_same_or_both_refuse(data: bytes) -> None:
    mine, other = ours(data), theirs(data)
    if mine == other:
        return
    if not mine:
        assert explained(STRICTER, data), f"h11 says {other}"
    elif not other:
        assert explained(LAXER, data), f"h11 refuses, we say {mine}"
    else:
        raise AssertionError(f"two meanings: {mine} here, {other} in h11")


@pytest.mark.parametrize(
    ("reason", "data"),
    [
        ("a bare LF", b"GET / HTTP/1.1\nHost: a\n\n"),
        ("a control", b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x01b\r\n\r\n"),
        ("a folded", b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n"),
        ("Host must", b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
        ("no Host", b"GET / HTTP/1.2\r\n\r\n"),
        ("two framings", b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("Transfer-Encoding in 1.0", b"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("other expectations", b"GET / HTTP/1.1\r\nHost: a\r\nExpect: more\r\n\r\n"),
        ("only HTTP/1", b"GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
        ("Content-Length has", b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 010\r\n\r\n"),
        ("Content-Length has", b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 2, 2\r\n\r\n"),
        ("Content-Length has", b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n"),
        ("a body of 19", b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000000000000\r\n\r\n"),
    ],
)
def test_each_reason_to_be_stricter_is_a_difference(reason: str, data: bytes) -> None:
    names = [name for name in STRICTER if name.startswith(reason)]
    assert len(names) == 1
    assert STRICTER[names[0]](data)
    assert not ours(data)
    assert theirs(data)
