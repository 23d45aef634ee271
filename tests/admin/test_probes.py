"""Probes of a node that serves."""

from __future__ import annotations

import json
from collections.abc import Callable

from tests.support.client import Client, Response
from zcserve import Server


def test_a_node_that_serves_is_alive_and_ready(node: Server, ask: Callable[..., Response]) -> None:
    assert json.loads(ask("/livez").body) == {"is_alive": True}
    answer = ask("/readyz")
    assert answer.status == 200
    assert json.loads(answer.body)["is_ready"] is True
    assert answer["Cache-Control"] == b"no-store"


def test_the_lines_of_warmz_end_with_one_that_says_ready(node: Server, socket_path: str) -> None:
    with Client(socket_path) as client:
        client.send(b"GET /warmz HTTP/1.0\r\n\r\n")
        head = client.read_head()
        assert b"application/x-ndjson" in head
        lines = client.read_to_end().splitlines()
    assert json.loads(lines[-1])["is_ready"] is True


def test_a_node_that_ends_is_not_ready_until_its_last_client_has_gone(
    node: Server, ask: Callable[..., Response]
) -> None:
    with Client(node.port) as client:
        client.send(b"GET /page HTTP/1.1\r\n")  # half a request: it is waited for
        assert ask("/readyz").status == 200
        node.loop.call_soon(node.stop)
        answer = ask("/readyz")
        while answer.status == 200:
            answer = ask("/readyz")
        assert (answer.status, json.loads(answer.body)["phase"]) == (503, "draining")
        client.send(b"Host: a\r\n\r\n")
        assert client.read().body == b"a page"
