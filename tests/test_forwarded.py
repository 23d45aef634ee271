"""What proxies say of a request: tables of fields and what they mean, and Werkzeug's ProxyFix as an oracle."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from tests.support.waiting import Growth
from zcserve.errors import UsageError
from zcserve.forwarded import HOPS_MAX, Node, Origin, Proxies, Trusted, parse_node, read

TRUSTED = Trusted(["127.0.0.1, 10.0.0.0/8", "fd00::/8", "unix:"])
PEER = "127.0.0.1"


def said(*lines: str, peer: str = PEER) -> Origin | None:
    """What a head with these lines says."""
    head = "".join(f"{line}\r\n" for line in ("GET / HTTP/1.1", "Host: own", *lines, ""))
    return Proxies(TRUSTED).origin(peer, head.encode("latin-1"))


def client(*lines: str) -> str:
    origin = said(*lines)
    assert origin is not None
    return origin.client.name if origin.client.port is None else f"{origin.client.name} {origin.client.port}"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1.2.3.4", "1.2.3.4"),
        ("  1.2.3.4\t", "1.2.3.4"),
        ("1.2.3.4:80", "1.2.3.4 80"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:65535", "2001:db8::1 65535"),
        ("::ffff:1.2.3.4", "1.2.3.4"),
        # From the right, up to the first that is not trusted.
        ("6.6.6.6, 1.2.3.4", "1.2.3.4"),
        ("6.6.6.6, 1.2.3.4, 10.1.2.3", "1.2.3.4"),
        ("6.6.6.6,1.2.3.4,10.1.2.3:99,fd00::7,unix:", "1.2.3.4"),
        ("10.0.0.1, 10.0.0.2", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("1.2.3.4, ::ffff:10.0.0.1", "1.2.3.4"),
        # Empty elements do not count.
        ("1.2.3.4, , 10.0.0.1,,", "1.2.3.4"),
        (",", PEER),
        ("", PEER),
        # What is no address ends the reading: the last one before it counts.
        ("1.2.3.4, unknown", PEER),
        ("1.2.3.4, unknown, 10.0.0.1", "10.0.0.1"),
        ("1.2.3.4, _hidden, 10.0.0.1", "10.0.0.1"),
        ("1.2.3.4, 10.0.0.1.", PEER),
        ("1.2.3.4, 10.0.0.01", PEER),
        ("1.2.3.4, 10.0.0.256", PEER),
        ("1.2.3.4, 10.0.0.1:65536", PEER),
        ("1.2.3.4, 10.0.0.1:", PEER),
        ("1.2.3.4, 10.0.0.1/8", PEER),
        ("1.2.3.4, [10.0.0.1]", PEER),
        ("1.2.3.4, [fd00::1", PEER),
        ("1.2.3.4, fd00::1%eth0", PEER),
        ("1.2.3.4, fd00:::1", PEER),
        ("1.2.3.4 10.0.0.1", PEER),
        ('"1.2.3.4"', PEER),
        ("localhost", PEER),
        ("\x80", PEER),
        ('1.2.3.4" 200 "', PEER),
    ],
)
def test_x_forwarded_for(value: str, expected: str) -> None:
    assert client(f"X-Forwarded-For: {value}") == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        # RFC 7239 section 4, and its grammar.
        ('for="_gazonk"', PEER),
        ('For="[2001:db8:cafe::17]:4711"', "2001:db8:cafe::17 4711"),
        ("for=192.0.2.60;proto=http;by=203.0.113.43", "192.0.2.60"),
        ("for=192.0.2.43, for=198.51.100.17", "198.51.100.17"),
        ('for="192.0.2.43:47011"', "192.0.2.43 47011"),
        ('for="192.0.2.43:_port"', "192.0.2.43"),
        ('for="1.2.3.4"', "1.2.3.4"),
        ('for="\\1.2.\\3.4"', "1.2.3.4"),
        (";for=1.2.3.4;;", "1.2.3.4"),
        (", ,for=1.2.3.4 ; proto=https,", "1.2.3.4"),
        ('for=6.6.6.6, for=1.2.3.4;x="a, for=7.7.7.7", for=10.0.0.1', "1.2.3.4"),
        # No address: the last one before it.
        ("for=1.2.3.4, for=unknown", PEER),
        ("for=1.2.3.4, for=unknown, for=10.0.0.1", "10.0.0.1"),
        ("for=1.2.3.4, proto=https", PEER),
        ("for=1.2.3.4, for=10.0.0.300", PEER),
        # Malformed: nothing of the element counts, nor what stands left of it.
        ("for=1.2.3.4, for", PEER),
        ("for=1.2.3.4, for=", PEER),
        ("for=1.2.3.4, =10.0.0.1", PEER),
        ("for=1.2.3.4, for =10.0.0.1", PEER),
        ("for=1.2.3.4, for= 10.0.0.1", PEER),
        ("for=1.2.3.4, for=10.0.0.1;for=10.0.0.1", PEER),
        ("for=1.2.3.4, for=10.0.0.1 proto=http", PEER),
        ("for=1.2.3.4, for=10.0.0.1:80", PEER),
        ("for=1.2.3.4, for=[fd00::1]", PEER),
        ('for=1.2.3.4, for="10.0.0.1', PEER),
        ('for=1.2.3.4, for=10.0.0.1"', PEER),
        ('for=1.2.3.4, for="10."0.0.1"', PEER),
        ('for=1.2.3.4, for="10.0.0.1\\"', PEER),
        ("for=1.2.3.4, f\xfcr=10.0.0.1", PEER),
        # What the client wrote does not change how the proxy's part is read.
        ('for=", for=1.2.3.4', "1.2.3.4"),
        ('for="\\, for="1.2.3.4"', "1.2.3.4"),
        ('for="x, for="[2001:db8::1]"', "2001:db8::1"),
        ("for=6.6.6.6;, for=1.2.3.4", "1.2.3.4"),
    ],
)
def test_forwarded(value: str, expected: str) -> None:
    assert client(f"Forwarded: {value}") == expected


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], None),
        (["X-Forwarded: for=1.2.3.4", "X-Forwarded-Port: 80", "X-Real-IP: 1.2.3.4"], None),
        (["X-Forwarded-Proto: https"], Origin(Node(PEER), "https")),
        (["x-forwarded-PROTO: HTTPS", "x-forwarded-HOST: a.b:8080"], Origin(Node(PEER), "https", b"a.b:8080")),
        (["X-Forwarded-Proto: wss", "X-Forwarded-Host: a b"], Origin(Node(PEER))),
        (["X-Forwarded-Host: "], Origin(Node(PEER))),
        (["X-Forwarded-Host: a\xfc"], Origin(Node(PEER))),
        # Counted from the right as far as X-Forwarded-For.
        (["X-Forwarded-Proto: https, http"], Origin(Node(PEER), "http")),
        (["X-Forwarded-For: 1.2.3.4", "X-Forwarded-Proto: https, http"], Origin(Node("1.2.3.4"), "http")),
        (
            ["X-Forwarded-For: 1.2.3.4, 10.0.0.1", "X-Forwarded-Proto: https, http", "X-Forwarded-Host: x, y, z"],
            Origin(Node("1.2.3.4"), "https", b"y"),
        ),
        (["X-Forwarded-For: 1.2.3.4, 10.0.0.1", "X-Forwarded-Proto: https"], Origin(Node("1.2.3.4"), "https")),
        # Several lines are one list.
        (["X-Forwarded-For: 6.6.6.6", "X-Forwarded-For: 1.2.3.4"], Origin(Node("1.2.3.4"))),
        (["X-Forwarded-For: 1.2.3.4", "A: b", "x-forwarded-for: 10.0.0.1"], Origin(Node("1.2.3.4"))),
        (
            ["Forwarded: for=1.2.3.4;proto=https", "Forwarded: for=10.0.0.1;proto=http"],
            Origin(Node("1.2.3.4"), "https"),
        ),
        # The scheme and the host of the element that names the client, or of the next to the right that has them.
        (["Forwarded: for=1.2.3.4;host=a, for=10.0.0.1;proto=https;host=b"], Origin(Node("1.2.3.4"), "https", b"a")),
        (["Forwarded: for=6.6.6.6;proto=https, for=1.2.3.4"], Origin(Node("1.2.3.4"))),
        (['Forwarded: for=_a;proto=https;host="[::1]:8"'], Origin(Node(PEER), "https", b"[::1]:8")),
        (["Forwarded: proto=ftp;host=a/b"], Origin(Node(PEER))),
        # Where both are there, X-Forwarded-* counts.
        (["Forwarded: for=6.6.6.6;proto=https;host=evil", "X-Forwarded-For: 1.2.3.4"], Origin(Node("1.2.3.4"))),
        (["X-Forwarded-Proto: http", "Forwarded: for=6.6.6.6"], Origin(Node(PEER), "http")),
    ],
)
def test_what_all_fields_say_together(lines: list[str], expected: Origin | None) -> None:
    assert said(*lines) == expected


def test_another_peer_says_another_thing_and_a_memo_changes_no_answer() -> None:
    proxies = Proxies(TRUSTED)
    head = b"GET / HTTP/1.1\r\nX-Forwarded-For: nobody\r\n\r\n"
    for _ in range(2):
        assert proxies.origin(PEER, head) == Origin(Node(PEER))
        assert proxies.origin("10.0.0.9", head) == Origin(Node("10.0.0.9"))
    for n in range(5000):
        known = [proxies.trusts(f"{first}.0.{n >> 8}.{n & 255}") for first in (10, 11)]
        assert known == [True, False]


def test_a_chain_has_an_end() -> None:
    hops = ", ".join(f"10.0.{n >> 8}.{n & 255}" for n in reversed(range(1000)))
    last = HOPS_MAX - 1
    assert client(f"X-Forwarded-For: {hops}") == f"10.0.{last >> 8}.{last & 255}"


@pytest.mark.parametrize("quotes", ['"', '="', '"\\', "=a", '"="', ", for=10.0.0.1", ";"])
def test_no_value_takes_longer_than_its_length(growth: Growth, quotes: str) -> None:
    assert growth(lambda size: read(TRUSTED, PEER, [(b"forwarded", (quotes * size).encode())]), 4000) < 8


@pytest.mark.parametrize(
    ("host", "scheme", "server"),
    [
        (b"a.b", "http", ("a.b", 80)),
        (b"a.b", "https", ("a.b", 443)),
        (b"a.b:8080", "https", ("a.b", 8080)),
        (b"a.b:", "http", ("a.b", 80)),
        (b"[::1]", "https", ("::1", 443)),
        (b"[::1]:0099", "http", ("::1", 99)),
        (None, "https", None),
    ],
)
def test_the_server_that_the_client_meant(host: bytes | None, scheme: str, server: object) -> None:
    assert Origin(Node("1.2.3.4"), None, host).server(scheme) == server


@pytest.mark.parametrize(
    ("texts", "name", "expected"),
    [
        ([], "127.0.0.1", False),
        (["127.0.0.1"], "127.0.0.1", True),
        (["127.0.0.1"], "127.0.0.2", False),
        (["127.0.0.1"], "unix:", False),
        (["unix:"], "unix:", True),
        (["unix:"], "127.0.0.1", False),
        (["10.0.0.0/9"], "10.127.255.255", True),
        (["10.0.0.0/9"], "10.128.0.0", False),
        (["fd00::/8", "::1"], "fdff::1", True),
        (["fd00::/8 , ::1"], "::1", True),
        (["fd00::/8"], "10.0.0.1", False),
        (["0.0.0.0/0"], "1.2.3.4", True),
        (["0.0.0.0/0"], "::1", False),
        (["::ffff:10.0.0.0/104"], "10.2.3.4", True),
    ],
)
def test_who_is_trusted(texts: list[str], name: str, expected: bool) -> None:
    assert Trusted(texts).has(name) is expected


@pytest.mark.parametrize("text", ["localhost", "10.0.0.1/8", "*", "10.0.0.0/33", "unix:/run/a", "[::1]", "1.2.3", "_"])
def test_what_cannot_be_trusted_is_told(text: str) -> None:
    with pytest.raises(UsageError, match="is neither an address nor a network") as told:
        Trusted(["127.0.0.1", text])
    assert ("10.0.0.0/8 would be" in str(told.value)) is (text == "10.0.0.1/8")


@pytest.mark.parametrize("text", [b"", b"unix:/x", b"UNIX:", b"1.2.3.4:123456", b"[::1]:", b"::1]", b"1", b"a", b"[]"])
def test_what_is_no_node(text: bytes) -> None:
    assert parse_node(text) is None


@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["X-Forwarded-For: 1.2.3.4"],
        ["X-Forwarded-For: 1.2.3.4", "X-Forwarded-Proto: https", "X-Forwarded-Host: example.org"],
        ["X-Forwarded-For: 6.6.6.6, 1.2.3.4", "X-Forwarded-Proto: http, https", "X-Forwarded-Host: evil, a.b:8443"],
        ["X-Forwarded-For: 6.6.6.6, 1.2.3.4, 10.0.0.1", "X-Forwarded-Proto: x, https, http"],
        ["X-Forwarded-For: 6.6.6.6, 1.2.3.4, 10.0.0.2, 10.0.0.1", "X-Forwarded-Host: a, b, c, d"],
    ],
)
def test_werkzeug_with_the_right_number_of_proxies_says_the_same(lines: list[str]) -> None:
    proxy_fix = pytest.importorskip("werkzeug.middleware.proxy_fix")
    seen: dict[str, Any] = {}

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        seen.update(environ)
        return []

    values = {name: value for name, _, value in (line.partition(": ") for line in lines)}
    environ = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in values.items()}
    environ |= {"REMOTE_ADDR": PEER, "wsgi.url_scheme": "http", "HTTP_HOST": "own", "SERVER_PORT": "80"}
    count = values.get("X-Forwarded-For", "").count("10.") + 1
    proxy_fix.ProxyFix(application, x_for=count, x_proto=count, x_host=count)(environ, lambda *_: None)
    origin = said(*lines) or Origin(Node(PEER))
    host = b"own" if origin.host is None else origin.host
    assert (seen["REMOTE_ADDR"], seen["wsgi.url_scheme"], seen["HTTP_HOST"]) == (
        origin.client.name,
        origin.scheme or "http",
        host.decode(),
    )


def test_uvicorn_says_the_same_of_addresses() -> None:
    middleware = pytest.importorskip("uvicorn.middleware.proxy_headers")
    seen: dict[str, Any] = {}

    async def application(scope: Any, receive: Any, send: Any) -> None:
        seen.update(scope)

    fixed = middleware.ProxyHeadersMiddleware(application, trusted_hosts="127.0.0.1,10.0.0.0/8,fd00::/8")
    trusted = Trusted(["127.0.0.1,10.0.0.0/8,fd00::/8"])
    names = ("1.2.3.4", "10.0.0.1", "fd00::5", "2001:db8::1", "1.2.3.4:80", "[2001:db8::1]:5")
    for hops in (hops for count in range(1, 4) for hops in itertools.product(names, repeat=count)):
        value = ", ".join(hops).encode()
        headers = [(b"x-forwarded-for", value), (b"x-forwarded-proto", b"https")]
        asyncio.run(fixed({"type": "http", "scheme": "http", "client": (PEER, 5), "headers": headers}, None, None))
        origin = read(trusted, PEER, headers)
        assert (seen["client"][0], seen["scheme"]) == (origin.client.name, origin.scheme), value
