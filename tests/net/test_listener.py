"""zcserve.net.listener's `bind` and `Reserve`. Accepting, and what happens at its limits, stands in wire/."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.begun import open_descriptors
from zcserve.config.addresses import Address, TcpAddress, UnixAddress
from zcserve.errors import UsageError
from zcserve.net.listener import Reserve, bind

LOCAL = TcpAddress("127.0.0.1", 0)


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def bound(stack: ExitStack, address: Address) -> list[socket.socket]:
    return [stack.enter_context(sock) for sock in bind(address)]


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_port_0_is_any_free_port(opened: ExitStack) -> None:
    first, second = bound(opened, LOCAL) + bound(opened, LOCAL)
    assert 0 != first.getsockname()[1] != second.getsockname()[1] != 0
    assert not first.getblocking()
    assert first.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)


def test_a_port_that_another_program_has_is_wrong_use(opened: ExitStack) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UsageError, match=f"cannot listen on 127.0.0.1:{port}: .*in use; another program"):
            bind(TcpAddress("127.0.0.1", port))


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 on this machine")
@pytest.mark.parametrize(
    ("host", "families"),
    [
        ("::1", {socket.AF_INET6}),
        ("127.0.0.1", {socket.AF_INET}),
        ("", {socket.AF_INET, socket.AF_INET6}),
    ],
)
def test_an_address_is_bound_in_each_of_its_families_at_one_port(
    opened: ExitStack, host: str, families: set[int]
) -> None:
    sockets = bound(opened, TcpAddress(host, 0))
    assert {sock.family for sock in sockets} == families
    assert len({sock.getsockname()[1] for sock in sockets}) == 1


def test_a_name_is_looked_up(opened: ExitStack) -> None:
    sockets = bound(opened, TcpAddress("localhost", 0))
    assert {sock.getsockname()[0] for sock in sockets} <= {"127.0.0.1", "::1"}


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_that_is_not_ours_is_wrong_use(host: str) -> None:
    with pytest.raises(UsageError, match=f"cannot listen on {host}:0: "):
        bind(TcpAddress(host, 0))


def test_nothing_stays_open_when_binding_fails(opened: ExitStack) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        before = open_descriptors()
        with pytest.raises(UsageError):
            bind(TcpAddress("127.0.0.1", other.getsockname()[1]))
        assert open_descriptors() <= before  # a thread of another test may close its own meanwhile


# --- unix sockets -----------------------------------------------------------------------------------------


def test_a_unix_socket_is_bound_at_its_path(opened: ExitStack, tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    (sock,) = bound(opened, UnixAddress(path))
    assert sock.getsockname() == path
    assert not sock.getblocking()


def test_a_socket_without_a_listener_is_replaced(opened: ExitStack, tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    (sock,) = bound(opened, UnixAddress(path))
    sock.listen()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)


def test_a_socket_with_a_listener_is_left_alone(opened: ExitStack, tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(path)
        other.listen()
        with pytest.raises(UsageError, match="in use; a running program listens there: stop that, or name another"):
            bind(UnixAddress(path))
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "precious"
    file.write_bytes(b"precious")
    with pytest.raises(UsageError, match="a file is there that is no socket; remove it"):
        bind(UnixAddress(str(file)))
    assert file.read_bytes() == b"precious"


def test_a_directory_that_is_not_there_is_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        bind(UnixAddress(str(tmp_path / "absent" / "s")))


# --- the reserve ------------------------------------------------------------------------------------------


def test_the_reserve_is_one_descriptor_that_can_be_lent() -> None:
    count = open_descriptors
    before = count()
    reserve = Reserve()
    assert count() == before + 1
    assert reserve.lend()
    assert not reserve.lend()
    assert count() == before
    reserve.take_back()
    reserve.take_back()
    assert count() == before + 1
    reserve.close()
    reserve.close()
    reserve.take_back()  # the server has ended meanwhile
    assert count() == before
