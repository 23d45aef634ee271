"""Probes of a node that serves."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable

from tests.support.client import Client, Response
from tests.support.waiting import WaitUntil
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


def test_the_lines_of_warmz_go_on_while_a_list_is_warmed_and_say_how_far_it_is(
    node: Server, ask: Callable[..., Response], socket_path: str, wait_until: WaitUntil
) -> None:
    is_over = threading.Event()
    paths = iter(lambda: b"/nothing" if is_over.is_set() else b"/page", b"/nothing")  # until it is over
    told: list[object] = []
    content = node.content
    node.loop.call_soon(lambda: content.warming.warm(paths, 1000, told.append))
    node.loop.call_soon(lambda: content.warming.warm([b"/absent"], 1, told.append))
    with Client(socket_path) as client:
        wait_until(lambda: json.loads(ask("/stats").body)["warm_list"])
        client.send(b"GET /warmz HTTP/1.0\r\n\r\n")
        client.read_head()
        line = json.loads(client.read_until(b"\n"))
        assert line["is_ready"] is True
        found = line["warm_list"]
        assert found["done"] == found["resident"] == found["resident_bytes"] // len("a page") > 0
        assert (found["paths"], found["failed_total"], found["waiting"]) == (1000, 0, 1)
        is_over.set()
        last = json.loads(client.read_to_end().splitlines()[-1])
    assert (last["is_ready"], last["warm_list"], len(told)) == (True, None, 2)


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
