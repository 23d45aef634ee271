"""A file system that hangs holds nothing else up: a stopped FUSE program, with both engines.

What is in memory, and what lies on other file systems, is served as ever; the rest is answered 503 in time; the server
ends when it is told to.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client, Response
from tests.support.command import Command, StartCommand
from tests.support.engines import ENGINES
from tests.support.hanging import Hanging
from tests.support.processes import children_of
from tests.support.site import Site
from tests.support.waiting import WaitUntil

LARGE = os.urandom(3_000_000)
HUGE = LARGE * 6  # more than any socket takes whose client does not read
SMALL = os.urandom(30_000)
TIMEOUT = 0.5  # --load-timeout of these servers
SOON_S = 5 * (TIMEOUT + 0.3)


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def hanging(tmp_path: Path, command: StartCommand) -> Iterator[Hanging]:
    """Below the root of `server`, at /far/; beside it /near/ on the disk itself.

    It ends before the processes that `command` has started: until it does, one that waits for it cannot be killed."""
    (tmp_path / "site").mkdir()
    with Hanging(tmp_path / "far", tmp_path / "site" / "far") as made:
        yield made


@pytest.fixture
def server(hanging: Hanging, site: Site, command: StartCommand, engine: str, tmp_path: Path) -> Command:
    """Of /far/N.bin and /near/N.bin nothing is in memory, and /page is."""
    site.write("page", b"a page")
    (hanging.source / "near").mkdir()
    for number in range(12):
        hanging.write(f"{number}.bin", LARGE[number:])
        site.write(f"near/{number}.bin", LARGE[number:])
    hanging.write("huge", HUGE)
    site.write("near/huge", HUGE)
    flags = ("--memory", "64K", "--load-timeout", f"{TIMEOUT}s", "--connections-max", "80", "--grace", "300ms")
    return command(site.root, "--engine", engine, "--access-log", str(tmp_path / "access"), *flags)


def ask(port: int, target: str) -> Client:
    """A client that has asked for something."""
    client = Client(port)
    client.send(f"GET {target} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
    return client


def test_what_hangs_is_answered_503_in_time_and_all_else_goes_on(hanging: Hanging, server: Command) -> None:
    hanging.stop()
    with ExitStack() as stack, Client(server.port) as other:
        began = time.monotonic()
        waiting = [stack.enter_context(ask(server.port, f"/far/{number}.bin")) for number in range(12)]
        assert other.get("/page").body == b"a page"
        for number, client in enumerate(waiting):
            answer = client.read()
            assert (answer.status, answer["Retry-After"]) == (503, b"1")
            assert client.get("/page").body == b"a page"  # the connection is as good as before
            assert other.get(f"/near/{number}.bin").body == LARGE[number:]
        assert time.monotonic() - began < 4 * SOON_S
    hanging.go_on()
    with Client(server.port) as client:
        deadline = time.monotonic() + 20
        while (answer := client.get("/far/11.bin")).status == 503 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert answer.body == LARGE[11:]


def test_a_file_that_hangs_is_not_waited_for_again_and_again(hanging: Hanging, server: Command) -> None:
    """Once it is known that a file system hangs, 503 comes at once, and stopped threads are not more than a few."""
    hanging.stop()
    with ExitStack() as stack:
        waiting = [stack.enter_context(ask(server.port, f"/far/{number}.bin")) for number in range(8)]
        assert {client.read().status for client in waiting} == {503}
        time.sleep(TIMEOUT)  # so that four reads at least are too old
        with Client(server.port) as client:
            began = time.monotonic()
            for _ in range(50):
                assert client.get("/far/11.bin").status == 503
            assert time.monotonic() - began < 50 * TIMEOUT / 2
            assert client.get("/near/3.bin").body == LARGE[3:]
        assert len(os.listdir(f"/proc/{server.pid}/task")) < 20
        assert any("its file system hangs" in line for line in server.lines)


def test_clients_that_left_do_not_fill_the_server(hanging: Hanging, server: Command, wait_until: WaitUntil) -> None:
    """80 connections are allowed: 100 ask for what hangs, and leave."""
    hanging.stop()
    for number in range(100):
        ask(server.port, f"/far/{number % 12}.bin").close()
    wait_until(lambda: _page(server.port) == [b"a page"] * 20)


def _page(port: int) -> list[bytes]:
    try:
        with ExitStack() as stack:
            clients = [stack.enter_context(Client(port, timeout=1.0)) for _ in range(20)]
            return [client.get("/page").body for client in clients]
    except (OSError, EOFError):
        return []


def test_a_download_whose_file_hangs_is_cut_and_its_neighbour_is_not(
    hanging: Hanging, server: Command, wait_until: WaitUntil
) -> None:
    with Client(server.port, receive_buffer=65536) as far, Client(server.port, receive_buffer=65536) as near:
        for client, target in ((far, "/far/huge"), (near, "/near/huge")):
            client.send(f"GET {target} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
            client.read_head()
        hanging.forget("huge")
        hanging.stop()
        began = time.monotonic()
        got = far.read_to_end()
        assert len(got) < len(HUGE)
        assert HUGE.startswith(got)
        assert time.monotonic() - began < 4 * SOON_S
        cut = "GET /far/huge: the download was cut, its file made no progress within --load-timeout"
        wait_until(lambda: any(cut in line for line in server.lines))
        assert near.read_exactly(len(HUGE)) == HUGE


def test_files_that_are_sent_in_place_hold_nothing_up_either(
    hanging: Hanging, site: Site, command: StartCommand, engine: str, wait_until: WaitUntil
) -> None:
    hanging.write("file", HUGE)
    site.write("page", b"a page")
    server = command(site.root, "--engine", engine, "--load-timeout", f"{TIMEOUT}s", "--in-place")
    with Client(server.port, receive_buffer=65536) as client, Client(server.port) as other:
        assert client.get("/far/file").body == HUGE  # if the native engine could learn it, it knows it now
        assert client.get("/far/file").body == HUGE
        hanging.forget("file")
        hanging.stop()
        client.send(b"GET /far/file HTTP/1.1\r\nHost: test\r\n\r\n")
        began = time.monotonic()
        for _ in range(10):
            assert other.get("/page").body == b"a page"
        assert time.monotonic() - began < TIMEOUT
        assert is_unavailable(client.read())
        assert client.get("/page").body == b"a page"
    hanging.go_on()
    with Client(server.port) as client:
        wait_until(lambda: client.get("/far/file").body == HUGE)


def is_unavailable(answer: Response) -> bool:
    return (answer.status, answer["Retry-After"]) == (503, b"1")


def test_a_file_of_which_nothing_can_be_read_is_answered_before_its_head(
    hanging: Hanging, site: Site, command: StartCommand, engine: str, tmp_path: Path
) -> None:
    """Whole, in ranges, and behind other answers; what needs none of its content is answered as ever."""
    hanging.write("file", HUGE)
    site.write("page", b"a page")
    log = tmp_path / "access"
    flags = ("--load-timeout", f"{TIMEOUT}s", "--in-place", "--access-log", str(log))
    server = command(site.root, "--engine", engine, *flags)
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(server.port)) for _ in range(4)]
        tag = clients[0].get("/far/file")["ETag"].decode()
        hanging.forget("file")
        hanging.stop()
        asked = ("", "Range: bytes=500000-\r\n", "Range: bytes=0-9, 900000-\r\n")
        for client, fields in zip(clients, asked, strict=False):
            request = f"GET /page HTTP/1.1\r\nHost: test\r\n\r\nGET /far/file?{len(fields)} HTTP/1.1\r\nHost: test\r\n"
            client.send(f"{request}{fields}\r\n".encode())
        assert clients[3].get("/far/file", f"If-None-Match: {tag}").status == 304
        assert clients[3].get("/far/file", method="HEAD").status == 200
        for client in clients[:3]:
            assert client.read().body == b"a page"
            assert is_unavailable(client.read())
            assert client.get("/page").body == b"a page"
    server.end()
    for fields in asked:
        (line,) = [line for line in log.read_text().splitlines() if f"/far/file?{len(fields)} " in line]
        assert '" 503 ' in line


def test_sigterm_ends_within_grace_while_loaders_hang(hanging: Hanging, server: Command, tmp_path: Path) -> None:
    with Client(server.port) as client:
        assert client.get("/page").status == 200
        hanging.stop()
        with ExitStack() as stack:
            for number in range(6):
                stack.enter_context(ask(server.port, f"/far/{number}.bin"))
            client.get("/page")
            began = time.monotonic()
            os.kill(server.pid, signal.SIGTERM)
            assert server.wait() == 0
            assert time.monotonic() - began < 3.0
    assert (tmp_path / "access").read_text().count("GET /page") == 2


@pytest.mark.parametrize("how", ["a directory", "a file"])
def test_sigterm_ends_within_grace_while_the_content_is_walked(
    hanging: Hanging, site: Site, command: StartCommand, engine: str, wait_until: WaitUntil, how: str
) -> None:
    for number in range(40):
        hanging.write(f"{number}", SMALL)
    site.write("page", b"a page")
    server = command(site.root, "--engine", engine, "--grace", "300ms")
    with Client(server.port) as client:
        hanging.stop()
        if how == "a directory":
            os.kill(server.pid, signal.SIGHUP)
        else:  # a new name for what hangs: only this one is looked at
            (site.root / "link").symlink_to("far/3")
        wait_until(lambda: _stands_still(server.pid))
        assert client.get("/page").body == b"a page"
    began = time.monotonic()
    os.kill(server.pid, signal.SIGTERM)
    assert server.wait() == 0
    assert time.monotonic() - began < 3.0


def _stands_still(pid: int) -> bool:
    """Whether a thread of a process waits for FUSE."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        if "fuse" in (task / "wchan").read_text() or "request_wait_answer" in (task / "wchan").read_text():
            return True
    return False


# --- upgrades -------------------------------------------------------------------------------------------------


@pytest.fixture
def upgrading(
    hanging: Hanging,
    site: Site,
    command: StartCommand,
    engine: str,
    wait_until: WaitUntil,
    request: pytest.FixtureRequest,
) -> Iterator[tuple[Command, int]]:
    """A server that has a file in place of a file system that hangs, and the process that is to take over from it.

    No file was closed before: bindfs is asked at the first close, and its answer is for all. /proc/PID/stat and wchan
    of the new process must not be read, since they wait for it."""
    hanging.write("file", HUGE)
    site.write("page", b"a page")
    flags = ("--load-timeout", f"{TIMEOUT}s", "--grace", "300ms", "--in-place")
    server = command(site.root, "--engine", engine, *flags)
    new = 0
    try:
        with Client(server.port) as client:
            assert client.get("/page").body == b"a page"
        hanging.stop()
        os.kill(server.pid, signal.SIGUSR2)
        (new,) = wait_until(lambda: children_of(server.pid))
        yield server, new
    finally:
        hanging.go_on()
        if new:
            with suppress(ProcessLookupError):
                os.kill(new, signal.SIGKILL)


def runs(pid: int) -> bool:
    """Whether there is such a process, and it is not only waiting to be reaped."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_an_upgrade_holds_nothing_up_and_goes_on_when_the_file_system_does(
    hanging: Hanging, upgrading: tuple[Any, int], wait_until: WaitUntil
) -> None:
    server, new = upgrading
    with Client(server.port) as client:
        began = time.monotonic()
        for _ in range(20):
            assert client.get("/page").body == b"a page"
        assert time.monotonic() - began < SOON_S
    assert not [line for line in server.lines if "upgrade: " in line and "starting" not in line]
    hanging.go_on()
    wait_until(lambda: [line for line in server.lines if f"process {new} serves now" in line])
    assert server.process.wait(20) == 0
    with Client(server.port) as client:
        assert client.get("/page").body == b"a page"
        assert client.get("/far/file").body == HUGE


def test_sigterm_ends_within_grace_while_an_upgrade_hangs(
    hanging: Hanging, upgrading: tuple[Any, int], wait_until: WaitUntil
) -> None:
    server, new = upgrading
    began = time.monotonic()
    os.kill(server.pid, signal.SIGTERM)
    assert server.process.wait(20) == 0
    assert time.monotonic() - began < 3.0
    with pytest.raises(OSError, match="refused"):  # the new process has the socket still
        Client(server.port).close()
    hanging.go_on()
    wait_until(lambda: not runs(new))
    assert not [line for line in server.lines if "serves now" in line]
