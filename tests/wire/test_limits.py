"""What happens when there is no room: at the connection limit, and where descriptors run out.

Descriptors run out in a process of its own whose limit is lowered under way (prlimit), to what it has open and a few
more.
"""

from __future__ import annotations

import contextlib
import os
import resource
import time
from pathlib import Path

import pytest

from tests.support.client import Client
from tests.support.command import StartCommand
from tests.support.connections import connections_of
from tests.support.site import Serve, Site
from tests.support.waiting import WaitUntil, is_readable
from zcserve.net import states
from zcserve.net.states import FRESH_S, State

LARGE = 8 << 20  # more than any socket takes that nobody reads from
GET_LARGE = b"GET /large HTTP/1.1\r\nHost: test\r\n\r\n"
GET_PAGE = b"GET /page HTTP/1.1\r\nHost: test\r\n\r\n"


@pytest.fixture
def root(site: Site) -> Path:
    """A page, and a file that a client can take its time with."""
    site.write("page", b"a page")
    site.write("large", bytes(LARGE))
    assert isinstance(site.root, Path)
    return site.root


# --- connections ----------------------------------------------------------------------------------------------


def test_at_the_connection_limit_the_idlest_makes_room(root: Path, serve: Serve) -> None:
    server = serve(root, connections_max=4)
    clients = []
    for _ in range(4):  # each comes when the one before it is idle
        client = Client(server.port)
        assert client.get("/page").status == 200
        clients.append(client)
    with Client(server.port) as newcomer:
        assert newcomer.get("/page").status == 200
        assert clients[0].at_end()
        assert is_served(clients[3])  # half of them go, and one
    for client in clients:
        client.close()


def is_served(client: Client) -> bool:
    try:
        return bool(client.get("/page").status == 200)
    except (EOFError, ConnectionError):
        return False


@pytest.mark.parametrize("engine", ["python", "native"])
@pytest.mark.parametrize(
    "last", [b"no request at all\r\n\r\n", b"GET /page HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\nmore"]
)
def test_at_the_connection_limit_connections_that_have_ended_make_room_first(
    root: Path, serve: Serve, wait_until: WaitUntil, engine: str, last: bytes
) -> None:
    server = serve(root, connections_max=4, engine=engine, linger_timeout_s=30)
    with contextlib.ExitStack() as stack:
        idle = stack.enter_context(Client(server.port))
        assert idle.get("/page").status == 200
        for _ in range(8):  # each is answered, and does not close
            client = stack.enter_context(Client(server.port))
            client.send(last)
            client.read_to_end()
            wait_until(lambda: all(ending.has_arrived() for ending in list(server.service.endings)))
        assert idle.get("/page").status == 200


def test_at_the_connection_limit_a_newcomer_waits_while_all_are_busy(
    root: Path, serve: Serve, wait_until: WaitUntil
) -> None:
    server = serve(root, connections_max=2, engine="python")  # whose states can be looked at
    busy = [Client(server.port, receive_buffer=2048) for _ in range(2)]
    for client in busy:
        client.send(GET_LARGE)
    wait_until(lambda: [connection.clock.state for connection in connections_of(server.service)] == [State.WRITE] * 2)
    with Client(server.port) as newcomer:
        newcomer.send(GET_PAGE)
        assert not is_readable(newcomer.socket, 0.3)
        assert len(connections_of(server.service)) == 2
        busy[0].close()
        assert newcomer.read().body == b"a page"
        assert len(busy[1].read().body) == LARGE
    busy[1].close()


def test_many_more_clients_than_connections_are_all_served(root: Path, serve: Serve) -> None:
    server = serve(root, connections_max=8)
    clients = []
    for _ in range(100):
        client = Client(server.port)  # at the latest the kernel's queue takes it
        client.send(GET_PAGE)
        clients.append(client)
    for client in clients:
        assert client.read().body == b"a page"
        client.close()


# --- descriptors ----------------------------------------------------------------------------------------------


def descriptors(pid: int) -> int:
    """How many the process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def open_files(pid: int) -> set[str]:
    """What they stand for."""
    found = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
    return found


def leave(pid: int, spare: int) -> int:
    """Lower a process's limit to what it has open and `spare` more; what it had open."""
    count = descriptors(pid)
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (count + spare, hard))
    return count


def test_where_descriptors_run_out_the_idlest_connections_make_room(
    root: Path, command: StartCommand, wait_until: WaitUntil
) -> None:
    server = command(root)
    count = leave(server.pid, spare=10)
    clients = []
    for _ in range(50):
        client = Client(server.port)
        response = client.get("/page")
        assert (response.status, response.body) == (200, b"a page"), server.lines
        clients.append(client)
    assert clients[0].at_end()
    assert clients[-1].get("/page").body == b"a page"
    assert descriptors(server.pid) <= count + 10
    for client in clients:
        client.close()
    wait_until(lambda: descriptors(server.pid) == count)


def test_where_descriptors_run_out_and_all_are_busy_a_newcomer_is_told(
    root: Path, command: StartCommand, wait_until: WaitUntil
) -> None:
    server = command(root)
    count = leave(server.pid, spare=6)
    busy = [Client(server.port, receive_buffer=2048) for _ in range(6)]
    for client in busy:
        client.send(GET_LARGE)
        client.read_head()
    for _ in range(3):
        with Client(server.port) as newcomer:
            response = newcomer.read()
            assert (response.status, response["Retry-After"], response["Connection"]) == (503, b"1", b"close")
    # What it has it serves, and when there is room again it accepts again.
    assert len(busy[0].read_exactly(LARGE)) == LARGE
    with Client(server.port) as newcomer:
        assert newcomer.get("/page").body == b"a page"
    for client in busy[1:3]:
        client.reset()
    with Client(server.port) as newcomer:
        assert newcomer.get("/page").body == b"a page"
    for client in busy[3:]:
        assert len(client.read_exactly(LARGE)) == LARGE
        client.close()
    busy[0].close()
    wait_until(lambda: descriptors(server.pid) == count)


def test_where_descriptors_run_out_a_young_connection_is_spared_and_the_newcomer_waits(
    root: Path, command: StartCommand
) -> None:
    server = command(root, "--engine", "python")
    count = leave(server.pid, spare=4)
    young = []
    began = time.monotonic()
    for _ in range(4):
        client = Client(server.port)
        assert client.get("/page").body == b"a page"
        young.append(client)
    with Client(server.port) as newcomer:
        newcomer.send(GET_PAGE)
        while not is_readable(newcomer.socket, 0.05):
            if time.monotonic() < began + FRESH_S / 2:  # all are younger than that
                for client in young:
                    assert client.get("/page").body == b"a page"
        assert newcomer.read().body == b"a page"
        assert time.monotonic() - began >= FRESH_S
        assert descriptors(server.pid) <= count + 4
    for client in young:
        client.close()
    told = [line for line in server.lines if "no descriptor is left" in line]
    assert len(told) == 1  # once in a while, however many there are
    assert "new clients wait" in told[0]


def test_a_connection_that_was_not_heard_yet_is_spared_at_the_limit(root: Path, serve: Serve) -> None:
    server = serve(root, engine="python", connections_max=4)
    with contextlib.ExitStack() as clients:
        fresh = [clients.enter_context(Client(server.port)) for _ in range(3)]
        heard = clients.enter_context(Client(server.port))
        assert heard.get("/page").status == 200
        with Client(server.port) as newcomer:
            assert newcomer.get("/page").status == 200
            assert heard.at_end()  # though it was idle for the shortest time
            for client in fresh:
                assert client.get("/page").body == b"a page"


def test_a_first_request_that_is_on_its_way_is_spared_while_others_are_idle(
    root: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch, wait_until: WaitUntil
) -> None:
    monkeypatch.setattr(states, "FRESH_S", 60.0)  # however busy the machine is
    server = serve(root, engine="python", connections_max=4)
    with contextlib.ExitStack() as clients:
        begun = clients.enter_context(Client(server.port))
        begun.send(GET_PAGE[:-2])
        wait_until(lambda: any(not one.clock.is_fresh for one in connections_of(server.service)))  # it was heard
        idle = [clients.enter_context(Client(server.port)) for _ in range(3)]
        for client in idle:
            assert client.get("/page").status == 200
        with Client(server.port) as newcomer:
            assert newcomer.get("/page").status == 200
            assert idle[0].at_end()
            begun.send(GET_PAGE[-2:])
            assert begun.read().status == 200  # though nothing was heard of it for the longest time


def test_what_is_shed_and_refused_is_counted_and_told(
    root: Path, serve: Serve, caplog: pytest.LogCaptureFixture, wait_until: WaitUntil
) -> None:
    server = serve(root, connections_max=4)
    with contextlib.ExitStack() as clients:
        for _ in range(40):
            client = clients.enter_context(Client(server.port))
            assert client.get("/page").status == 200
    shortage = server.service.shortage
    assert shortage.shed.total() >= 36
    told = [record.getMessage() for record in caplog.records if "--connections-max (4) is reached" in record.message]
    assert len(told) == 1
    assert "to make room" in told[0]


def test_more_connections_than_descriptors_are_a_warning_at_the_start(root: Path, command: StartCommand) -> None:
    def lower() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))

    server = command(root, "--connections-max", "250", preexec_fn=lower)
    (told,) = [line for line in server.lines if "descriptors: " in line]
    assert "may have 256" in told
    assert "--connections-max 250" in told
    server = command(root, "--connections-max", "100", preexec_fn=lower)
    assert not [line for line in server.lines if "descriptors: " in line]


def test_a_file_that_cannot_be_opened_for_want_of_descriptors_is_asked_for_again(
    root: Path, command: StartCommand, wait_until: WaitUntil
) -> None:
    server = command(root, "--memory", "4K")
    with Client(server.port) as client:
        response = client.get("/large")
        assert (response.status, len(response.body)) == (200, LARGE)
        wait_until(lambda: str(root / "large") not in open_files(server.pid))
        leave(server.pid, spare=0)
        response = client.get("/large")
        assert (response.status, response["Retry-After"]) == (503, b"1")
        leave(server.pid, spare=10)
        response = client.get("/large")
        assert (response.status, len(response.body)) == (200, LARGE)


def in_place(site: Site, count: int) -> Path:
    """A root of files that each hold a descriptor when served `--in-place`."""
    for number in range(count):
        site.write(f"{number}", b"%05d" % number * 5000)
    root = site.root
    assert isinstance(root, Path)
    return root


def test_files_in_place_lose_their_descriptors_before_connections_do(site: Site, command: StartCommand) -> None:
    server = command(in_place(site, 30), "--in-place")
    count = leave(server.pid, spare=4)
    clients = [Client(server.port) for _ in range(20)]
    for _ in range(2):
        for client in clients:
            assert client.get("/29").body == b"00029" * 5000
    assert descriptors(server.pid) <= count + 4
    for client in clients:
        client.close()


def test_more_files_in_place_than_descriptors_are_all_served(site: Site, command: StartCommand) -> None:
    def lower() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (48, 48))

    server = command(in_place(site, 100), "--in-place", preexec_fn=lower)
    for number in range(100):
        with Client(server.port) as client:
            assert client.get(f"/{number}").body == b"%05d" % number * 5000


def test_files_in_place_make_room_for_each_other(site: Site, command: StartCommand) -> None:
    server = command(in_place(site, 30), "--in-place")
    leave(server.pid, spare=0)
    clients = [Client(server.port) for _ in range(10)]  # ten files lose theirs
    for _ in range(2):
        for number in range(30):
            assert clients[0].get(f"/{number}").body == b"%05d" % number * 5000
    for client in clients:
        client.close()
