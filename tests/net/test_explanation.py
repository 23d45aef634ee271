"""zcserve.net.explanation: the request that a URL stands for. Its answer: tests/wire/test_explain.py."""

from __future__ import annotations

import pytest

from zcserve.errors import UsageError
from zcserve.net.explanation import request_of


@pytest.mark.parametrize(
    ("url", "lines", "head"),
    [
        ("/a?b", (), b"GET /a?b HTTP/1.1\r\nHost: localhost"),
        ("http://A.example:81/x", (), b"GET /x HTTP/1.1\r\nHost: A.example:81"),
        ("https://a.example", (), b"GET / HTTP/1.1\r\nHost: a.example"),
        ("https://a.example?q", (), b"GET /?q HTTP/1.1\r\nHost: a.example"),
        ("http://a.example/x#part", ("X: y",), b"GET /x HTTP/1.1\r\nHost: a.example\r\nX: y"),
        ("http://a.example/x", ("host: b.example",), b"GET /x HTTP/1.1\r\nhost: b.example"),
        ("/é b", (), b"GET /%C3%A9%20b HTTP/1.1\r\nHost: localhost"),
        ("/%c3%a9", (), b"GET /%c3%a9 HTTP/1.1\r\nHost: localhost"),
    ],
)
def test_a_url_is_asked_for_as_clients_do(url: str, lines: tuple[str, ...], head: bytes) -> None:
    assert request_of(url, "GET", lines) == head + b"\r\n\r\n"


@pytest.mark.parametrize(
    ("url", "method", "lines"),
    [
        ("a", "GET", ()),
        ("", "GET", ()),
        ("ftp://a/", "GET", ()),
        ("http://a\r\nX: y/", "GET", ()),
        ("http://" + "é" * 70 + "/", "GET", ()),
        ("/", "GET ", ()),
        ("/", "é", ()),
        ("/", "", ()),
        ("/", "GET", ("x",)),
        ("/", "GET", (": x",)),
        ("/", "GET", ("x: \n",)),
    ],
)
def test_what_no_request_can_hold_is_wrong_use(url: str, method: str, lines: tuple[str, ...]) -> None:
    with pytest.raises(UsageError):
        request_of(url, method, lines)
