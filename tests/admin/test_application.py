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
    assert any("admin: reload {} by process" in record.getMessage() for record in caplog.records)
