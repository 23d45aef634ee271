"""Requests that are refused, over a real socket: the status, why not served, and that the connection ends.

Most are 400: a server that cannot tell where a request ends must not guess (RFC 9112 section 11.2).
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.support.client import Client, Response
from tests.support.site import Serve, Site
from tests.support.waiting import is_readable
from zcserve import Config, Server

PAGE = b"<p>a page</p>"
GET = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"


@pytest.fixture(scope="module", params=["python", "native"])
def port(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """One server of each engine for all tests: what it has seen of others must not matter."""
    if request.param == "native":
        pytest.importorskip("zcserve.net._lane")
    root = tmp_path_factory.mktemp("site")
    (root / "index.html").write_bytes(PAGE)
    config = Config(root=root, port=0, engine=request.param, body_bytes_max=1000, linger_timeout_s=10)
    with Server(config) as server:
        with Client(server.port) as seen:
            seen.send(b"GET / HTTP/1.1\r\nHost: test\r\nX-Seen: 1\r\nContent-Length: 0\r\n\r\n")
            assert seen.read().body == PAGE
        yield server.port


@pytest.fixture
def client(port: int) -> Iterator[Client]:
    with Client(port) as connected:
        yield connected


def refused(client: Client) -> Response:
    """The last response on this connection."""
    response = client.read()
    assert response["Connection"] == b"close"
    assert response["Server"] == b"zcserve"
    assert response["Date"] is not None
    assert client.at_end()
    return response


def with_lines(*lines: bytes) -> bytes:
    return b"\r\n".join([b"GET / HTTP/1.1", b"Host: test", *lines, b"", b""])


def with_host(value: bytes) -> bytes:
    return b"GET / HTTP/1.1\r\nHost: " + value + b"\r\n\r\n"


def chunked(body: bytes) -> bytes:
    return with_lines(b"Transfer-Encoding: chunked") + body


REQUEST_LINES = [
    b"GET /",
    b"GET",
    b"",
    b" ",
    b"GET  / HTTP/1.1",
    b"GET /  HTTP/1.1",
    b" GET / HTTP/1.1",
    b"GET / HTTP/1.1 ",
    b"GET\t/ HTTP/1.1",
    b"GET / a HTTP/1.1",
    b"GET / http/1.1",
    b"GET / HTTP/1.10",
    b"GET / HTTP/11",
    b"GET / HTTP/1.",
    b"GET / HTTP/1.a",
    b"GET / HTTPS/1.1",
    b"GET /HTTP/1.1",
    b" / HTTP/1.1",
    b"GET HTTP/1.1",
    b"G@T / HTTP/1.1",
    b"GET: / HTTP/1.1",
    b"G\xc3\x89T / HTTP/1.1",
    b"GET /\x00 HTTP/1.1",
    b"GET /\x7f HTTP/1.1",
    b"GET /\xc3\xa9 HTTP/1.1",
    b"GET /a\tb HTTP/1.1",
    b"GET /\r HTTP/1.1",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
]
HOSTS = [
    b"a b", b"a/b", b"a@b", b"user:pw@a", b"a?b", b"a#b", b"a\\b", b"<a>", b'"a"', b"a,\x80", b"\xc3\xa9", b"%zz",
    b"%4", b"a:99999", b"a:x", b"a:1:2", b":80", b"[::1", b"::1", b"[::1]x", b"[::g]", b"[fe80::1%25eth0]", b"a\x01",
    b"a\x7f", b"http://a",
]  # fmt: skip
LINES = [
    b"no colon",
    b": no name",
    b"Name : white space before the colon",
    b"Name\t: value",
    b" Folded: line",
    b"\tfolded",
    b"A: b\r\n folded",
    b"A: b\r\n\tfolded",
    b"A: b\r\n ",
    b"Na me: value",
    b"Name(x): value",
    b"Na\xc3\xafve: value",
    b"N\x00: value",
    b"Name: a\x00b",
    b"Name: a\x01b",
    b"Name: a\x7fb",
    b"Name: a\x1bb",
    b"Name: a\x0bb",
    b"Name: bare\rCR",
    b"Name: CR at the end\r",
    b"Name: bare\nLF",
    b"Name: value\nOther: value",
    b"Cookie: a\x00b",
    b"Cookie : a",
    b"Content-Length: 5\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: chunked\r\nContent-Length: 0",
    b"Content-Length: 5\r\nContent-Length: 6",
    b"Content-Length: 5, 6",
    b"Content-Length: 5,",
    b"Content-Length:",
    b"Content-Length: -1",
    b"Content-Length: +1",
    b"Content-Length: 0x5",
    b"Content-Length: 5 5",
    b"Content-Length: 1_0",
    b"Content-Length: 5.0",
    b"Content-Length: \xb2",
    b"Transfer-Encoding: chunked, chunked",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding:",
    b"Transfer-Encoding: ,chunked",
    b"Transfer-Encoding: chunked,",
    b"Transfer-Encoding: gzip,,chunked",
    b"Transfer-Encoding:\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: gzip",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding: chunked, gzip",
    b"Transfer-Encoding: chunked, identity",
    b"Transfer-Encoding: xchunked",
    b"Transfer-Encoding: chunked;q=1",
    b"Transfer-Encoding: \x0bchunked",
    b"Transfer-Encoding: chunked chunked",
    b"Transfer-Encoding: g(zip, chunked",
    b"Content-Length: 010",
    b"Content-Length: 00",
    b"Content-Length: " + b"0" * 30,
    b"Content-Length: 2, 2",
    b"Content-Length: 2,2",
    b"Content-Length: ,2",
    b"Content-Length: 2\r\nContent-Length: 2",
    b"Content-Length: 0\r\ncontent-length: 0",
    b"Host",
    b"Content-Length",
    b"X-Seen",
    b"Host: test",
    b"hOST: other",
]
CHUNKS = [
    b"\r\n", b"g\r\n", b"-1\r\n", b"+1\r\n", b"0x5\r\n", b" 5\r\n", b"5 \r\nhello\r\n", b"5\n", b"5\rhello", b"5,5\r\n",
    b"5;\r\nhello\r\n", b"5;=x\r\n", b"5;a=\r\nhello\r\n", b'5;a="b\r\nhello\r\n', b"5;a b\r\n", b"5;a\x00\r\n",
    b"5;a=b;;c\r\n", b"5 a\r\n", b"00000000000000001\r\n", b"ffffffffffffffffff\r\n", b"1;" + b"a" * 2000,
    b"5\r\nhello!\r\n", b"5\r\nhelloX", b"5\r\nhello\n", b"5\r\nhello\r\r\n", b"5\r\nhello5\r\n",
    b"0\r\nno colon\r\n", b"0\r\nNa me: x\r\n", b"0\r\nName : x\r\n", b"0\r\nA: b\r\n folded\r\n", b"0\r\nA: \x00\r\n",
    b"0\r\nA: b\nB: c\r\n", b"0\r\n: x\r\n", b"0\r\n" + b"A: b\r\n" * 5000, b"0\r\nA: " + b"b" * 20_000,
]  # fmt: skip


@pytest.mark.parametrize(
    "sent",
    [
        *(line + b"\r\n\r\n" for line in REQUEST_LINES if line),
        *(line + b"\r\nHost: test\r\n\r\n" for line in REQUEST_LINES if line),
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nX-Host: test\r\n\r\n",
        b"GET / HTTP/1.1\nHost: test\n\n",
        b"GET / HTTP/1.1\r\nHost: test\n\r\n",
        b"GET / HTTP/1.1\r\nHost: test\r\n\n",
        b"\nGET / HTTP/1.1\r\nHost: test\r\n\r\n",
        b"\rGET / HTTP/1.1\r\nHost: test\r\n\r\n",
        b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.0\r\nHost: a b\r\n\r\n",
        *map(with_host, HOSTS),
        *map(with_lines, LINES),
        *map(chunked, CHUNKS),
    ],
)
@pytest.mark.parametrize("before", [b"", GET], ids=["first", "pipelined"])
def test_what_is_malformed_is_400_and_ends_the_connection(client: Client, before: bytes, sent: bytes) -> None:
    client.send(before + sent + GET)
    if before:
        assert client.read().body == PAGE
    assert refused(client).status == 400


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"GET / HTTP/1.1\n",
        b"GET / HTTP/1.1\r\nHost: test\n",
        b"GET / HTTP/1.1\rH",
        b"GET / HTTP/1.1\r\nA: \x00",
        b"\n",
    ],
)
def test_what_no_further_byte_can_mend_is_refused_at_once(client: Client, sent: bytes) -> None:
    client.send(sent)
    assert refused(client).status == 400


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (with_lines(b"Content-Length: 1001"), 413),
        (with_lines(b"Content-Length: " + b"9" * 30), 413),
        (chunked(b"3e9\r\n"), 413),
        (chunked(b"1f4\r\n" + b"x" * 500 + b"\r\n1f5\r\n"), 413),
        (chunked(b"ffffffffffffffff\r\n"), 413),
        (b"GET /" + b"x" * 8192 + b" HTTP/1.1\r\nHost: test\r\n\r\n", 414),
        (b"GET /" + b"x" * 20_000, 414),
        (b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: test\r\n\r\n", 414),
        (with_lines(b"X: " + b"y" * 17_000), 431),
        (b"GET / HTTP/1.1\r\nHost: test\r\nX: " + b"y" * 17_000, 431),
        (with_lines(*(b"X%d: y" % n for n in range(100))), 431),
        (with_lines(*(b"X%d: y" % n for n in range(3000))), 431),
        (with_lines(b"Expect: the unexpected"), 417),
        (with_lines(b"Transfer-Encoding: gzip, chunked"), 501),
        (with_lines(b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked"), 501),
        (with_lines(b"Transfer-Encoding: x;a=b , chunked"), 501),
        (b"A" * 20_000, 501),
        (b"A" * 20_000 + b" / HTTP/1.1\r\nHost: test\r\n\r\n", 501),
        (b"GET / HTTP/2.0\r\nHost: test\r\n\r\n", 505),
        (b"GET / HTTP/0.9\r\nHost: test\r\n\r\n", 505),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    ],
    ids=lambda value: repr(value[:60]) if isinstance(value, bytes) else None,
)
def test_what_is_too_large_or_not_spoken_here_is_told_so(client: Client, sent: bytes, status: int) -> None:
    client.send(sent)
    assert refused(client).status == status


def test_limits_are_met_exactly(site: Site, serve: Serve) -> None:
    site.write("index.html", PAGE)
    server = serve(site.root, head_bytes_max=300, target_bytes_max=100, head_fields_max=5)

    def status(target_bytes: int, fields: int, head_bytes: int) -> int:
        lines = [b"GET /" + b"?" * (target_bytes - 1) + b" HTTP/1.1", b"Host: test"]
        lines += [b"X: y"] * (fields - 2)
        head = b"\r\n".join(lines) + b"\r\nZ: "
        with Client(server.port) as client:
            client.send(head + b"z" * (head_bytes - len(head)) + b"\r\n\r\n")
            return client.read().status

    assert status(100, 5, 300) == 200
    assert status(101, 5, 300) == 414
    assert status(100, 6, 300) == 431
    assert status(100, 5, 301) == 431


# --- time -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "sent"),
    [
        ({"head_timeout_s": 0.2}, b"GET / HTTP/1.1\r\nHost:"),
        ({"head_timeout_s": 0.2}, b"G"),
        ({"head_timeout_s": 0.2}, GET[:-1]),
        ({"head_timeout_s": 0.2}, b"\r\n"),
        ({"body_timeout_s": 0.2}, with_lines(b"Content-Length: 10") + b"123"),
        ({"body_timeout_s": 0.2}, chunked(b"5\r\nhel")),
        ({"body_timeout_s": 0.2}, chunked(b"5\r\nhello\r\n")),
    ],
)
@pytest.mark.parametrize("before", [b"", GET], ids=["first", "pipelined"])
def test_half_a_request_is_408_after_its_time(
    site: Site, serve: Serve, config: dict[str, float], sent: bytes, before: bytes
) -> None:
    site.write("index.html", PAGE)
    with Client(serve(site.root, **config).port) as client:
        client.send(before + sent)
        if before:
            assert client.read().body == PAGE
        assert refused(client).status == 408


@pytest.mark.parametrize(
    ("config", "begin", "drip"),
    [
        ({"head_timeout_s": 0.3}, b"GET / HTTP/1.1\r\nHost: test\r\nX: ", b"y"),
        ({"body_timeout_s": 0.3}, with_lines(b"Content-Length: 1000"), b"y"),
        ({"body_timeout_s": 0.3}, chunked(b""), b"1\r\ny\r\n"),
    ],
)
def test_a_slow_sender_does_not_gain_time_with_each_byte(
    site: Site, serve: Serve, config: dict[str, float], begin: bytes, drip: bytes
) -> None:
    site.write("index.html", PAGE)
    with Client(serve(site.root, **config).port) as client:
        client.send(begin)
        deadline = time.monotonic() + 20
        while not is_readable(client.socket, 0.02):
            client.send(drip)
            assert time.monotonic() < deadline
        assert client.read().status == 408


@pytest.mark.parametrize("before", [b"", GET], ids=["new", "idle"])
def test_a_client_that_asks_nothing_is_closed_without_a_word(site: Site, serve: Serve, before: bytes) -> None:
    site.write("index.html", PAGE)
    with Client(serve(site.root, head_timeout_s=0.2, idle_timeout_s=0.2).port) as client:
        client.send(before)
        if before:
            assert client.read().body == PAGE
        assert client.at_end()


def test_the_answer_to_a_refusal_arrives_although_the_client_goes_on_sending(client: Client) -> None:
    client.send(b"bad\r\n\r\n" + b"x" * 3_000_000)
    assert refused(client).status == 400


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"HEAD / HTTP/1.1\r\n\r\n",
        b"HEAD / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n",
        b"HEAD / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n",
    ],
)
def test_a_refused_head_request_gets_no_content(client: Client, request_bytes: bytes) -> None:
    client.send(request_bytes)
    answer = client.read_to_end()
    assert answer.startswith(b"HTTP/1.1 4")
    assert answer.endswith(b"\r\n\r\n")
