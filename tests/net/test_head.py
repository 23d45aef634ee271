"""zcserve.net.head: what a head says, read when it is asked for."""

from __future__ import annotations

import pytest

from zcserve.net.head import SentHead


@pytest.mark.parametrize("before", [b"", b"\r\n", b"\r\n\r\n"])
def test_a_head_is_its_version_and_its_lines(before: bytes) -> None:
    head = SentHead(before + b"GET /a HTTP/1.0\r\nHost: test\r\nX-A:\t b: c \t\r\nx-a:\r\n\r\n")
    assert head.version == b"HTTP/1.0"
    assert head.lines == ((b"Host", b"test"), (b"X-A", b"b: c"), (b"x-a", b""))


def test_a_head_without_lines_has_none() -> None:
    assert SentHead(b"GET / HTTP/1.1\r\n\r\n").lines == ()


def test_a_head_is_read_once() -> None:
    head = SentHead(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
    assert head.lines is head.lines
