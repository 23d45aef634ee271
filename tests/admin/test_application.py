"""Routes: what is found at a path, and errors as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.support.client import Client, Response
from zcserve import Server


def test_an_unknown_path_is_told_with_the_nearest(node: Server, ask: Callable[..., Response]) -> None:
    answer = ask("/redyz")
    assert answer.status == 404
    told = json.loads(answer.body)
    assert "did you mean /readyz?" in told["error"]
    assert "/livez" in told["accepted"]


@pytest.mark.parametrize(
    ("target", "method", "allow"), [("/livez", "DELETE", b"GET, HEAD, OPTIONS"), ("/reload", "GET", b"POST, OPTIONS")]
)
def test_a_method_that_is_not_for_a_path_is_refused(
    node: Server, ask: Callable[..., Response], target: str, method: str, allow: bytes
) -> None:
    answer = ask(target, method=method)
    assert (answer.status, answer["Allow"], answer["Content-Type"]) == (405, allow, b"application/json")
    answer = ask(target, method="OPTIONS")
    assert (answer.status, answer["Allow"]) == (204, allow)


def test_head_has_no_content_and_pipelined_requests_are_answered_in_order(node: Server, socket_path: str) -> None:
    with Client(socket_path) as client:
        assert client.get("/livez", method="HEAD").body == b""
        client.send(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\nGET /none HTTP/1.1\r\nHost: a\r\n\r\n" * 20)
        assert [client.read().status for _ in range(40)] == [200, 404] * 20


def test_nothing_of_it_is_on_the_public_port_nor_files_here(node: Server, ask: Callable[..., Response]) -> None:
    with Client(node.port) as client:
        assert client.get("/livez").status == 404
        assert client.get("/page").body == b"a page"
    assert ask("/page").status == 404


def test_what_is_told_is_in_the_log_with_who_said_it(
    node: Server, tell: Callable[..., object], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        assert tell("reload") == (200, {"reloading": True})
    assert any('admin: reload {"wait": false} by process' in record.getMessage() for record in caplog.records)


HEAD = "HTTP/1.1\r\nHost: a\r\n"
# What is refused before there is a route: status, and some of what is told.
REFUSED = {
    f"TRACE /livez {HEAD}\r\n": (405, "no path takes this method"),
    f"CONNECT a:80 {HEAD}\r\n": (405, "no path takes this method"),
    f"FROB /livez {HEAD}\r\n": (405, "FROB is not for this path"),
    f"FROB * {HEAD}\r\n": (501, "Not Implemented"),
    f"GET * {HEAD}\r\n": (400, ""),
    f"POST /warm {HEAD}Content-Length: 999999999\r\n\r\n": (413, "a body of more than 262144 bytes"),
    f"POST /warm {HEAD}Content-Length: 1, 2\r\n\r\n": (400, "Content-Length"),
    f"POST /warm {HEAD}Transfer-Encoding: gzip, chunked\r\n\r\n": (501, "chunked"),
    f"POST /warm {HEAD}Expect: bread\r\n\r\n": (417, "expectation"),
    f"GET /{'a' * 20_000} {HEAD}\r\n": (414, "a target longer than"),
    f"GET /livez {HEAD}A: {'a' * 70_000}\r\n\r\n": (431, "a head longer than"),
    "GET /livez HTTP/2.0\r\nHost: a\r\n\r\n": (505, "HTTP/1.1"),
    "what?\r\n\r\n": (400, "not a request line"),
}


def test_what_is_refused_before_there_is_a_route_is_json_too(node: Server, socket_path: str) -> None:
    for request, (status, error) in REFUSED.items():
        with Client(socket_path) as client:
            client.send(request.encode())
            answer = client.read()
        assert (answer.status, answer["Content-Type"]) == (status, b"application/json"), request[:60]
        told = json.loads(answer.body)
        assert error in told["error"], request[:60]
        assert (status == 405) == ("accepted" in told)
