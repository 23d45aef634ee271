"""zcserve.supervisor: what systemd is told, by a real server as a process and by a loop that the test turns. Upgrades:
tests/wire/test_upgrade_live.py; variants: tests/wire/test_compress_live.py."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client
from tests.support.command import StartCommand
from tests.support.engines import ENGINES
from tests.support.site import Site
from tests.support.trees import publish
from tests.support.waiting import WaitUntil, is_readable
from zcserve import supervisor
from zcserve.net.loop import Loop
from zcserve.net.poller import Poller
from zcserve.net.timers import Deadline
from zcserve.supervisor import Supervisor, tell_supervisor

WITHIN_S = 20.0


class Systemd:
    """The other end: a datagram socket, as systemd has it."""

    def __init__(self, path: str) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind("\0" + path[1:] if path.startswith("@") else path)
        self.sock.settimeout(WITHIN_S)
        self.environ = {"NOTIFY_SOCKET": path}

    def told(self) -> list[str]:
        """What has come by now."""
        found = []
        while is_readable(self.sock):
            found.append(self.sock.recv(4096).decode())
        return found

    def until(self, pattern: str) -> list[str]:
        """What comes until one matches."""
        found = [self.sock.recv(4096).decode()]
        while not re.fullmatch(pattern, found[-1]):
            found.append(self.sock.recv(4096).decode())
        return found


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    made = Systemd(str(tmp_path / "notify"))
    yield made
    made.sock.close()


@pytest.fixture
def turn() -> Iterator[Callable[[Callable[[Loop], object], float], None]]:
    """`turn(begin, seconds)`: a loop, begun with, and turned for so long."""
    loop = Loop(Poller())

    def run(begin: Callable[[Loop], object], seconds: float) -> None:
        begin(loop)
        over = Deadline(loop.stop)
        over.at = time.monotonic() + seconds
        loop.timers.arm(over)
        loop.run()

    yield run
    loop.close()


# --- one word ---------------------------------------------------------------------------------------------------


def test_an_abstract_socket_is_told(tmp_path: Path) -> None:
    other = Systemd(f"@zcserve-test-{os.getpid()}")
    tell_supervisor("MAINPID=1", other.environ["NOTIFY_SOCKET"])
    assert other.told() == ["MAINPID=1"]
    other.sock.close()


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "/nothing/listens"}])
def test_nothing_is_told_where_no_supervisor_listens(environ: dict[str, str]) -> None:
    Supervisor(environ).ready()
    assert not os.path.exists("/nothing/listens")


def test_a_supervisor_that_does_not_read_is_not_waited_for(systemd: Systemd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "LOADING_TOLD_S", 0.0)
    one = Supervisor(systemd.environ)
    for number in range(5000):  # its queue has some hundred
        one.loading(number, 5000)
    assert 0 < len(systemd.told()) < 5000


# --- in order ---------------------------------------------------------------------------------------------------


def test_progress_is_told_now_and_then_and_asks_for_time_until_it_is_ready(systemd: Systemd) -> None:
    one = Supervisor(systemd.environ)
    for done in range(100):
        one.loading(done, 100)
    one.ready()
    one.loading(100, 100)  # a reload's
    assert systemd.told() == ["EXTEND_TIMEOUT_USEC=30000000\nSTATUS=loading: 0 of 100 files", "READY=1"]


@pytest.mark.parametrize(
    ("environ", "takes_over", "hears"),
    [
        ({"WATCHDOG_USEC": "300000", "WATCHDOG_PID": str(os.getpid())}, False, True),
        ({"WATCHDOG_USEC": "300000"}, False, True),
        ({"WATCHDOG_USEC": "300000", "WATCHDOG_PID": "1"}, False, False),  # meant for the shell around it
        ({"WATCHDOG_USEC": "300000", "WATCHDOG_PID": "1"}, True, True),  # for the process before it
        ({"WATCHDOG_USEC": "soon"}, False, False),
        ({}, False, False),
    ],
)
def test_a_loop_that_turns_says_so_in_half_of_the_watchdogs_time(
    systemd: Systemd, turn: Callable[..., None], environ: dict[str, str], takes_over: bool, hears: bool
) -> None:
    one = Supervisor(systemd.environ | environ, takes_over=takes_over)
    turn(lambda loop: one.follow(loop, lambda: "fine"), 0.5 if hears else 0.0)
    told = systemd.told()
    assert "STATUS=fine" in told
    assert (told.count("WATCHDOG=1") >= 2) == hears


def test_a_loop_that_stands_still_says_nothing(systemd: Systemd, turn: Callable[..., None]) -> None:
    one = Supervisor(systemd.environ | {"WATCHDOG_USEC": "20000"})
    turn(lambda loop: one.follow(loop, str), 0.1)
    systemd.told()
    time.sleep(0.1)  # five times the watchdog's time
    assert systemd.told() == []


def test_a_process_that_has_handed_over_says_nothing_more(systemd: Systemd) -> None:
    one = Supervisor(systemd.environ | {"WATCHDOG_USEC": "1000000"})
    one.hand_over(123)
    one.stopping()
    one.reloading()
    assert systemd.told() == ["MAINPID=123\nWATCHDOG=1"]


def test_of_several_reloads_the_last_one_that_is_over_is_told(systemd: Systemd) -> None:
    one = Supervisor(systemd.environ)
    first, second = one.reloading(), one.reloading()
    second("")
    assert [told.partition("=")[0] for told in systemd.told()] == ["RELOADING"] * 2
    first("it failed")
    first("it failed")
    assert systemd.told() == ["READY=1\nSTATUS="]
    third = one.reloading()
    one.stopping()
    third("")
    assert [told.partition("=")[0] for told in systemd.told()] == ["RELOADING", "STOPPING"]


# --- a server ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_a_server_tells_of_its_start_its_reloads_and_its_end(
    site: Site, command: StartCommand, wait_until: WaitUntil, systemd: Systemd, engine: str
) -> None:
    site.write("page", b"a page")
    began = time.monotonic_ns() // 1000
    environ: dict[str, Any] = systemd.environ | {"WATCHDOG_USEC": "1000000"}
    server = command(site.root, "--engine", engine, environ=environ)
    systemd.until("READY=1")
    systemd.until("STATUS=serving: 1 file or variant in memory")
    systemd.until("WATCHDOG=1")
    publish(site.root / "more", b"more")
    wait_until(lambda: any("1 added" in line or "more" in line for line in server.lines))
    os.kill(server.pid, signal.SIGHUP)
    reloading = systemd.until(r"RELOADING=1\nMONOTONIC_USEC=\d+")[-1]
    assert began < int(reloading.rpartition("=")[2]) < time.monotonic_ns() // 1000
    systemd.until(r"READY=1\nSTATUS=serving: 2 files and variants in memory")
    wait_until(lambda: any("reloaded: 2 files" in line for line in server.lines))
    site.root.rename(site.root.with_name("gone"))
    os.kill(server.pid, signal.SIGHUP)
    systemd.until(r"READY=1\nSTATUS=serving: 2 files .*; the last reload failed, and is tried again")
    os.kill(server.pid, signal.SIGTERM)
    systemd.until(r"STOPPING=1\nSTATUS=stopping: .*")
    assert server.wait() == 0


@pytest.mark.parametrize("engine", ENGINES)
def test_a_reload_is_over_when_the_sites_of_the_configuration_are_served(
    command: StartCommand, wait_until: WaitUntil, systemd: Systemd, tmp_path: Path, engine: str
) -> None:
    """The file is a FIFO: it is read when the test writes it, long after the content was reloaded."""
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "page").write_text(name)
    text = f'[sites.b]\nroot = "{tmp_path / "b"}"\nhosts = "b.example"\n'
    file = tmp_path / "web.toml"
    file.write_text("")
    server = command(tmp_path / "a", "--config", str(file), "--engine", engine, environ=systemd.environ)
    systemd.until("READY=1")
    file.unlink()
    os.mkfifo(file)
    for written, told in (text, ""), (text + "rot = 1", "unknown key 'rot'"):
        server.lines.clear()
        os.kill(server.pid, signal.SIGHUP)
        systemd.until(r"RELOADING=1\n.*")
        wait_until(lambda: any("reloaded: 1 file" in line for line in server.lines))
        assert not [word for word in systemd.told() if "READY" in word]
        file.write_text(written)
        ready = systemd.until(r"READY=1\n.*")[-1]
        assert ("; the sites are not as configured: " in ready) == bool(told)
        assert told in ready
        with Client(server.port) as client:
            for host, page in (b"other.example", b"a"), (b"b.example", b"b"):
                client.send(b"GET /page HTTP/1.1\r\nHost: %s\r\n\r\n" % host)
                assert client.read().body == page
