"""The admin listener's socket and connections."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client, Response, accepted
from tests.support.engines import ENGINES
from tests.support.site import Serve
from tests.support.waiting import is_readable, wait_until
from zcserve import Config, Server
from zcserve.admin.application import WAITING_MAX
from zcserve.admin.door import CONNECTIONS_MAX
from zcserve.admin.orders import VERBS
from zcserve.admin.verbs import Finish, Verb
from zcserve.admin.words import Wording


def test_a_unix_socket_is_its_owners_and_goes_with_the_server(page_root: Path, socket_path: str) -> None:
    with Server(Config(root=page_root, port=0, admin=f"unix:{socket_path}")):
        assert stat.S_IMODE(os.stat(socket_path).st_mode) == 0o600
    assert not os.path.exists(socket_path)


def test_of_more_connections_than_there_may_be_an_idle_one_is_closed(node: Server, socket_path: str) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(socket_path)) for _ in range(CONNECTIONS_MAX)]
        for client in clients:
            assert client.get("/livez").status == 200
        newcomer = stack.enter_context(Client(socket_path))
        assert newcomer.get("/livez").status == 200
        (closed,) = [client for client in clients if is_readable(client.socket, 0)]
        assert closed.at_end()


@pytest.mark.parametrize("engine", ENGINES)
def test_clients_that_say_nothing_take_no_descriptors_of_the_public_port(
    engine: str, page_root: Path, serve: Serve
) -> None:
    server = serve(page_root, engine=engine, admin="127.0.0.1:0")
    before = len(os.listdir("/proc/self/fd"))
    clients = 5 * CONNECTIONS_MAX
    with ExitStack() as stack:
        for _ in range(clients):
            client = stack.enter_context(Client(server.admin_port))
            client.send(b"GET /livez HT")  # and it closes nothing
        operator = stack.enter_context(Client(server.admin_port))
        operator.send(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert operator.read().status == 200
        assert len(os.listdir("/proc/self/fd")) - before - clients <= CONNECTIONS_MAX + 2


_HEAD = b"HTTP/1.1\r\nHost: localhost\r\n"
# What clients do that take a place and never give it back.
STUBBORN = {
    "says nothing": b"",
    "sends half a head": b"GET /livez " + _HEAD,
    "sends half a body": b"POST /warm " + _HEAD + b"Content-Type: application/json\r\nContent-Length: 9\r\n\r\n{",
    "reads no stream": b"GET /events " + _HEAD + b"\r\n",
    "reads no stream, and asks for more": b"GET /events " + _HEAD + b"\r\nGET /livez " + _HEAD,
    "reads no answer": (b"GET /stats " + _HEAD + b"\r\n") * 40,
    "is not understood": b"what?\r\n\r\n",
}


@pytest.mark.parametrize("crowd", [64, 640])
def test_a_probe_is_answered_whatever_a_crowd_does(
    node: Server, socket_path: str, ask: Callable[..., Response], crowd: int
) -> None:
    with ExitStack() as stack:
        for number in range(crowd):
            client = stack.enter_context(Client(socket_path))
            with suppress(OSError):  # it had to make way meanwhile
                client.send(list(STUBBORN.values())[number % len(STUBBORN)])
            if number % 5 == 4:
                client.close()
        for _ in range(3):
            assert (ask("/livez").status, ask("/readyz").status) == (200, 200)
        with Client(node.port) as client:
            assert client.get("/page").body == b"a page"


@pytest.mark.parametrize("stubborn", STUBBORN)
def test_one_that_keeps_the_node_waiting_makes_way(
    page_root: Path, serve: Serve, socket_path: str, ask: Callable[..., Response], stubborn: str
) -> None:
    serve(page_root, engine="python", admin=f"unix:{socket_path}")
    with ExitStack() as stack:
        for _ in range(2 * CONNECTIONS_MAX):
            client = stack.enter_context(Client(socket_path))
            with suppress(OSError):
                client.send(STUBBORN[stubborn])
        assert ask("/readyz").status == 200


def test_a_stream_stays_where_another_had_its_answer(node: Server, socket_path: str) -> None:
    with ExitStack() as stack:
        stream = stack.enter_context(Client(socket_path))
        stream.send(b"GET /events " + _HEAD + b"\r\n")
        stream.read_until(b"event: whole")
        clients = []
        for _ in range(CONNECTIONS_MAX):
            clients.append(stack.enter_context(Client(socket_path)))
            assert clients[-1].get("/livez").status == 200
        assert sum(is_readable(client.socket, 0) for client in clients) == 1
        stream.read_until(b"event: change")


def test_of_clients_that_wait_for_verbs_there_are_few(
    page_root: Path, serve: Serve, socket_path: str, tell: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    finishes: list[Finish] = []
    hold = Verb(Wording("hold", "answer later"), lambda node, given, finish: finishes.append(finish), is_long=True)
    monkeypatch.setattr("zcserve.admin.office.VERBS", (*VERBS, hold))
    server = serve(page_root, engine="python", admin=f"unix:{socket_path}")
    with ExitStack() as stack:
        waiting = [stack.enter_context(Client(socket_path)) for _ in range(WAITING_MAX)]
        for client in waiting:
            client.send(b"POST /hold " + _HEAD + b"Content-Type: application/json\r\nContent-Length: 0\r\n\r\n")
        wait_until(lambda: len(finishes) == WAITING_MAX)
        status, told = tell("hold")
        assert (status, told["error"]) == (409, "32 clients wait for verbs already: ask again when one is done")
        assert tell("loglevel")[0] == 200  # what is done at once is done
        for number in range(2 * CONNECTIONS_MAX):
            assert tell("loglevel")[0] == 200, number
            stack.enter_context(Client(socket_path))
        waiting.pop().close()
        warm = partial(tell, "warm", paths=["/page"])
        assert wait_until(lambda: warm()[0] == 200)
        for finish in finishes:
            server.loop.call_soon(partial(finish, {"is_held": False}))
        assert all(client.read().status == 200 for client in waiting)  # none had to make way


def test_its_connections_count_among_no_clients(node: Server, socket_path: str) -> None:
    with Client(socket_path) as operator:
        assert operator.get("/livez").status == 200
        assert node.service.count() == 0


def test_an_end_waits_for_no_operator(page_root: Path, socket_path: str) -> None:
    with ExitStack() as stack:
        with Server(Config(root=page_root, port=0, admin=f"unix:{socket_path}", grace_s=60)):
            operator = stack.enter_context(Client(socket_path))
            assert operator.get("/livez").status == 200
            operator.send(b"GET /livez HTTP/1.1\r\nHost: a\r\n")  # never the rest
        assert operator.at_end()  # and the server has ended, long before --grace is over


def test_a_client_that_goes_away_in_the_middle_leaves_nothing_behind(
    node: Server, socket_path: str, ask: Callable[..., Response]
) -> None:
    for _ in range(20):
        with Client(socket_path) as operator:
            operator.send(b"GET /warmz HTTP/1.1\r\nHost: a\r\n\r\n")
    assert ask("/livez").status == 200


def test_the_kernel_looks_for_operators_that_vanished(page_root: Path, serve: Serve) -> None:
    server = serve(page_root, admin="127.0.0.1:0", write_timeout_s=7.5)
    with Client(server.admin_port) as client:
        assert client.get("/livez").status == 421  # for want of a Host: accepted it is
        with accepted(client) as sock:
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 7500
