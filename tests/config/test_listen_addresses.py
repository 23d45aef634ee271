"""zcserve.config.addresses: where to listen, from text."""

from __future__ import annotations

import pytest

from zcserve.config.addresses import Address, TcpAddress, UnixAddress, parse_listen
from zcserve.errors import UsageError


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", TcpAddress("127.0.0.1", 8080)),
        ("localhost:0", TcpAddress("localhost", 0)),
        ("www.example.org:80", TcpAddress("www.example.org", 80)),
        ("[::1]:8080", TcpAddress("::1", 8080)),
        ("[::]:80", TcpAddress("::", 80)),
        ("[0:0:0:0:0:0:0:1]:65535", TcpAddress("::1", 65535)),
        ("[fe80::1%eth0]:80", TcpAddress("fe80::1%eth0", 80)),
        (":8080", TcpAddress("", 8080)),
        ("*:8080", TcpAddress("", 8080)),
        ("unix:/run/web.sock", UnixAddress("/run/web.sock")),
        ("unix:web.sock", UnixAddress("web.sock")),
        ("unix:/run/a:80", UnixAddress("/run/a:80")),
    ],
)
def test_a_listen_address_is_tcp_or_unix(text: str, address: Address) -> None:
    assert parse_listen(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "8080",
        "localhost",
        "localhost:",
        "localhost:http",
        "localhost:65536",
        "localhost:-1",
        "localhost: 80",
        "127.0.0.1:80:80",
        "127.0.0.256:80",
        "127.1:80",
        "::1:80",
        "[::1]",
        "[::1]80",
        "[]:80",
        "[localhost]:80",
        "[127.0.0.1]:80",
        "[::g]:80",
        "[::1%]:80",
        "[::1%a\0b]:80",
        "ex ample:80",
        "-x:80",
        "http://localhost:80",
        "unix:",
        "unix:/a\0b",
        "unix:/" + "x" * 107,
    ],
)
def test_what_is_not_a_listen_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="accepted: "):
        parse_listen(text)


@pytest.mark.parametrize("text", ["127.0.0.1:8080", "[::1]:80", "*:80", "unix:/run/web.sock"])
def test_an_address_prints_as_it_is_written(text: str) -> None:
    assert str(parse_listen(text)) == text
