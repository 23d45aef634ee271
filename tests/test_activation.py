"""zcserve.activation: sockets that systemd passes, by a program that does as systemd, and by systemd's own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.client import Client
from tests.support.command import CHECKOUT, Command, StartCommand
from tests.support.engines import ENGINES
from tests.support.site import Site
from tests.support.upgrades import Line
from tests.support.waiting import WaitUntil
from tools.ports import free_port
from zcserve import Config
from zcserve.activation import UNNAMED, listening, passed
from zcserve.errors import UsageError
from zcserve.upgrade import LENT

WITHIN_S = 20.0
# Becomes another program that has descriptors as from 3 on: argv is their numbers, their names, the program.
PASS = """
import os, sys
fds = [os.dup(int(fd)) for fd in sys.argv[1].split(",")]
high = [os.dup2(fd, 100 + at) for at, fd in enumerate(fds)]
for at, fd in enumerate(high):
    os.dup2(fd, 3 + at)
os.closerange(3 + len(fds), 200)
given = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(fds)), "LISTEN_FDNAMES": sys.argv[2]}
os.execve(sys.argv[3], sys.argv[3:], os.environ | given)
"""


class Sockets:
    """What systemd has: a TCP socket "web", a unix socket "local", and perhaps one for the operator."""

    def __init__(self, folder: Path, *, admin: bool = False) -> None:
        self.paths = [str(folder / name) for name in ("local", *(["admin"] if admin else []))]
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.tcp.getsockname()[1]
        self.all = [self.tcp]
        for path in self.paths:
            sock = socket.socket(socket.AF_UNIX)
            sock.bind(path)
            sock.listen(8)
            self.all.append(sock)
        self.names = ":".join(["web", *(Path(path).name for path in self.paths)])

    def before(self) -> tuple[str, ...]:
        fds = ",".join(str(sock.fileno()) for sock in self.all)
        return (sys.executable, "-c", PASS, fds, self.names)

    def fds(self) -> tuple[int, ...]:
        return tuple(sock.fileno() for sock in self.all)


@pytest.fixture
def sockets(tmp_path: Path) -> Iterator[Callable[..., Sockets]]:
    with ExitStack() as stack:

        def make(**given: bool) -> Sockets:
            made = Sockets(tmp_path, **given)
            for sock in made.all:
                stack.enter_context(sock)
            return made

        yield make


def ask(where: int | str, target: str = "/page", sock: socket.socket | None = None) -> bytes:
    """A whole answer."""
    if sock is None:
        sock = connected(where)
    with sock:
        sock.sendall(b"GET %s HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n" % target.encode())
        return b"".join(iter(lambda: sock.recv(1 << 16), b""))


def connected(where: int | str) -> socket.socket:
    sock = socket.socket(socket.AF_INET if isinstance(where, int) else socket.AF_UNIX)
    sock.settimeout(WITHIN_S)
    sock.connect(("127.0.0.1", where) if isinstance(where, int) else where)
    return sock


# --- what is passed ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"LISTEN_FDS": "1"},
        {"LISTEN_FDS": "1", "LISTEN_PID": "1"},
        {"LISTEN_FDS": "x", "LISTEN_PID": str(os.getpid())},
    ],
)
def test_what_is_passed_to_another_process_is_left_alone(environ: dict[str, str]) -> None:
    environ[LENT] = json.dumps({9: "of the process that has started this one"})
    assert not passed(environ).has_lent
    assert environ == {}


def test_without_an_address_all_are_listened_on_and_the_default_is_not(tmp_path: Path, site: Site) -> None:
    """In a process of its own: the descriptors begin with 3."""
    program = (
        "import os; from zcserve import Config; from zcserve.activation import *; from zcserve.upgrade import LENT\n"
        "given = passed(os.environ)\n"
        "for sock, port in listening(Config(root='.'), given):\n"
        "    print(sock.fileno(), port, given.name_of(sock), os.get_inheritable(sock.fileno()))\n"
        "print(os.environ[LENT], 'LISTEN_FDS' in os.environ)"
    )
    one = Sockets(tmp_path)
    ended = subprocess.run(
        [*one.before(), sys.executable, "-c", program],
        cwd=CHECKOUT, pass_fds=one.fds(), capture_output=True, text=True, timeout=WITHIN_S, check=True,
    )  # fmt: skip
    for sock in one.all:
        sock.close()
    assert ended.stdout.splitlines() == [
        "3 0 web False", "4 0 local False", '{"3": "web", "4": "local"} False'
    ]  # fmt: skip


def test_nothing_passed_is_named_by_nothing(site: Site) -> None:
    with pytest.raises(UsageError, match="cannot listen on fd: systemd passed no such socket; passed: none"):
        list(listening(Config(root=site.root, listen=("fd",)), passed({})))
    assert UNNAMED == "unknown"  # sd_listen_fds_with_names(3)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--listen", "fd:other"), "cannot listen on fd:other: systemd passed no such socket; passed: fd:local fd:web"),
        (("--listen", "fd:web"), "which is not listened on: name it by --listen unix:"),
        (("--admin", "fd:other", "--port", "8080"), "cannot listen on fd:other"),
    ],
)
def test_what_does_not_fit_is_told_in_one_line(
    site: Site, sockets: Callable[..., Sockets], flags: tuple[str, ...], said: str
) -> None:
    one = sockets()
    ended = subprocess.run(
        [*one.before(), sys.executable, "-m", "zcserve", "--root", str(site.root), *flags],
        cwd=CHECKOUT, pass_fds=one.fds(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1
    assert said in ended.stderr


def test_a_socket_of_another_kind_is_refused(site: Site) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        ended = subprocess.run(
            [sys.executable, "-c", PASS, str(sock.fileno()), "web", sys.executable, "-m", "zcserve", str(site.root)],
            cwd=CHECKOUT, pass_fds=(sock.fileno(),), capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert ended.returncode == 2
    assert "descriptor 3 (web), which systemd passed, is no listening stream socket" in ended.stderr


# --- a server ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_they_are_answered_and_outlive_the_server_and_those_after_it(
    site: Site, command: StartCommand, sockets: Callable[..., Sockets], wait_until: WaitUntil, engine: str
) -> None:
    site.write("page", b"a page")
    one = sockets()
    flags = ("--engine", engine, "--listen", "fd")
    first = command(site.root, *flags, before=one.before(), pass_fds=one.fds())
    line = Line(first, wait_until)
    where: tuple[int | str, ...] = (one.port, *one.paths)
    try:
        for _ in range(2):
            assert all(ask(one).endswith(b"\r\n\r\na page") for one in where)
            line.await_end(line.upgrade())
        assert all(ask(one).endswith(b"\r\n\r\na page") for one in where)
        line.signal(signal.SIGTERM)
        line.await_end(line.pid)
        assert all(os.path.exists(path) for path in one.paths)
        waiting = [connected(one) for one in where]  # until the next one begins
        command(site.root, *flags, before=one.before(), pass_fds=one.fds())
        assert all(ask("", sock=sock).endswith(b"\r\n\r\na page") for sock in waiting)
    finally:
        line.end()


def test_the_operators_is_not_listened_on_by_the_others(
    site: Site, command: StartCommand, sockets: Callable[..., Sockets], wait_until: WaitUntil
) -> None:
    site.write("page", b"a page")
    one = sockets(admin=True)
    flags = ("--port", "8080", "--admin", "fd:admin")  # the default address: none is given
    server = command(site.root, *flags, before=one.before(), pass_fds=one.fds())
    addresses = [line for line in server.lines if line.startswith("serving ")]
    assert addresses == [f"serving http://127.0.0.1:{one.port}", f"serving unix:{one.paths[0]}"]
    line = Line(server, wait_until)
    try:
        for _ in range(2):
            assert b"is_ready" in ask(one.paths[1], "/readyz")
            assert ask(one.paths[0], "/readyz").startswith(b"HTTP/1.1 404 ")
            line.await_end(line.upgrade())
        assert b"is_ready" in ask(one.paths[1], "/readyz")
        line.signal(signal.SIGTERM)
        line.await_end(line.pid)
    finally:
        line.end()
    assert all(os.path.exists(path) for path in one.paths)


@pytest.mark.peer
@pytest.mark.skipif(shutil.which("systemd-socket-activate") is None, reason="no systemd-socket-activate")
def test_systemd_passes_its_sockets(site: Site, tmp_path: Path, wait_until: WaitUntil) -> None:
    site.write("page", b"a page")
    path, port = str(tmp_path / "s"), free_port()
    activate = ("systemd-socket-activate", f"--listen={path}", f"--listen={port}", "--fdname=local:web", "-E", "PATH")
    server = Command(
        ("--root", str(site.root)), {}, tmp_path / "stdout",
        before=(*activate, "-E", f"PYTHONPATH={CHECKOUT}"),
    )  # fmt: skip
    try:
        wait_until(lambda: os.path.exists(path))
        assert ask(path).endswith(b"\r\n\r\na page")  # which starts it
        server.wait_ready()
        assert f"serving unix:{path}" in server.lines
        with Client(port) as client:
            assert client.get("/page").body == b"a page"
    finally:
        server.end()
