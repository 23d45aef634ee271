"""zcserve.net.deferral: when the kernel tells of a new client. What a server makes of it stands in wire/."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.support.waiting import is_readable
from zcserve.net.deferral import DEFER_S, LET_IN_S, defer, let_in

IPV4, IPV6 = "127.0.0.1", "::1"


@pytest.fixture(params=[IPV4, IPV6])
def listener(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if request.param == IPV6 else socket.AF_INET
    try:
        made = socket.create_server((request.param, 0), family=family)
    except OSError:
        pytest.skip("no IPv6 on this machine")
    with made:
        made.setblocking(False)
        defer(made)
        yield made


def connect(listener: socket.socket) -> socket.socket:
    return socket.create_connection(listener.getsockname()[:2])


@pytest.mark.parametrize("listener", [IPV4], indirect=True)
def test_a_client_is_told_of_when_it_sends_or_closes_and_else_after_a_second(listener: socket.socket) -> None:
    with connect(listener) as silent, connect(listener) as asking, connect(listener) as closing:
        asking.send(b"GET")
        closing.shutdown(socket.SHUT_WR)
        told = []
        for _ in range(3):
            assert is_readable(listener, 20 * DEFER_S)
            accepted, peer = listener.accept()
            accepted.close()
            told.append(peer)
        assert told == [asking.getsockname(), closing.getsockname(), silent.getsockname()]


def test_no_client_is_kept_back_of_a_listener_that_has_none_or_has_told_of_all(listener: socket.socket) -> None:
    with connect(listener) as client:
        assert let_in(listener)
        client.send(b"GET")
        assert is_readable(listener, 20)
        assert not let_in(listener)
        with listener.accept()[0]:
            assert not let_in(listener)


def test_what_another_listener_keeps_back_is_not_this_ones(listener: socket.socket) -> None:
    with socket.create_server((IPV4, 0)) as other:
        defer(other)
        with connect(other):
            assert not let_in(listener)


@pytest.mark.parametrize("listener", [IPV4], indirect=True)
def test_clients_that_are_kept_back_are_let_in(listener: socket.socket) -> None:
    with connect(listener) as asking, connect(listener) as silent:
        assert let_in(listener)
        asking.send(b"GET")
        with connect(listener) as later:
            told = []
            for _ in range(3):
                assert is_readable(listener, 20 * LET_IN_S)
                accepted, peer = listener.accept()
                accepted.close()
                told.append(peer)
            assert sorted(told[:2]) == sorted((asking.getsockname(), later.getsockname()))
            assert told[2] == silent.getsockname()


def test_where_the_kernel_does_not_say_clients_may_be_kept_back(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "AF_NETLINK", 250)  # there is no such family, as in a sandbox
    assert let_in(listener)
