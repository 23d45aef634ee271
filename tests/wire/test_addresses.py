"""Where a server listens: TCP over IPv4 and IPv6, unix sockets, several at once, and addresses that are taken."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import zcserve
from tests.support.client import Client
from tests.support.command import StartCommand
from tests.support.site import Serve, Site
from tests.support.waiting import WaitUntil
from zcserve import Config, Server
from zcserve.errors import UsageError


@pytest.fixture
def root(site: Site) -> Path:
    """A root with one page."""
    site.write("page", b"a page")
    assert isinstance(site.root, Path)
    return site.root


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a unix socket may be."""
    return tmp_path / "socket"


def is_served_at(where: Any) -> bool:
    """Whether the page is."""
    with Client(where) as client:
        return client.get("/page").body == b"a page"


def test_port_0_is_a_port_of_the_kernels_choosing(root: Path, serve: Serve) -> None:
    one, other = serve(root), serve(root)
    assert one.port
    assert other.port
    assert one.port != other.port
    assert one.url == f"http://127.0.0.1:{one.port}"
    assert is_served_at(one.port)
    assert is_served_at(other.port)


def test_several_addresses_are_served_by_one_server(
    root: Path, command: StartCommand, path: Path, wait_until: WaitUntil
) -> None:
    flags = ("--listen", "127.0.0.1:0", "--listen", "[::1]:0", "--listen", f"unix:{path}")
    server = command(root, *flags)
    wait_until(lambda: sum(line.startswith("serving") for line in server.lines) == 3)
    addresses = [line.split()[1] for line in server.lines if line.startswith("serving")]
    assert addresses[0] == f"http://127.0.0.1:{server.port}"
    host, port = addresses[1].removeprefix("http://").rsplit(":", 1)
    assert host == "[::1]"
    assert addresses[2] == f"unix:{path}"
    assert is_served_at(server.port)
    assert is_served_at(("::1", int(port)))
    assert is_served_at(str(path))


def test_a_name_with_two_addresses_is_served_at_both_on_one_port(
    root: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    def both(host: str | None, port: int, **_: object) -> list[Any]:
        assert host == "two.test"
        tcp = (socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
        return [
            (socket.AF_INET, *tcp, ("127.0.0.1", port)),
            (socket.AF_INET6, *tcp, ("::1", port, 0, 0)),
            (socket.AF_INET, *tcp, ("127.0.0.1", port)),  # as getaddrinfo says it for a line repeated in /etc/hosts
        ]

    monkeypatch.setattr(socket, "getaddrinfo", both)
    server = serve(root, host="two.test")
    monkeypatch.undo()
    assert is_served_at(("127.0.0.1", server.port))
    assert is_served_at(("::1", server.port))


# --- unix sockets ---------------------------------------------------------------------------------------------


def test_a_unix_socket_is_served_and_its_file_removed_at_the_end(root: Path, path: Path) -> None:
    with Server(Config(root=root, listen=(f"unix:{path}",))) as server:
        assert server.url == f"unix:{path}"
        assert server.port == 0
        assert stat.S_ISSOCK(path.stat().st_mode)
        assert is_served_at(str(path))
    assert not path.exists()


def test_a_unix_socket_that_a_dead_server_left_is_replaced(root: Path, serve: Serve, path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    assert path.exists()
    serve(root, listen=(f"unix:{path}",))
    assert is_served_at(str(path))


def test_a_unix_socket_with_a_listener_is_refused_and_left_alone(root: Path, serve: Serve, path: Path) -> None:
    serve(root, listen=(f"unix:{path}",))
    with pytest.raises(UsageError, match="in use"), Server(Config(root=root, listen=(f"unix:{path}",))):
        pass
    assert is_served_at(str(path))


def test_a_file_where_a_unix_socket_should_be_is_refused_and_left_alone(root: Path, path: Path) -> None:
    path.write_bytes(b"precious")
    with pytest.raises(UsageError, match="no socket"), Server(Config(root=root, listen=(f"unix:{path}",))):
        pass
    assert path.read_bytes() == b"precious"


def test_a_unix_socket_in_no_directory_is_refused(root: Path, path: Path) -> None:
    address = f"unix:{path.parent / 'absent' / 'socket'}"
    with pytest.raises(UsageError, match="No such file"), Server(Config(root=root, listen=(address,))):
        pass


def test_a_name_that_another_server_was_given_meanwhile_is_left_to_it(root: Path, path: Path) -> None:
    admin = path.with_name("admin")
    settings: dict[str, Any] = {"listen": (f"unix:{path}",), "admin": f"unix:{admin}"}
    with ExitStack() as stack:
        with Server(Config(root=root, **settings)):
            for name in (path, admin):
                name.unlink()
            stack.enter_context(Server(Config(root=root, **settings)))
        assert is_served_at(str(path))
        with Client(str(admin)) as operator:
            assert operator.get("/livez").status == 200
    assert not path.exists()
    assert not admin.exists()


def test_a_name_of_a_server_that_still_loads_is_refused_and_left_alone(root: Path, path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as loading:
        loading.bind(str(path))
        with (
            pytest.raises(UsageError, match="a running program listens there"),
            Server(Config(root=root, listen=(f"unix:{path}",))),
        ):
            pass
        loading.listen()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


@pytest.mark.parametrize("flag", ["--listen", "--admin"])
def test_a_path_where_no_socket_can_be_is_one_line_that_says_why_and_what_to_do(
    root: Path, tmp_path: Path, path: Path, flag: str
) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").touch()
    with socket.socket(socket.AF_UNIX) as live:
        live.bind(str(path))
        live.listen()
        whys = {
            tmp_path / "directory": "it is a directory; name a path in it",
            tmp_path / "file": "a file is there that is no socket; remove it",
            tmp_path / "file" / "socket": "Not a directory; a part of",
            tmp_path / "none" / "socket": "make the directory",
            tmp_path / ("long" * 30): "107 bytes of path",
            path: "a running program listens there",
        }
        for where, why in whys.items():
            address = f"unix:{where}"
            given: dict[str, Any] = {"admin": address, "port": 0} if flag == "--admin" else {"listen": (address,)}
            with pytest.raises(UsageError, match=why) as refused, Server(Config(root=root, **given)):
                pass
            (line,) = str(refused.value).splitlines()
            assert flag in line or "is too long" in line
            assert line.startswith("admin: ") == (flag == "--admin") or "is too long" in line
            assert "another program has it" not in line


# --- taken addresses ------------------------------------------------------------------------------------------


def run(root: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """The command, when it is expected to end by itself."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("ZCSERVE_")}
    return subprocess.run(
        [sys.executable, "-m", "zcserve", "--root", str(root), *flags],
        env=environ | {"PYTHONPATH": str(Path(zcserve.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_port_that_is_taken_is_one_line_and_exit_code_2(root: Path, serve: Serve) -> None:
    server = serve(root)
    ended = run(root, "--port", str(server.port))
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert len(ended.stderr.splitlines()) == 1
    assert f"127.0.0.1:{server.port}" in ended.stderr
    assert is_served_at(server.port)


def test_an_address_that_is_not_ours_is_one_line_and_exit_code_2(root: Path) -> None:
    ended = run(root, "--host", "192.0.2.1")  # RFC 5737: no host's
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1
    assert "192.0.2.1" in ended.stderr


def test_when_one_address_is_taken_nothing_is_left_of_the_others(root: Path, serve: Serve, path: Path) -> None:
    taken = serve(root)
    with pytest.raises(UsageError, match="in use"):
        serve(root, listen=(f"unix:{path}", f"127.0.0.1:{taken.port}"))
    assert not path.exists()


def test_a_root_that_is_missing_leaves_no_socket(tmp_path: Path, serve: Serve, path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        serve(tmp_path / "absent", listen=(f"unix:{path}",))
    assert not path.exists()


def test_a_port_that_was_just_given_up_can_be_had_again(root: Path, serve: Serve) -> None:
    with Server(Config(root=root, port=0)) as first:
        port = first.port
        client = Client(port)
        assert client.get("/page").status == 200
    assert client.at_end()  # the server closed first, so its side of the connection waits out TIME_WAIT
    client.close()
    assert serve(root, port=port).port == port
    assert is_served_at(port)
