"""zcserve.net.forks: which descriptors a child finds that no table of it has. What a child means for clients stands in
tests/wire/test_forks.py."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from zcserve.net.forks import kin


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def listening(stack: ExitStack, family: int, where: object) -> socket.socket:
    sock = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
    sock.bind(where)  # type: ignore[arg-type]
    sock.listen()
    return sock


def accepted(stack: ExitStack, listener: socket.socket, to: object) -> tuple[socket.socket, socket.socket]:
    """The two sides of a connection: what was accepted, and the client's."""
    client = stack.enter_context(socket.socket(listener.family, socket.SOCK_STREAM))
    client.connect(to)  # type: ignore[arg-type]
    return stack.enter_context(listener.accept()[0]), client


@pytest.mark.parametrize(
    ("family", "at", "host"),
    [
        (socket.AF_INET, "127.0.0.1", "127.0.0.1"),
        (socket.AF_INET, "0.0.0.0", "127.0.0.2"),
        (socket.AF_INET6, "::1", "::1"),
        (socket.AF_INET6, "::", "::1"),
    ],
)
def test_what_was_accepted_at_a_known_address_is_found(stack: ExitStack, family: int, at: str, host: str) -> None:
    try:
        listener = listening(stack, family, (at, 0))
    except OSError:
        pytest.skip("no IPv6 here")
    ones = [accepted(stack, listener, (host, listener.getsockname()[1]))[0] for _ in range(3)]
    assert kin([listener.fileno()]) == {one.fileno() for one in ones}
    assert kin([listener.fileno(), ones[0].fileno()]) == {one.fileno() for one in ones[1:]}
    if at == host:  # a listener that is gone has left some that are known
        listener.close()
        assert kin([ones[0].fileno()]) == {one.fileno() for one in ones[1:]}


def test_what_was_accepted_at_a_unix_socket_is_found(stack: ExitStack, tmp_path: Path) -> None:
    listener = listening(stack, socket.AF_UNIX, str(tmp_path / "s"))
    one, _ = accepted(stack, listener, listener.getsockname())
    assert kin([listener.fileno()]) == {one.fileno()}


def test_what_an_application_has_is_not_found(stack: ExitStack, tmp_path: Path) -> None:
    listener = listening(stack, socket.AF_INET, ("127.0.0.1", 0))
    port = listener.getsockname()[1]
    at_path = listening(stack, socket.AF_UNIX, str(tmp_path / "s"))
    own = listening(stack, socket.AF_INET, ("127.0.0.2", port))  # the same port at another address
    accepted(stack, own, own.getsockname())
    datagrams = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    datagrams.bind(("127.0.0.1", port))
    asks_itself, _ = accepted(stack, listener, listener.getsockname())
    pair = [stack.enter_context(one) for one in socket.socketpair()]
    known = [listener, at_path, asks_itself, pair[0]]  # of those without a name none is another's kin
    assert kin([sock.fileno() for sock in known]) == set()


def test_what_is_looked_at_stays_as_it_is(stack: ExitStack) -> None:
    listener = listening(stack, socket.AF_INET, ("127.0.0.1", 0))
    one, client = accepted(stack, listener, listener.getsockname())
    stack.callback(socket.setdefaulttimeout, socket.getdefaulttimeout())
    socket.setdefaulttimeout(1)  # an application may have set it
    assert kin([listener.fileno()]) == {one.fileno()}
    assert socket.getdefaulttimeout() == 1
    assert all(os.get_blocking(sock.fileno()) for sock in (listener, one, client))


def test_nothing_is_found_where_the_system_does_not_tell(stack: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    def listdir(_: str) -> list[str]:
        raise FileNotFoundError

    listener = listening(stack, socket.AF_INET, ("127.0.0.1", 0))
    accepted(stack, listener, listener.getsockname())
    monkeypatch.setattr(os, "listdir", listdir)
    assert kin([listener.fileno()]) == set()
