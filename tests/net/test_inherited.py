"""zcserve.net.inherited: sockets that another process opened, taken by address or by name; what is lent outlives us.
What is handed over at an upgrade: tests/test_upgrade.py; whole processes: tests/test_activation.py."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from zcserve.config.addresses import FdAddress, TcpAddress, UnixAddress
from zcserve.errors import UsageError
from zcserve.net.inherited import Inherited, address_of
from zcserve.net.listener import bind

Lend = Callable[..., Inherited]


@pytest.fixture
def lend() -> Iterator[Lend]:
    """`lend(web=socket, ...)`: these sockets, lent by their names. They stay open here, as with systemd."""
    with ExitStack() as stack:

        def make(**sockets: socket.socket) -> Inherited:
            lent = {}
            for name, sock in sockets.items():
                stack.callback(sock.close)
                lent[sock.dup().detach()] = name
            made = Inherited([(fd, 0) for fd in lent], lent)
            stack.callback(made.close)
            return made

        yield make


def listening(family: int, where: Any, *, only_v6: bool = True) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only_v6)
    sock.bind(where)
    sock.listen(8)
    return sock


def local() -> socket.socket:
    return listening(socket.AF_INET, ("127.0.0.1", 0))


def test_one_is_taken_by_name_and_by_address_once(lend: Lend) -> None:
    web, more = local(), local()
    inherited = lend(web=web, more=more)
    (by_name,) = bind(FdAddress("web"), inherited)
    (by_address,) = bind(address_of(more), inherited)
    assert [address_of(sock) for sock in (by_name, by_address)] == [address_of(web), address_of(more)]
    assert [inherited.name_of(sock) for sock in (by_name, by_address, web)] == ["web", "more", None]
    with pytest.raises(
        UsageError, match=r"cannot listen on fd:web: systemd passed no such socket; passed: fd:more fd:web"
    ):
        bind(FdAddress("web"), inherited)
    inherited.refuse_left()
    for sock in (by_name, by_address):
        inherited.unbind(sock)


def test_all_are_taken_but_for_what_is_set_aside(lend: Lend) -> None:
    web, admin = local(), local()
    inherited = lend(web=web, admin=admin)
    where = inherited.find_named("admin")
    assert where == address_of(admin)
    inherited.set_aside(where)
    assert inherited.has_lent
    (taken,) = bind(FdAddress(""), inherited)
    assert address_of(taken) == address_of(web)
    inherited.refuse_left()
    taken.close()


@pytest.mark.parametrize("name", ["other", ""])
def test_an_admin_listener_is_one_socket_that_was_passed(lend: Lend, name: str) -> None:
    with pytest.raises(UsageError, match="passed: fd:web"):
        lend(web=local()).find_named(name)
    with pytest.raises(UsageError, match="passed: none"):
        lend().find_named(name)


def test_one_that_nothing_names_is_refused(lend: Lend) -> None:
    web = local()
    with pytest.raises(UsageError, match=rf"at {address_of(web)} \(web\), .* --listen fd:web, or give no"):
        lend(web=web).refuse_left()


def test_a_socket_of_both_families_is_taken_for_all_interfaces(lend: Lend) -> None:
    both = listening(socket.AF_INET6, ("::", 0), only_v6=False)
    inherited = lend(web=both)
    (taken,) = bind(TcpAddress("", both.getsockname()[1]), inherited)
    assert taken.family == socket.AF_INET6
    taken.close()


def test_the_name_of_what_is_lent_is_kept_and_of_what_is_left_as_well(lend: Lend, tmp_path: Path) -> None:
    paths = [str(tmp_path / name) for name in ("taken", "left")]
    inherited = lend(**{Path(path).name: listening(socket.AF_UNIX, path) for path in paths})
    (taken,) = bind(UnixAddress(paths[0]), inherited)
    inherited.unbind(taken)
    inherited.close()
    assert all(Path(path).exists() for path in paths)
