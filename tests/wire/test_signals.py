"""Signals, each sent to a real process: graceful ends, cut ends, reloads under load, rotated logs."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.client import Client
from tests.support.command import StartCommand
from tests.support.site import Site
from tests.support.waiting import WaitUntil

LARGE = 8 << 20  # more than any socket takes whose client reads nothing
CONTENT = bytes(range(256)) * (LARGE // 256)


@pytest.fixture
def root(site: Site) -> Path:
    """A page, and a file that a client can take its time with."""
    site.write("page", b"a page")
    site.write("large", CONTENT)
    assert isinstance(site.root, Path)
    return site.root


def begin(port: int) -> Client:
    """A client whose answer is under way: of /large it has read the head."""
    client = Client(port, receive_buffer=4096)
    client.send(b"GET /large HTTP/1.1\r\nHost: test\r\n\r\n")
    client.read_head()
    return client


def refuses(port: int) -> bool:
    """Whether nothing listens there any more."""
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) != 0


# --- the end --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_end_signal_lets_what_is_in_flight_finish(
    root: Path, command: StartCommand, wait_until: WaitUntil, number: int
) -> None:
    server = command(root)
    with Client(server.port) as idle, Client(server.port) as half, begin(server.port) as slow:
        assert idle.get("/page").status == 200
        half.send(b"GET /page HTTP/1.1\r\nHo")
        with Client(server.port) as last:  # whose answer says that the half request is in
            assert last.get("/page").status == 200
        os.kill(server.pid, number)
        assert idle.at_end()
        wait_until(lambda: refuses(server.port))
        half.send(b"st: test\r\n\r\n")
        response = half.read()
        assert (response.body, response["Connection"]) == (b"a page", b"close")
        assert half.at_end()
        assert server.process.poll() is None
        assert slow.read_exactly(LARGE) == CONTENT
        assert server.wait() == 0


def test_an_end_signal_ends_a_server_that_owes_nothing(root: Path, command: StartCommand) -> None:
    server = command(root)
    with Client(server.port) as idle:
        assert idle.get("/page").status == 200
        os.kill(server.pid, signal.SIGTERM)
        assert server.wait() == 0
        assert idle.at_end()


def test_what_is_not_finished_when_grace_is_over_is_cut(root: Path, command: StartCommand) -> None:
    server = command(root, "--grace", "200ms")
    with begin(server.port) as slow:
        os.kill(server.pid, signal.SIGTERM)
        assert server.wait() == 0
        assert len(slow.read_to_end()) < LARGE


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_end_signal_ends_at_once(
    root: Path, command: StartCommand, wait_until: WaitUntil, number: int
) -> None:
    server = command(root, "--grace", "1h")
    with begin(server.port) as slow:
        os.kill(server.pid, signal.SIGTERM)
        wait_until(lambda: refuses(server.port))
        os.kill(server.pid, number)
        assert server.wait() == 128 + number
        assert len(slow.read_to_end()) < LARGE


# --- reload ---------------------------------------------------------------------------------------------------


def test_reloads_under_load_fail_no_request_and_drop_no_connection(
    root: Path, site: Site, command: StartCommand, wait_until: WaitUntil
) -> None:
    versions = [b"version %d " % number * 500 for number in range(6)]
    site.write("versioned", versions[0])
    server = command(root, "--memory", "8M")  # /large stays out
    ended = threading.Event()
    faults: list[str] = []
    counts = [0] * 4

    def load(which: int) -> None:
        try:
            with Client(server.port) as client:  # one connection for all of it
                while not ended.is_set():
                    versioned = client.get("/versioned")
                    if versioned.status != 200 or versioned.body not in versions:
                        faults.append(f"{versioned.status}, {versioned.body[:20]!r}")
                    if client.get("/page").body != b"a page" or client.get("/large").body != CONTENT:
                        faults.append("another body")
                    counts[which] += 1
        except Exception as error:
            faults.append(repr(error))

    threads = [threading.Thread(target=load, args=(which,)) for which in range(len(counts))]
    for thread in threads:
        thread.start()
    try:
        for done, version in enumerate(versions[1:], 1):
            before = min(counts)
            wait_until(lambda before=before: min(counts) > before or faults)
            site.write("fresh", version).rename(root / "versioned")
            os.kill(server.pid, signal.SIGHUP)
            wait_until(lambda done=done: sum("reloaded: " in line for line in server.lines) == done)
            with Client(server.port) as client:
                assert client.get("/versioned").body == version
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert not faults
    assert server.process.poll() is None


def test_a_root_that_cannot_be_read_at_sighup_leaves_the_old_content(
    root: Path, command: StartCommand, wait_until: WaitUntil, unprivileged: Callable[[], None]
) -> None:
    server = command(root, preexec_fn=unprivileged)
    with Client(server.port) as client:
        root.chmod(0)
        try:
            os.kill(server.pid, signal.SIGHUP)
            failed = wait_until(lambda: [line for line in server.lines if "reload failed" in line])
        finally:
            root.chmod(0o755)
        assert str(root) in failed[0]  # the watcher may have seen it, too, and have failed besides
        assert "Permission denied" in failed[0]
        assert client.get("/page").body == b"a page"
        os.kill(server.pid, signal.SIGHUP)
        wait_until(lambda: [line for line in server.lines if "reloaded: " in line])
        assert client.get("/page").body == b"a page"


@pytest.fixture
def unprivileged() -> Callable[[], None]:
    """A `preexec_fn` after which file modes count for root, too: exec gives no capability that is not in the bounding
    set (capabilities(7))."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    drop, override, search = 24, 1, 2  # PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH

    def preexec() -> None:
        if os.geteuid() == 0 and (libc.prctl(drop, override, 0, 0, 0) or libc.prctl(drop, search, 0, 0, 0)):
            raise OSError(ctypes.get_errno(), "root cannot be made to respect file modes here")

    return preexec


# --- access log -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lanes", [1, 2])
def test_sigusr1_reopens_a_rotated_access_log(
    root: Path, command: StartCommand, wait_until: WaitUntil, tmp_path: Path, lanes: int
) -> None:
    """Lines of what was answered before it stand in the old file, whichever lane has answered."""
    if lanes > 1:
        pytest.importorskip("zcserve.net._lane")
    path, rotated = tmp_path / "access.log", tmp_path / "access.log.1"
    server = command(root, "--access-log", str(path), "--lanes", str(lanes))

    def ask(clients: list[Client], word: str) -> None:
        for client in clients:
            assert client.get(f"/page?{word}").status == 200

    with ExitStack() as stack:
        ask([stack.enter_context(Client(server.port))] * 10, "known")
        clients = [stack.enter_context(Client(server.port)) for _ in range(4)]
        ask(clients, "first")
        wait_until(lambda: path.read_text().count("first") == 4)
        path.rename(rotated)
        ask(clients, "second")
        os.kill(server.pid, signal.SIGUSR1)
        wait_until(path.exists)
        ask(clients, "third")
        wait_until(lambda: path.read_text().count("third") == 4)
    assert re.findall("first|second|third", rotated.read_text()) == ["first"] * 4 + ["second"] * 4
    assert re.findall("first|second|third", path.read_text()) == ["third"] * 4


def test_sigusr1_without_an_access_log_changes_nothing(root: Path, command: StartCommand) -> None:
    server = command(root)
    os.kill(server.pid, signal.SIGUSR1)
    with Client(server.port) as client:
        assert client.get("/page").body == b"a page"


ASKED = [b'/page?"quoted"', b"/absent", b"/page"]


def _ask(port: int) -> None:
    with Client(port) as client:
        for target in ASKED[:2]:
            client.get(target, 'User-Agent: a "test" \xe9', "Referer: http://test/")
        client.get(ASKED[2], method="HEAD")
        client.send(b"nonsense\r\n\r\n")
        client.read()


def test_the_access_log_in_combined_format(root: Path, command: StartCommand) -> None:
    server = command(root, "--access-log", "-")
    _ask(server.port)
    os.kill(server.pid, signal.SIGTERM)
    assert server.wait() == 0
    lines = server.stdout.read_text().splitlines()
    stamps = [re.sub(r"\[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000\]", "[TIME]", line) for line in lines]
    agent = r'"http://test/" "a \x22test\x22 \xc3\xa9"'
    length = next(int(line.split('" 404 ')[1].split()[0]) for line in lines if '" 404 ' in line)
    assert length > 0
    assert stamps[:3] == [
        rf'127.0.0.1 - - [TIME] "GET /page?\x22quoted\x22 HTTP/1.1" 200 6 {agent}',
        rf'127.0.0.1 - - [TIME] "GET /absent HTTP/1.1" 404 {length} {agent}',
        '127.0.0.1 - - [TIME] "HEAD /page HTTP/1.1" 200 0 "-" "-"',
    ]
    assert re.fullmatch(r'127\.0\.0\.1 - - \[TIME\] "-" 400 \d+ "-" "-"', stamps[3])
    assert len(stamps) == 4


def test_the_access_log_in_json(root: Path, command: StartCommand) -> None:
    server = command(root, "--access-log", "-", "--access-log-format", "json")
    _ask(server.port)
    os.kill(server.pid, signal.SIGTERM)
    assert server.wait() == 0
    records = [json.loads(line) for line in server.stdout.read_text().splitlines()]
    assert [(one["method"], one["target"], one["status"]) for one in records] == [
        ("GET", '/page?"quoted"', 200),
        ("GET", "/absent", 404),
        ("HEAD", "/page", 200),
        ("", "", 400),
    ]
    first = records[0]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", first.pop("time"))
    assert first == {
        "peer": "127.0.0.1",
        "method": "GET",
        "target": '/page?"quoted"',
        "version": "HTTP/1.1",
        "status": 200,
        "bytes": 6,
        "referer": "http://test/",
        "user_agent": 'a "test" \xe9',
    }


def test_an_access_log_that_cannot_be_written_costs_no_answer(
    root: Path, command: StartCommand, wait_until: WaitUntil
) -> None:
    server = command(root, "--access-log", "/dev/full")
    with Client(server.port) as client:
        for _ in range(3):
            assert client.get("/page").body == b"a page"
        wait_until(lambda: [line for line in server.lines if "No space left on device" in line])
        assert client.get("/page").body == b"a page"
    os.kill(server.pid, signal.SIGTERM)
    assert server.wait() == 0
