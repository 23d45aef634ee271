"""Deadlines, with short values: each state's, over a real socket.

What must end is waited for; what must live on is given many times the pace that its deadline asks for.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.client import Client
from tests.support.site import Serve, Site
from tests.support.waiting import WaitUntil, is_readable
from zcserve import Server

# Longer than any test may take: a deadline that is not the test's subject.
NEVER = 300
REQUEST = b"GET /page HTTP/1.1\r\nHost: test\r\n\r\n"
KEPT_S = 10  # a deadline of one second, on a busy machine: 1.6 was the longest
LARGE = 8 << 20  # more than any socket takes whose client reads nothing


def drip(client: Client, data: bytes, pause_s: float = 0.02) -> None:
    """Send byte by byte until the server says something."""
    for at in range(len(data)):
        client.send(data[at : at + 1])
        if is_readable(client.socket, pause_s):
            return
    pytest.fail(f"{len(data)} bytes went out and no deadline ended it")


@pytest.fixture
def start(site: Site, serve: Serve) -> Callable[..., Server]:
    """`start(head=0.2, ...)`: a server with these deadlines, all others far away."""
    site.write("page", b"a page")
    site.write("large", bytes(LARGE))

    def started(engine: str = "auto", lanes: int | None = None, **seconds: float) -> Server:
        deadlines = dict.fromkeys(("head", "body", "idle", "write", "linger"), NEVER) | seconds
        config: dict[str, object] = {f"{name}_timeout_s": value for name, value in deadlines.items()}
        server = serve(site.root, engine=engine, **config, **({} if lanes is None else {"lanes": lanes}))
        assert isinstance(server, Server)
        return server

    return started


def test_a_client_that_sends_nothing_is_closed_without_a_word(start: Callable[..., Server]) -> None:
    with Client(start(head=0.2).port) as client:
        assert client.at_end()


@pytest.mark.parametrize("first", [b"", REQUEST], ids=["first request", "second request"])
def test_a_head_that_comes_byte_by_byte_is_answered_408(start: Callable[..., Server], first: bytes) -> None:
    with Client(start(head=0.3).port) as client:
        if first:
            client.send(first)
            assert client.read().status == 200
        drip(client, b"GET /page HTTP/1.1\r\nHost: test\r\n" + b"X-More: and more\r\n" * 500)
        response = client.read()
        assert (response.status, response["Connection"]) == (408, b"close")
        assert client.at_end()


@pytest.mark.parametrize("engine", ["python", "native"])
def test_the_clock_of_a_head_begins_with_its_own_first_byte(start: Callable[..., Server], engine: str) -> None:
    """Requests that are cut inside a head come for longer than one head may take; each comes at once."""
    if engine == "native":
        pytest.importorskip("zcserve.net._lane")
    half = len(REQUEST) // 2
    with Client(start(head=0.5, engine=engine).port) as client:
        client.send(REQUEST[:half])
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            time.sleep(0.03)
            client.send(REQUEST[half:] + REQUEST[:half])
            assert client.read().status == 200
        drip(client, REQUEST[half:-2] + b"X-More: and more\r\n" * 500)  # the last half is never completed
        assert client.read().status == 408
        assert client.at_end()


def test_the_clock_of_the_first_head_begins_with_its_first_byte(start: Callable[..., Server]) -> None:
    """A browser connects before it knows what to ask."""
    with Client(start(head=1.5, engine="python").port) as client:
        for piece in (REQUEST[:9], REQUEST[9:]):
            time.sleep(0.8)
            client.send(piece)
        assert client.read().status == 200


@pytest.mark.parametrize(
    ("lines", "body"),
    [
        (b"Content-Length: 90000", b"x" * 80_000),
        (b"Transfer-Encoding: chunked", b"1\r\nx\r\n" * 10_000),
    ],
)
def test_a_body_that_comes_byte_by_byte_is_answered_408(
    start: Callable[..., Server], lines: bytes, body: bytes
) -> None:
    with Client(start(body=0.3).port) as client:
        client.send(b"GET /page HTTP/1.1\r\nHost: test\r\n%b\r\n\r\n" % lines)
        drip(client, body)
        response = client.read()
        assert (response.status, response["Connection"]) == (408, b"close")
        assert client.at_end()


def test_a_body_that_never_comes_is_answered_408(start: Callable[..., Server]) -> None:
    with Client(start(body=0.2).port) as client:
        client.send(b"GET /page HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\n")
        assert client.read().status == 408


def test_an_idle_connection_is_closed_without_a_word(start: Callable[..., Server]) -> None:
    with Client(start(idle=0.2).port) as client:
        assert client.get("/page").status == 200
        assert client.at_end()


def test_a_connection_in_use_outlives_every_deadline_of_a_single_request(start: Callable[..., Server]) -> None:
    with Client(start(head=1, body=1, write=1).port) as client:
        end = time.monotonic() + 2.5
        while time.monotonic() < end:
            assert client.get("/page").body == b"a page"
            is_readable(client.socket, 0.02)


def test_a_client_that_does_not_close_after_an_error_is_closed(
    start: Callable[..., Server], wait_until: WaitUntil
) -> None:
    server = start(linger=0.2)
    with Client(server.port) as client:
        client.send(b"nonsense\r\n\r\n")
        assert client.read().status == 400
        wait_until(lambda: server.service.count() == 0)


def until_it_is_reset(port: int) -> float:
    """Say that this is the last request, and go on sending, faster than a server reads: how many seconds that goes
    well."""
    with Client(port) as client, open(os.memfd_create("zeros"), "r+b") as zeros:
        zeros.truncate(LARGE)
        client.send(REQUEST[:-2] + b"Connection: close\r\n\r\nand more")
        assert client.read_to_end()
        client.socket.settimeout(None)  # so that one call sends all of it
        start = time.monotonic()
        with contextlib.suppress(OSError):
            while time.monotonic() < start + KEPT_S:
                os.sendfile(client.socket.fileno(), zeros.fileno(), 0, LARGE)
        return time.monotonic() - start


@pytest.mark.parametrize(("engine", "lanes"), [("python", 1), ("native", 2)])
def test_clients_that_never_stop_sending_behind_their_last_answers_are_closed(
    start: Callable[..., Server], engine: str, lanes: int
) -> None:
    port = start(engine, lanes, linger=1).port
    with ThreadPoolExecutor() as pool:
        assert max(pool.map(until_it_is_reset, [port] * 4)) < KEPT_S


# --- slow readers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("talks", [False, True], ids=["silent", "sending"])
def test_a_client_that_reads_nothing_is_closed(
    start: Callable[..., Server], wait_until: WaitUntil, engine: str, talks: bool
) -> None:
    server = start(engine, write=0.3)
    with Client(server.port, receive_buffer=2048) as client:
        client.send(b"GET /large HTTP/1.1\r\nHost: test\r\n\r\n")
        assert client.has_bytes(20)

        def is_closed() -> bool:
            if talks:  # which is no progress
                with contextlib.suppress(OSError):
                    client.send(b"G")
            return server.service.count() == 0

        wait_until(is_closed)
        head = client.read_head()
        assert b"Content-Length: %d" % LARGE in head
        assert len(client.read_to_end()) < LARGE


def test_a_slow_reader_that_reads_gets_everything(site: Site, live: Serve, tmp_path: Path) -> None:
    content = bytes(range(256)) * (LARGE // 256)
    site.write("large", content)
    path = str(tmp_path / "socket")
    server = live(site.root, listen=("127.0.0.1:0", f"unix:{path}"), write_timeout_s=1.2)
    with Client(server.port, receive_buffer=4096) as tcp, Client(path, receive_buffer=4096) as unix:
        clients = {"tcp": tcp, "unix": unix}
        for client in clients.values():
            client.send(b"GET /large HTTP/1.1\r\nHost: test\r\n\r\n")
            client.read_head()
        # Far too slow to make the server write again within a deadline, or three. A busy machine lets the client stand
        # still for half of one.
        end = time.monotonic() + 3.8
        while time.monotonic() < end:
            for client in clients.values():
                client.buffer += client.socket.recv(8192)
            time.sleep(0.02)
        assert server.service.count() == 2
        for where, client in clients.items():
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            assert client.read_exactly(LARGE) == content, where


def test_a_reader_that_stops_after_a_good_start_is_closed(
    start: Callable[..., Server], wait_until: WaitUntil, engine: str
) -> None:
    server = start(engine, write=0.3)
    with Client(server.port, receive_buffer=65536) as client:
        client.send(b"GET /large HTTP/1.1\r\nHost: test\r\n\r\n" * 2)
        assert client.read().status == 200
        wait_until(lambda: server.service.count() == 0)
        client.read_head()
        assert len(client.read_to_end()) < LARGE


# --- beside floods --------------------------------------------------------------------------------------------


def pipelines(port: int) -> None:
    with Client(port) as client:
        client.send(REQUEST * 50)
        for _ in range(50):
            client.read()


def comes_and_goes(port: int) -> None:
    for _ in range(5):
        with Client(port) as client:
            client.send(REQUEST * 3)
            client.reset()
        with Client(port) as client:
            client.send(REQUEST)


def stops_reading(port: int) -> Client:
    client = Client(port, receive_buffer=2048)
    client.send(b"GET /large HTTP/1.1\r\nHost: test\r\n\r\n" * 5)
    return client


def flood(port: int, over: threading.Event) -> None:
    """All of these at once, until it is over."""
    with contextlib.ExitStack() as stack:
        for turn in itertools.count():
            if over.is_set():
                return
            pipelines(port)
            comes_and_goes(port)
            if turn < 20:
                stack.enter_context(stops_reading(port))


@pytest.mark.parametrize(("engine", "lanes"), [("python", 1), ("native", 2)])
def test_deadlines_are_kept_beside_clients_that_flood(start: Callable[..., Server], engine: str, lanes: int) -> None:
    port = start(engine, lanes, head=0.3, idle=0.3).port
    over = threading.Event()
    with ThreadPoolExecutor() as pool, contextlib.ExitStack() as stack:
        floods = [pool.submit(flood, port, over) for _ in range(2)]
        try:
            quiet = [stack.enter_context(Client(port)) for _ in range(9)]  # of each kind some in each lane
            for idle, half, _ in zip(*[iter(quiet)] * 3, strict=True):
                assert idle.get("/page").status == 200
                half.send(REQUEST[:9])
            for half in quiet[1::3]:
                assert half.read().status == 408
            assert all(client.at_end() for client in quiet)
        finally:
            over.set()
        for one in floods:
            one.result()
