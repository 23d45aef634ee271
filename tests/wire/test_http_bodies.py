"""Request bodies over a real socket: read, thrown away, and the connection stays in step (RFC 9112 sections 6, 7).

A body here often looks like a request: a server that loses step answers it.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.support.client import Client
from tests.support.site import Serve, Site

PAGE, NEXT = b"<p>a page</p>", b"<p>the next</p>"
EVIL = b"GET /evil.html HTTP/1.1\r\nHost: test\r\n\r\n"
GET_NEXT = b"GET /next.html HTTP/1.1\r\nHost: test\r\n\r\n"


@pytest.fixture(scope="module")
def port(lasting_site: Site, serve_lasting: Serve) -> int:
    lasting_site.write("page.html", PAGE)
    lasting_site.write("next.html", NEXT)
    lasting_site.write("evil.html", b"not in step")
    return int(serve_lasting(lasting_site.root, body_bytes_max=4096).port)


@pytest.fixture
def client(port: int) -> Iterator[Client]:
    with Client(port) as connected:
        yield connected


def head(*lines: str, method: str = "GET", version: str = "1.1") -> bytes:
    return "\r\n".join([f"{method} /page.html HTTP/{version}", "Host: test", *lines, "", ""]).encode()


def chunk(data: bytes, extensions: bytes = b"") -> bytes:
    return b"%x%b\r\n%b\r\n" % (len(data), extensions, data)


LENGTH, CHUNKED = f"Content-Length: {len(EVIL)}", "Transfer-Encoding: chunked"
LAST = b"0\r\n\r\n"

BODIES = [
    ((LENGTH,), EVIL),
    (("Content-Length: 0",), b""),
    (("Content-Length: 4096",), b"x" * 4096),
    ((CHUNKED,), LAST),
    (("transfer-encoding:CHUNKED",), LAST),
    ((CHUNKED,), chunk(EVIL) + LAST),
    ((CHUNKED,), chunk(b"a") * 100 + chunk(EVIL) + LAST),
    ((CHUNKED,), b"0005\r\nhello\r\n0A\r\n0123456789\r\n00\r\n\r\n"),
    ((CHUNKED,), chunk(EVIL, b";a") + chunk(b"b", b' ; a=b ;c="d\\";e"\t;f = g') + b"0;last\r\n\r\n"),
    ((CHUNKED,), chunk(EVIL) + b"0\r\nTrailer: value\r\nX:\r\n\r\n"),
    ((CHUNKED, "Trailer: X"), LAST),
    ((CHUNKED,), chunk(b"x" * 4096) + LAST),
    ((CHUNKED,), chunk(b"\r\n0\r\n\r\n") + LAST),
]
IDS = [f"{number}: {lines[0]}" for number, (lines, _) in enumerate(BODIES)]


@pytest.mark.parametrize(("lines", "body"), BODIES, ids=IDS)
@pytest.mark.parametrize(("method", "status"), [("GET", 200), ("HEAD", 200), ("OPTIONS", 200), ("POST", 405)])
def test_a_body_is_thrown_away_and_the_next_request_answered(
    client: Client, lines: tuple[str, ...], body: bytes, method: str, status: int
) -> None:
    client.send(head(*lines, method=method) + body + GET_NEXT)
    assert client.read(method=method).status == status
    assert client.read().body == NEXT


@pytest.mark.parametrize(("lines", "body"), BODIES, ids=IDS)
def test_a_body_may_come_in_pieces(client: Client, lines: tuple[str, ...], body: bytes) -> None:
    sent = head(*lines) + body + GET_NEXT
    step = max(len(sent) // 200, 1)
    for at in range(0, len(sent), step):
        client.send(sent[at : at + step])
    assert [client.read().body for _ in range(2)] == [PAGE, NEXT]


def test_pipelined_requests_with_bodies_stay_in_step(client: Client) -> None:
    client.send((head(LENGTH) + EVIL + head(CHUNKED) + chunk(EVIL) + LAST) * 20 + GET_NEXT)
    assert [client.read().body for _ in range(41)] == [PAGE] * 40 + [NEXT]


def test_a_conditional_request_with_a_body_is_a_conditional_request(client: Client) -> None:
    client.send(head(LENGTH, "If-None-Match: *") + EVIL + GET_NEXT)
    assert client.read().status == 304
    assert client.read().body == NEXT


# --- expectations -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("expect", ["Expect: 100-continue", "expect: 100-Continue"])
@pytest.mark.parametrize(("line", "body"), [(LENGTH, EVIL), (CHUNKED, chunk(EVIL) + LAST)])
def test_100_continue_is_said_before_the_body_is_sent(client: Client, expect: str, line: str, body: bytes) -> None:
    client.send(head(line, expect))
    assert client.read_head() == b"HTTP/1.1 100 Continue"
    client.send(body + GET_NEXT)
    assert [client.read().body for _ in range(2)] == [PAGE, NEXT]


@pytest.mark.parametrize(
    ("lines", "body", "version"),
    [
        ((LENGTH, "Expect: 100-continue"), EVIL, "1.1"),  # the body is here already
        (("Expect: 100-continue",), b"", "1.1"),  # there is none
        (("Content-Length: 0", "Expect: 100-continue"), b"", "1.1"),
        ((LENGTH, "Expect: 100-continue", "Connection: keep-alive"), EVIL, "1.0"),
        (("Expect: a miracle", "Connection: keep-alive"), b"", "1.0"),
    ],
)
def test_100_continue_is_not_said_where_no_client_waits(
    client: Client, lines: tuple[str, ...], body: bytes, version: str
) -> None:
    client.send(head(*lines, version=version) + body + GET_NEXT)
    assert [(client.read().status) for _ in range(2)] == [200, 200]


def test_a_1_0_client_is_never_told_to_continue(client: Client) -> None:
    client.send(head(LENGTH, "Expect: 100-continue", version="1.0"))
    client.send(EVIL)
    assert client.read().status == 200


@pytest.mark.parametrize("line", ["Content-Length: 4097", "Content-Length: 99999999999999999999999"])
def test_a_body_too_large_is_refused_before_it_is_sent(client: Client, line: str) -> None:
    client.send(head(line, "Expect: 100-continue"))
    response = client.read()
    assert (response.status, response["Connection"]) == (413, b"close")
    assert client.at_end()


def test_a_client_that_asks_before_sending_to_a_method_that_takes_nothing_is_told_at_once(client: Client) -> None:
    client.send(head(LENGTH, "Expect: 100-continue", method="PUT"))
    response = client.read()
    assert (response.status, response["Connection"]) == (405, b"close")
    assert client.at_end()


@pytest.mark.parametrize("value", ["a-miracle", "100-continue, a-miracle", "100-continue;q=1", "200-ok"])
def test_other_expectations_fail(client: Client, value: str) -> None:
    client.send(head(LENGTH, f"Expect: {value}"))
    response = client.read()
    assert (response.status, response["Connection"]) == (417, b"close")
    assert client.at_end()


# --- clients that stop half-way ---------------------------------------------------------------------------


def test_half_a_body_and_an_end_is_the_end(client: Client) -> None:
    client.send(head(LENGTH) + EVIL[:-1])
    client.socket.shutdown(socket.SHUT_WR)
    assert client.read_to_end() == b""
