"""Requests that another lane cannot answer: the first one is asked, and the connection stays where it is."""

from __future__ import annotations

import random
import secrets
import select
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.elsewhere import are_elsewhere, descriptors_by_client, elsewhere
from tests.support.engines import Engines, make_site, tags_of
from tests.support.grammar import Maker
from tests.support.mixed import MIXED, TARGETS, compare_all
from tests.support.site import Serve, Site
from tests.support.stage import EDIT, EVENTS, JOURNAL, StageClient, write_editor, write_servlets
from tests.support.waiting import WaitUntil
from zcserve import Config, Server
from zcserve.net.framing import frame
from zcserve.site import reply

pytest.importorskip("zcserve.net._lane")

STREAMS = 150
# Of the questions of a lane as many may be of new clients.
PRESSING_MAX = 768

APPLICATION = """
@servlet("/hello")
def hello(request):
    JOURNAL.append("hello")
    return b"Hello, world!"

@servlet("/held/{name}")
def held(request, name):
    JOURNAL.append(name)
    EVENTS["held"].wait(WAIT_S)
    return b"held " + name.encode()

class Pieces:
    def __init__(self):
        self.left = iter(["one", "two"])

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.left)

    def close(self):
        JOURNAL.append("closed")

@servlet("/pieces")
def in_pieces(request):
    JOURNAL.append("called")
    EVENTS["pieces"].wait(WAIT_S)
    return Pieces()

def post(request):
    return request.body
"""

Start = Callable[..., Server]


@pytest.fixture
def start(site: Site, serve: Serve, tmp_path: Path) -> Start:
    """A server with two lanes."""
    site.write("file", b"file")
    folder = write_servlets(tmp_path, main=APPLICATION)
    return lambda **config: serve(
        site.root, **{"servlets": str(folder), "engine": "native", "lanes": 2, "servlet_slow_s": 60.0} | config
    )


def get(target: str, *lines: str) -> bytes:
    return "\r\n".join([f"GET {target} HTTP/1.1", "Host: test", *lines, "", ""]).encode()


def abort(client: StageClient) -> None:
    """End its connection with a reset."""
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


# --- as one lane ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lanes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    """Three lanes, and one, in the place of two engines."""
    root = tmp_path_factory.mktemp("site")
    make_site(root)
    folder = write_servlets(tmp_path_factory.mktemp("code"), mixed=MIXED)
    config: dict[str, Any] = {
        "root": root,
        "port": 0,
        "servlets": str(folder),
        "servlet_slow_s": 60.0,
        "engine": "native",
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reply, "new_boundary", lambda: b"boundary")
        patch.setattr(secrets, "token_hex", lambda size: "0" * 2 * size)
        with Server(Config(**config, lanes=3)) as several, Server(Config(**config, lanes=1)) as one:
            yield Engines(several, one, tags_of(one.port))


@pytest.mark.parametrize("seed", range(2))
def test_streams_are_answered_as_one_lane_does(lanes: Engines, seed: int) -> None:
    rng = random.Random(600 + seed)
    maker = Maker(rng, TARGETS, lanes.tags, mischief=0.003 if seed else 0.02, sends=0.3)
    for _ in range(STREAMS):
        stream = maker.stream(1 if rng.random() < 0.3 else rng.randint(2, 12))
        compare_all(lanes, maker.pieces(stream))


def test_what_needs_python_leaves_the_connection_in_its_lane(start: Start, site: Site, wait_until: WaitUntil) -> None:
    for number in range(10):
        site.write(f"new{number}", b"new %d" % number)
    server = start()
    with elsewhere(server) as client:
        for number in range(10):
            assert client.get(f"/new{number}").body == b"new %d" % number
            assert client.get("/hello").body == b"Hello, world!"
            assert client.get("/absent").status == 404
        assert are_elsewhere(server, [client]) == [client]
        assert JOURNAL.count("hello") == 10


def test_pipelined_requests_are_answered_in_their_order_and_each_counts_once(
    start: Start, wait_until: WaitUntil
) -> None:
    server = start()
    with elsewhere(server) as client:
        lane: Any = server.loop.front.lane  # type: ignore[attr-defined]
        client.get("/file")
        wait_until(lambda: lane.requests >= 2)
        before = lane.requests
        posted = b"POST /csp?main HTTP/1.1\r\nHost: test\r\nContent-Length: 6\r\n\r\nposted"
        client.send((get("/hello") * 50 + get("/file") + posted + get("/hello")) * 3)
        for _ in range(3):
            assert [client.read().body for _ in range(53)] == [b"Hello, world!"] * 50 + [
                b"file",
                b"posted",
                b"Hello, world!",
            ]
        wait_until(lambda: lane.requests >= before + 159)
        assert lane.requests == before + 159
        assert are_elsewhere(server, [client]) == [client]


def test_what_follows_an_edit_on_its_own_connection_knows_of_it(start: Start, tmp_path: Path) -> None:
    write_editor(tmp_path / "servlets", page="@servlet('/page')\ndef page(request):\n    return b'at TEXT'\n")
    server = start()
    for number in range(3):
        with elsewhere(server) as client:
            client.send(get("/hello") + EDIT + get("/page"))
            assert [client.read().body for _ in range(3)] == [b"Hello, world!", b"%d" % number, b"at %d" % number]


# --- what the general lane must see -----------------------------------------------------------------------------------


def test_an_application_is_called_once_for_what_the_general_lane_sends(start: Start) -> None:
    server = start()
    EVENTS["pieces"].set()
    with elsewhere(server) as client:
        client.send(get("/hello") * 2 + get("/pieces") + get("/hello"))
        assert [client.read().body for _ in range(4)] == [b"Hello, world!"] * 2 + [b"onetwo", b"Hello, world!"]
        assert JOURNAL == ["hello", "hello", "called", "closed", "hello"]


def test_what_was_made_for_a_client_that_is_gone_is_discarded(start: Start, wait_until: WaitUntil) -> None:
    server = start()
    with elsewhere(server) as client, elsewhere(server) as other:
        client.send(get("/pieces"))
        wait_until(lambda: JOURNAL == ["called"])
        abort(client)
        for _ in range(2):  # turns of the other lane
            other.get("/file")
        EVENTS["pieces"].set()
        wait_until(lambda: JOURNAL == ["called", "closed"])
        assert other.get("/hello").body == b"Hello, world!"


def test_no_servlet_is_called_for_a_client_that_has_gone_meanwhile(start: Start, wait_until: WaitUntil) -> None:
    server = start()
    with elsewhere(server) as first, elsewhere(server) as second, elsewhere(server) as third:
        first.send(get("/held/first"))
        wait_until(lambda: JOURNAL == ["first"])
        second.send(get("/held/second"))
        third.get("/file")  # a turn later
        abort(second)
        third.get("/file")
        third.get("/file")
        EVENTS["held"].set()
        assert first.read().body == b"held first"
        assert third.get("/held/third").body == b"held third"
        assert JOURNAL == ["first", "third"]


# --- the log ----------------------------------------------------------------------------------------------------------


def test_each_answer_is_logged_once_in_order_and_names_the_client_that_a_proxy_names(
    start: Start, tmp_path: Path, wait_until: WaitUntil
) -> None:
    log = tmp_path / "access.log"
    server = start(access_log=str(log), proxy_headers="127.0.0.1")
    with elsewhere(server) as client:
        proxied = [get("/hello", f"X-Forwarded-For: 192.0.2.{number}") for number in range(20)]
        client.send(b"".join(request + get("/file") for request in proxied))
        assert [client.read().body for _ in range(40)] == [b"Hello, world!", b"file"] * 20
    client_lines = [f"192.0.2.{number} /hello 200 13" for number in range(20)]
    expected = [line for hello in client_lines for line in (hello, "127.0.0.1 /file 200 4")]

    def logged() -> list[str]:
        lines = [line.split(" ") for line in log.read_text().splitlines()]
        return [f"{line[0]} {line[6]} {line[8]} {line[9]}" for line in lines]

    wait_until(lambda: logged()[-40:] == expected)


# --- bounds -----------------------------------------------------------------------------------------------------------


def test_a_servlet_that_holds_python_leaves_the_hits_of_other_lanes_as_they_are(
    start: Start, wait_until: WaitUntil
) -> None:
    server = start()
    with elsewhere(server) as client, elsewhere(server) as other:
        client.send(get("/held/up"))
        wait_until(lambda: JOURNAL == ["up"])
        for _ in range(50):
            assert other.get("/file").body == b"file"
        other.send(get("/hello"))
        assert JOURNAL == ["up"]
        EVENTS["held"].set()
        assert client.read().body == b"held up"
        assert other.read().body == b"Hello, world!"


def test_a_servlet_that_holds_python_is_named_while_other_lanes_answer(
    start: Start, wait_until: WaitUntil, caplog: pytest.LogCaptureFixture
) -> None:
    server = start(servlet_slow_s=0.1)
    with elsewhere(server) as client, elsewhere(server) as other:
        EVENTS["held"].set()
        client.get("/held/up")  # by Python; from now on the lane calls it
        EVENTS["held"].clear()
        client.send(get("/held/up"))
        wait_until(lambda: JOURNAL == ["up", "up"])
        wait_until(lambda: other.get("/file").body == b"file" and "has held the loop" in caplog.text)
        EVENTS["held"].set()
        assert client.read().body == b"held up"


def test_a_lane_that_asks_too_much_says_so_itself_and_quiet_clients_may_still_ask(
    start: Start, wait_until: WaitUntil
) -> None:
    server = start(connections_max=4000)
    with ExitStack() as stack:
        holds, quiet = stack.enter_context(elsewhere(server)), stack.enter_context(elsewhere(server))
        many = 9 * PRESSING_MAX // 4  # some more than half of these are enough
        clients = [stack.enter_context(StageClient(server.port)) for _ in range(many)]
        names = {client.socket.getsockname() for client in clients}
        wait_until(lambda: names <= descriptors_by_client().keys())
        holds.send(get("/held/all"))
        wait_until(lambda: JOURNAL == ["all"])
        clients = are_elsewhere(server, clients)
        for client in clients:
            client.send(get("/hello"))
        refused = len(clients) - (PRESSING_MAX - 1)
        answered = select.poll()
        for client in clients:
            answered.register(client.socket, select.POLLIN)
        wait_until(lambda: len(answered.poll(0)) >= refused > 0)
        ready = {fd for fd, _ in answered.poll(0)}
        assert len(ready) == refused
        (head, *_), _, _ = frame(reply.unavailable(), b"GET", b"HTTP/1.1")
        for client in clients:
            if client.socket.fileno() in ready:
                said = client.read()
                assert (said.status, said["Retry-After"]) == (503, b"1")
                assert said.head.strip().endswith(bytes(head).strip())  # type: ignore[arg-type]
                assert said.body == reply.unavailable().content
        quiet.send(get("/hello"))
        EVENTS["held"].set()
        assert [client.read().status for client in (holds, quiet)] == [200, 200]
        asked = [client for client in clients if client.socket.fileno() not in ready]
        assert {client.read().body for client in asked} == {b"Hello, world!"}
        assert JOURNAL.count("hello") == PRESSING_MAX
