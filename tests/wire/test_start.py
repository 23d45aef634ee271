"""`--listen-when`: a real process whose start takes long, since it waits for variants; what it says, answers, and does
at a signal meanwhile. And what an operator is answered (`--admin`) while a server starts."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client
from tests.support.command import Command, StartCommand
from tests.support.engines import ENGINES
from tests.support.site import Site
from tests.support.upgrades import Line
from tests.support.waiting import WaitUntil
from zcserve import Config, Server
from zcserve.content.builder import Builder

WITHIN_S = 20.0
SLOW = ("--compress", "--compress-wait", "1h", "--listen-when", "start")


@pytest.fixture
def root(site: Site) -> Path:
    """Some seconds of work for the compressors."""
    words = b" ".join(b"%x" % (number * 2654435761 % 2**32) for number in range(30_000))
    for number in range(60):
        site.write(f"{number}.txt", b"%d " % number + words)
    site.write("page", b"a page")
    return site.root


@pytest.mark.parametrize("engine", ENGINES)
def test_clients_are_answered_while_it_loads_and_an_end_is_in_order(
    root: Path, command: StartCommand, engine: str
) -> None:
    server = command(root, *SLOW, "--engine", engine)
    assert any(line == "files: 61, being loaded: what is not in memory yet is read when it is asked for"
               for line in server.lines)  # fmt: skip
    with Client(server.port) as client:
        for _ in range(2):
            assert client.get("/page").body == b"a page"
            assert client.get("/7.txt").body.startswith(b"7 ")
        assert not any(" INFO loaded: " in line for line in server.lines)
        os.kill(server.pid, signal.SIGTERM)
        assert client.at_end()
    assert server.wait() == 0


def test_a_process_that_takes_over_has_all_loaded_before_it_serves(
    site: Site, command: StartCommand, wait_until: WaitUntil
) -> None:
    for number in range(20):
        site.write(f"{number}", b"%d" % number)
    line = Line(command(site.root, "--listen-when", "start"), wait_until)
    line.await_said(r"(loaded: 20 files, 20 resident)")
    site.write("more", b"more")
    try:
        line.upgrade()
        assert len(line.await_said(r"(files: 21, 21 resident)")) == 1
    finally:
        line.end()


# --- an operator's probes meanwhile -----------------------------------------------------------------------------


def ask(path: Path, target: str) -> tuple[int, dict[str, Any]]:
    """What the admin listener answers: the status, and the JSON."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(WITHIN_S)
        sock.connect(str(path))
        sock.sendall(b"GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % target.encode())
        head, _, body = b"".join(iter(lambda: sock.recv(1 << 16), b"")).partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], threading.Event]:
    """`gate(method)`: what a `Builder` does by this name waits for the event."""

    def make(name: str) -> threading.Event:
        opened, does = threading.Event(), getattr(Builder, name)

        def wait_and_do(*given: Any, **named: Any) -> Any:
            assert opened.wait(WITHIN_S)
            return does(*given, **named)

        monkeypatch.setattr(Builder, name, wait_and_do)
        return opened

    return make


@pytest.fixture(params=ENGINES)
def starting(
    site: Site, tmp_path: Path, request: pytest.FixtureRequest, gate: Callable[[str], threading.Event]
) -> Iterator[Callable[..., tuple[Server, threading.Event]]]:
    """`starting(method, **config)`: a server that starts in a thread, until the gate is opened, and the gate."""
    site.write("page", b"a page")
    with ExitStack() as stack:

        def start(method: str, **config: Any) -> tuple[Server, threading.Event]:
            opened = gate(method)
            admin = f"unix:{tmp_path / 'admin'}"
            server = Server(Config(root=site.root, port=0, engine=request.param, admin=admin, **config))
            thread = threading.Thread(target=server.__enter__, daemon=True)
            thread.start()

            def end() -> None:
                opened.set()
                thread.join(WITHIN_S)
                server.__exit__(None, None, None)

            stack.callback(end)
            return server, opened

        yield start


def test_an_operator_is_answered_before_the_content_is_loaded_and_clients_are_not(
    starting: Callable[..., tuple[Server, threading.Event]], tmp_path: Path, wait_until: WaitUntil
) -> None:
    server, gate = starting("build")
    wait_until((tmp_path / "admin").exists)
    wait_until(lambda: answers(tmp_path / "admin"))
    assert ask(tmp_path / "admin", "/readyz") == (503, {"is_ready": False, "phase": "starting"})
    with pytest.raises(ConnectionRefusedError):
        Client(server.port)
    gate.set()
    wait_until(lambda: ask(tmp_path / "admin", "/readyz")[0] == 200)
    with Client(server.port) as client:
        assert client.get("/page").body == b"a page"


def test_a_node_that_answers_from_the_start_is_ready_when_all_is_loaded(
    starting: Callable[..., tuple[Server, threading.Event]], tmp_path: Path, wait_until: WaitUntil
) -> None:
    server, gate = starting("fill", listen_when="start")
    wait_until(lambda: server.is_serving)
    with Client(server.port) as client:
        assert client.get("/page").body == b"a page"
    status, told = ask(tmp_path / "admin", "/readyz")
    assert (status, told["is_ready"], told["phase"]) == (503, False, "warming")
    gate.set()
    wait_until(lambda: ask(tmp_path / "admin", "/readyz")[0] == 200)


def test_an_end_signal_ends_a_start_at_once_though_it_answers_an_operator(
    root: Path, tmp_path: Path, wait_until: WaitUntil
) -> None:
    flags = ("--root", str(root), "--port", "0", "--admin", f"unix:{tmp_path / 'admin'}")
    server = Command((*flags, *SLOW[:-2]), {}, tmp_path / "stdout")
    try:
        wait_until((tmp_path / "admin").exists)
        wait_until(lambda: answers(tmp_path / "admin"))
        os.kill(server.pid, signal.SIGTERM)
        assert server.wait() == 128 + signal.SIGTERM
        assert not any("serving" in line for line in server.lines)
    finally:
        server.end()


def answers(path: Path) -> bool:
    """Whether it listens already, and turns."""
    try:
        return ask(path, "/livez")[0] == 200
    except ConnectionRefusedError:
        return False
