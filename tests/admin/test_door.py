"""The admin listener's socket and connections."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.client import Client, Response, accepted
from tests.support.engines import ENGINES
from tests.support.site import Serve
from tests.support.waiting import is_readable
from zcserve import Config, Server
from zcserve.admin.door import CONNECTIONS_MAX


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
        assert len(os.listdir("/proc/self/fd")) - before - clients <= 2 * CONNECTIONS_MAX + 2


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
