"""Servers of several lanes: which lane takes a client, how many there may be, which make room, and how all end."""

from __future__ import annotations

import gc
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.support.begun import Begun
from tests.support.client import Client
from tests.support.command import StartCommand
from tests.support.site import Serve, Site
from tests.support.stage import write_servlets
from tests.support.waiting import WaitUntil, is_readable
from tools.bench import placed
from zcserve import Config, Server
from zcserve.net.fastlane import FastLane

pytest.importorskip("zcserve.net._lane")

LARGE = bytes(range(256)) * (1 << 15)  # more than sockets take of which nothing is read
GET_PAGE = b"GET /page HTTP/1.1\r\nHost: test\r\n\r\n"
GET_LARGE = b"GET /large HTTP/1.1\r\nHost: test\r\n\r\n"
FORK = """
import os, time

@servlet("/fork")
def fork(request):
    child = os.fork()
    if not child:
        time.sleep(60)
        os._exit(0)
    return str(child)
"""


@pytest.fixture
def root(site: Site) -> Path:
    site.write("page", b"a page")
    site.write("large", LARGE)
    return site.root


def lane_of(server: Server) -> FastLane:
    front = server.loop.front
    assert isinstance(front, FastLane)
    return front


def loads_of(server: Server) -> list[int]:
    """How many connections each lane has."""
    return lane_of(server).lane.loads


def is_balanced(loads: list[int], count: int) -> bool:
    """Whether lanes have so many connections together, and none has 10% more than another, or 2."""
    return sum(loads) == count and max(loads) - min(loads) <= max(2, 0.1 * count / len(loads))


def ask(client: Client) -> Client:
    client.send(GET_PAGE)
    assert client.read().body == b"a page"
    return client


@pytest.fixture
def come(serve: Serve) -> Iterator[Callable[[Server], Client]]:
    """`come(server)`: a client that has had an answer, and stays."""
    with ExitStack() as stack:
        yield lambda server: ask(stack.enter_context(Client(server.port)))


@contextmanager
def held(server: Server) -> Iterator[None]:
    """Python holds the first lane meanwhile."""
    is_held, goes_on = threading.Event(), threading.Event()
    server.loop.call_soon(lambda: (is_held.set(), goes_on.wait(20)))
    assert is_held.wait(20)
    try:
        yield
    finally:
        goes_on.set()


Come = Callable[[Server], Client]

# --- which lane takes a client --------------------------------------------------------------------------------


@pytest.mark.parametrize(("lanes", "count"), [(2, 64), (3, 1000)])
def test_lanes_have_as_many_connections_as_each_other_also_when_most_have_gone_and_others_came(
    root: Path, serve: Serve, come: Come, wait_until: WaitUntil, lanes: int, count: int
) -> None:
    server = serve(root, lanes=lanes)
    clients = [come(server) for _ in range(count)]
    assert is_balanced(loads_of(server), count)
    for client in clients[count // 8 :]:
        client.close()
    wait_until(lambda: server.service.count() == count // 8)
    for _ in range(count - count // 8):
        come(server)
    assert is_balanced(loads_of(server), count)


def test_a_lane_that_has_lost_its_clients_gets_all_that_come(
    root: Path, serve: Serve, come: Come, wait_until: WaitUntil
) -> None:
    server = serve(root, lanes=2)
    gone = []
    for _ in range(20):  # each comes when the one before is counted
        before = loads_of(server)
        client = come(server)
        if loads_of(server)[1] > before[1]:
            gone.append(client)
    for client in gone:
        client.close()
    wait_until(lambda: loads_of(server)[1] == 0)
    for _ in range(len(gone)):
        come(server)
    assert is_balanced(loads_of(server), 20)


def test_new_clients_are_answered_while_python_holds_the_first_lane(root: Path, serve: Serve, come: Come) -> None:
    server = serve(root, lanes=2)
    while loads_of(server)[1] <= loads_of(server)[0]:  # the first lane is to have the next ones
        come(server)
    with held(server):
        before = loads_of(server)[0]
        for _ in range(12):
            come(server)
        assert loads_of(server)[0] == before


def test_a_client_that_was_handed_over_goes_back_to_the_lane_with_the_fewest(
    root: Path, serve: Serve, come: Come, wait_until: WaitUntil
) -> None:
    server = serve(root, lanes=2)
    clients = [come(server) for _ in range(12)]
    for client in clients:  # two ranges are the general lane's
        client.send(b"GET /page HTTP/1.1\r\nHost: test\r\nRange: bytes=0-1,3-4\r\n\r\n")
        assert client.read().status == 206
    wait_until(lambda: not lane_of(server).lane.foreign)
    wait_until(lambda: is_balanced(loads_of(server), 12))  # the last one may be in a letter
    for client in clients:
        ask(client)


# --- how many there may be ------------------------------------------------------------------------------------


def test_lanes_together_have_no_more_connections_than_there_may_be(
    root: Path, serve: Serve, wait_until: WaitUntil
) -> None:
    server = serve(root, lanes=3, connections_max=8)
    counts: set[int] = set()
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(server.port)) for _ in range(60)]
        for client in clients:
            client.send(GET_PAGE)
        for client in clients:
            counts.add(server.service.count())
            assert client.read().body == b"a page"
            client.close()
    assert max(counts) <= 8
    wait_until(lambda: server.service.count() == 0)


def test_the_idlest_connections_of_all_lanes_make_room(
    root: Path, serve: Serve, come: Come, wait_until: WaitUntil
) -> None:
    server = serve(root, lanes=3, connections_max=12)
    clients = [come(server) for _ in range(12)]
    ask(clients[0])  # which is not the idlest now
    assert min(loads_of(server)) > 2
    come(server)

    def went() -> list[int]:
        return [number for number, client in enumerate(clients) if is_readable(client.socket)]

    shed = server.service.shortage.shed
    wait_until(lambda: 4 < 13 - server.service.count() == len(went()) == shed.total())  # one came
    gone = went()
    assert len(gone) <= 7  # that many at most go at once, and of one turn not all are idle yet
    assert gone[0] > 0
    assert len([number for number in gone if number < 8]) > len(gone) - 3  # those of one turn are as idle as each other
    assert all(clients[number].at_end() for number in gone)


@pytest.mark.parametrize("lanes", [2, 3, 4])
def test_no_more_make_room_than_are_to_though_many_are_idle_since_the_same_turn(
    root: Path, serve: Serve, come: Come, wait_until: WaitUntil, lanes: int
) -> None:
    server = serve(root, lanes=lanes, connections_max=8)
    clients = [come(server) for _ in range(8)]
    with held(server):
        for client in clients:
            client.send(GET_PAGE)
        wait_until(lambda: sum(is_readable(client.socket) for client in clients) == sum(loads_of(server)[1:]))
        others = [client for client in clients if is_readable(client.socket)]
        for client in others:
            client.read()
    together = [client for client in clients if client not in others]
    for client in together:  # the first lane answers them in one turn
        client.read()
    older, younger = others[:4], others[4:]
    for client in younger:
        ask(client)
    come(server)
    wait_until(lambda: server.service.count() == 4)  # half of them go, and one
    assert all(client.at_end() for client in older)
    assert sum(is_readable(client.socket) for client in together) == 5 - len(older)
    for client in younger:
        ask(client)


def test_a_newcomer_waits_while_connections_of_all_lanes_are_busy(root: Path, serve: Serve, come: Come) -> None:
    server = serve(root, lanes=2, connections_max=4)
    come(server).close()
    with ExitStack() as stack:
        busy = [stack.enter_context(Client(server.port, receive_buffer=2048)) for _ in range(4)]
        for client in busy:
            client.send(GET_LARGE)
            client.read_head()
        newcomer = stack.enter_context(Client(server.port))
        newcomer.send(GET_PAGE)
        assert not is_readable(newcomer.socket, 0.2)
        busy[2].close()
        assert newcomer.read().body == b"a page"


# --- how they end ---------------------------------------------------------------------------------------------


def begin(port: int, lanes: int, stack: ExitStack) -> list[Client]:
    """Clients in all lanes whose downloads are under way."""
    with Client(port) as taught:
        assert taught.get("/large", method="HEAD").status == 200
    downloads = [stack.enter_context(Client(port, receive_buffer=1 << 16)) for _ in range(3 * lanes)]
    for client in downloads:
        client.send(GET_LARGE)
        client.read_head()
    return downloads


def test_a_server_that_ends_in_order_sends_what_all_lanes_have_begun(root: Path, command: StartCommand) -> None:
    server = command(root, "--lanes", "3")
    with ExitStack() as stack:
        downloads = begin(server.port, 3, stack)
        idle = [ask(stack.enter_context(Client(server.port))) for _ in range(6)]
        server.process.send_signal(signal.SIGTERM)
        assert all(client.at_end() for client in idle)
        for client in downloads:
            assert client.read_exactly(len(LARGE)) == LARGE
            client.close()
        assert server.wait() == 0


def ask_half(port: int, lanes: int, stack: ExitStack) -> list[Client]:
    """Clients in all lanes, each of which has sent the half of its second request."""
    halves = [ask(stack.enter_context(Client(port))) for _ in range(2 * lanes)]
    for client in halves:
        client.send(GET_PAGE + GET_PAGE[:20])
    for client in halves:
        assert client.read().body == b"a page"
    return halves


def test_what_no_lane_has_finished_when_grace_is_over_is_cut(root: Path, command: StartCommand) -> None:
    server = command(root, "--lanes", "3", "--grace", "200ms")
    with ExitStack() as stack:
        downloads, halves = begin(server.port, 3, stack), ask_half(server.port, 3, stack)
        assert min(placed.settled(server.pid, server.port, 3, len(downloads + halves)).counts) > 1
        server.process.send_signal(signal.SIGTERM)
        assert server.wait() == 0
        assert all(len(client.read_to_end()) < len(LARGE) for client in downloads)
        assert {client.read_to_end() for client in halves} == {b""}


def test_a_second_signal_waits_for_no_lane(root: Path, command: StartCommand) -> None:
    server = command(root, "--lanes", "2", "--grace", "1h")
    with ExitStack() as stack:
        downloads, halves = begin(server.port, 2, stack), ask_half(server.port, 2, stack)
        idle = [ask(stack.enter_context(Client(server.port))) for _ in range(4)]
        assert min(placed.settled(server.pid, server.port, 2, len(downloads + halves + idle)).counts) > 2
        server.process.send_signal(signal.SIGTERM)
        assert all(client.at_end() for client in idle)
        last = halves.pop()
        last.send(GET_PAGE[20:])  # what is in flight is answered still
        assert last.read()["Connection"] == b"close"
        server.process.send_signal(signal.SIGINT)
        assert server.wait() == 128 + signal.SIGINT
        assert all(len(client.read_to_end()) < len(LARGE) for client in downloads)
        assert {client.read_to_end() for client in halves} == {b""}


def test_a_server_of_several_lanes_leaves_no_thread_and_no_socket(root: Path) -> None:
    begun = Begun()
    with ExitStack() as stack:
        with Server(Config(root=root, port=0, lanes=3)) as server:
            clients = [ask(stack.enter_context(Client(server.port))) for _ in range(9)]
        assert all(client.at_end() for client in clients)
    del server
    gc.collect()
    assert not [name for name in begun.left() if "lane" in name or "event" in name or "socket" in name]


def test_a_forked_child_keeps_no_connection_and_no_port_of_any_lane(
    site: Site, root: Path, command: StartCommand, tmp_path: Path
) -> None:
    servlets = write_servlets(tmp_path, fork=FORK)
    server = command(root, "--lanes", "3", "--servlets", str(servlets), "--idle-timeout", "0.3")
    with ExitStack() as stack:
        idle = [ask(stack.enter_context(Client(server.port))) for _ in range(9)]
        with Client(server.port) as client:
            child = int(client.get("/fork").body)
        try:
            assert all(client.at_end() for client in idle)
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(10) == 0
            with pytest.raises(ConnectionRefusedError):
                Client(server.port)
        finally:
            os.kill(child, signal.SIGKILL)


def test_clients_of_all_lanes_that_go_in_the_midst_of_answers_leave_nothing(
    root: Path, serve: Serve, come: Come, wait_until: WaitUntil
) -> None:
    server = serve(root, lanes=3)
    with ExitStack() as stack:
        begin(server.port, 3, stack)
        for client in begin(server.port, 3, stack):
            client.reset()
    wait_until(lambda: server.service.count() == 0)
    assert loads_of(server) == [0, 0, 0]
    come(server)
