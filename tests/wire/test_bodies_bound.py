"""Bodies of requests have one bound, die with their request, and come at a least rate; on both engines."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import StartCommand
from tests.support.connections import connections_of
from tests.support.site import Serve, Site
from tests.support.stage import EVENTS, JOURNAL, StageClient, write_servlets
from tests.support.waiting import WaitUntil, is_readable
from tools.bench.proc import memory_bytes
from zcserve import Server

NEVER = 300
SIZE = 8000
ALL = 2 * SIZE + 1000
BODY = b"x" * SIZE

SERVLETS = """
from tests.support.stage import wait_for

def post(request):
    return str(len(request.body))

@servlet("/fail", methods=["POST"])
def fail(request):
    raise KeyError("fail")

@servlet("/thread-fail", methods=["POST"], thread=True)
def thread_fail(request):
    raise KeyError("fail")

@servlet("/async-fail", methods=["POST"])
async def async_fail(request):
    raise KeyError("fail")

@servlet("/thread", methods=["POST"], thread=True)
def thread(request):
    JOURNAL.append("thread")
    wait_for("go")
    return str(len(request.body))

@servlet("/async", methods=["POST"])
async def asynchronous(request):
    JOURNAL.append("async")
    while not EVENTS["go"].is_set():
        await asyncio.sleep(0.005)
    return str(len(request.body))

@servlet("/stream", methods=["POST"])
def stream(request):
    size = len(request.body)
    JOURNAL.append("stream")
    while not EVENTS["go"].is_set():
        yield b"x" * size
    yield b"end"

@servlet("/thread-stream", methods=["POST"], thread=True)
def thread_stream(request):
    return stream(request)

@servlet("/thread-piece", methods=["POST"], thread=True)
def thread_piece(request):
    yield b"first"
    JOURNAL.append("piece")
    wait_for("go")
    yield request.body

@servlet("/async-stream", methods=["POST"])
async def async_stream(request):
    for piece in stream(request):
        yield piece
        await asyncio.sleep(0)
"""

MOUNTED = """
import asyncio
from tests.support.stage import EVENTS, JOURNAL, wait_for

def wsgi(environ, start_response):
    size = len(environ["wsgi.input"].read())
    JOURNAL.append("wsgi")
    wait_for("go")
    start_response("200 OK", [])
    return [str(size).encode()]

async def asgi(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError
    size = len((await receive())["body"])
    JOURNAL.append("asgi")
    while not EVENTS["go"].is_set():
        await asyncio.sleep(0.005)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(size).encode()})
"""


@pytest.fixture
def start(live: Serve, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Server]:
    """`start(**config)`: a server with servlets, mounted applications, and one bound for all bodies."""
    site.write("page", b"a page")
    folder = write_servlets(tmp_path, size=SERVLETS)
    (tmp_path / "mounted_here.py").write_text(MOUNTED)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "mounted_here", raising=False)

    def started(**config: Any) -> Server:
        mount = ("/wsgi=mounted_here:wsgi", "/asgi=mounted_here:asgi")
        settings = {"servlets": str(folder), "mount": mount, "servlet_bodies_max": ALL}
        return live(site.root, **settings | config)

    return started


@pytest.fixture
def no_collector() -> Iterator[None]:
    """What is given back is given back at once, and not when the garbage is collected."""
    gc.disable()
    yield
    gc.enable()


def held(server: Server) -> int:
    return server.service.bodies.held


def begin(port: int, target: str = "/csp?size", *lines: str, sent: bytes = BODY[:-1], size: int = SIZE) -> StageClient:
    """A client that has sent a head and a part of a body."""
    client = StageClient(port)
    head = ["POST " + target + " HTTP/1.1", "Host: test", f"Content-Length: {size}", *lines, "", ""]
    client.send("\r\n".join(head).encode() + sent)
    return client


# --- the bound ------------------------------------------------------------------------------------------------


def assert_refused(client: StageClient) -> None:
    response = client.read()
    assert (response.status, response["Retry-After"], response["Connection"]) == (503, b"1", b"close")
    assert client.at_end()


def test_bodies_that_together_are_too_much_are_refused_before_they_are_read(
    start: Callable[..., Server], wait_until: WaitUntil
) -> None:
    server = start()
    with begin(server.port) as first, begin(server.port) as second:
        wait_until(lambda: held(server) == 2 * SIZE)
        with begin(server.port) as third:
            assert_refused(third)
        with begin(server.port, "/csp?size", "Expect: 100-continue", sent=b"") as third:
            assert_refused(third)
        with begin(server.port, "/csp?size", "Expect: 100-continue", sent=b"", size=1000) as third:
            assert third.read().status == 100
            third.send(bytes(1000))
            assert third.read().body == b"1000"
        with StageClient(server.port) as other:
            assert other.get("/page").body == b"a page"
            other.ask("/page", method="POST", body=b"y" * 5 * SIZE)  # nothing of it is held
            assert other.read().status == 405
        for client in (first, second):
            client.send(b"x")
            assert client.read().body == b"%d" % SIZE
        assert held(server) == 0
        with begin(server.port, sent=BODY) as third:
            assert third.read().body == b"%d" % SIZE


def test_chunks_count_as_they_come(start: Callable[..., Server], wait_until: WaitUntil) -> None:
    server = start()
    chunk = b"3e8\r\n" + b"x" * 1000 + b"\r\n"
    with StageClient(server.port) as client:
        client.send(b"POST /csp?size HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n" + 5 * chunk)
        wait_until(lambda: held(server) == 5000)
        with begin(server.port):
            wait_until(lambda: held(server) == 5000 + SIZE)
            client.send(4 * chunk)
            wait_until(lambda: held(server) == ALL)
            client.send(chunk)
            assert_refused(client)
            wait_until(lambda: held(server) == SIZE)


def test_a_body_that_alone_is_too_much_is_413(start: Callable[..., Server]) -> None:
    with begin(start().port, size=ALL + 1) as client:
        response = client.read()
        assert (response.status, response["Retry-After"]) == (413, None)


def test_without_the_option_bodies_may_take_a_quarter_of_the_memory(start: Callable[..., Server]) -> None:
    server = start(servlet_bodies_max=0, memory=1 << 20)
    assert server.service.bodies.bytes_max == 1 << 18


# --- from acceptance to the end of the request ----------------------------------------------------------------


@pytest.mark.parametrize("target", ["/thread", "/async", "/wsgi", "/asgi"])
def test_a_body_counts_while_the_application_works_and_no_longer(
    start: Callable[..., Server], wait_until: WaitUntil, no_collector: None, target: str
) -> None:
    server = start()
    name = target[1:]
    with begin(server.port, target, sent=BODY) as client:
        wait_until(lambda: "".join(JOURNAL) == name)
        assert held(server) == SIZE
        EVENTS["go"].set()
        assert client.read().body == b"%d" % SIZE
        wait_until(lambda: held(server) == 0)


@pytest.mark.parametrize("target", ["/fail", "/thread-fail", "/async-fail"])
def test_the_body_of_an_application_that_raises_counts_no_more(
    start: Callable[..., Server], wait_until: WaitUntil, no_collector: None, target: str
) -> None:
    server = start()
    with StageClient(server.port) as client:
        for _ in range(4):  # more than all together may take
            client.ask(target, method="POST", body=BODY)
            assert client.read().status == 500
        wait_until(lambda: held(server) == 0)


@pytest.mark.parametrize("target", ["/stream", "/thread-stream", "/async-stream"])
@pytest.mark.parametrize("leaves", [True, False], ids=["the client leaves", "to its end"])
def test_the_body_of_a_stream_counts_until_the_stream_has_ended(
    start: Callable[..., Server], wait_until: WaitUntil, no_collector: None, target: str, leaves: bool
) -> None:
    server = start()
    with begin(server.port, target, sent=BODY) as client:
        client.read_head()
        assert client.read_chunk() == BODY
        assert held(server) == SIZE
        if leaves:
            client.reset()
        else:
            EVENTS["go"].set()
            assert list(iter(client.read_chunk, b""))[-1] == b"end"
        wait_until(lambda: held(server) == 0)


@pytest.mark.parametrize("how", ["close", "reset"])
def test_half_a_body_counts_no_more_when_its_client_is_gone(
    start: Callable[..., Server], wait_until: WaitUntil, no_collector: None, how: str
) -> None:
    server = start()
    client = begin(server.port)
    wait_until(lambda: held(server) == SIZE)
    getattr(client, how)()
    wait_until(lambda: held(server) == 0)


def test_a_body_counts_while_a_thread_works_on_though_its_client_is_gone(
    start: Callable[..., Server], wait_until: WaitUntil, no_collector: None
) -> None:
    server = start(servlet_threads=1)
    working = begin(server.port, "/thread", sent=BODY)
    wait_until(lambda: JOURNAL == ["thread"])
    queued = begin(server.port, "/thread", sent=BODY)
    wait_until(lambda: held(server) == 2 * SIZE)
    working.reset()
    queued.reset()
    wait_until(lambda: held(server) == SIZE)  # what was queued is done with; what works is not
    wait_until(lambda: not server.service.connections)
    assert held(server) == SIZE
    EVENTS["go"].set()
    wait_until(lambda: held(server) == 0)


def test_a_body_counts_while_a_thread_makes_a_piece_for_a_client_that_is_gone(
    start: Callable[..., Server], wait_until: WaitUntil, no_collector: None
) -> None:
    server = start()
    client = begin(server.port, "/thread-piece", sent=BODY)
    client.read_head()
    wait_until(lambda: JOURNAL == ["piece"])
    client.reset()
    wait_until(lambda: not server.service.connections)
    assert held(server) == SIZE
    EVENTS["go"].set()
    wait_until(lambda: held(server) == 0)


@pytest.mark.parametrize("target", ["/async", "/asgi"])
def test_the_body_of_a_coroutine_that_is_given_up_counts_no_more(
    start: Callable[..., Server], wait_until: WaitUntil, no_collector: None, target: str
) -> None:
    server = start()
    client = begin(server.port, target, sent=BODY)
    wait_until(lambda: "".join(JOURNAL) == target[1:])
    client.reset()
    if target == "/asgi":  # which is told, and ends by itself
        EVENTS["go"].set()
    wait_until(lambda: held(server) == 0)


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"5\r\nhello\r\nx\r\n", 400), (b"1388\r\n" + 5000 * b"x" + b"\r\nfffff\r\n", 413)],
)
def test_a_body_that_is_refused_counts_no_more(
    start: Callable[..., Server], no_collector: None, body: bytes, status: int
) -> None:
    server = start()
    with StageClient(server.port) as client:
        client.send(b"POST /csp?size HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
        assert client.read().status == status
        assert held(server) == 0


@pytest.mark.parametrize("engine", ["python", "native"])
def test_bodies_do_not_wait_for_the_garbage_collector(
    command: StartCommand, site: Site, tmp_path: Path, engine: str
) -> None:
    if engine == "native":
        pytest.importorskip("zcserve.net._lane")
    folder = tmp_path / "servlets"
    folder.mkdir()
    (folder / "size.py").write_text("def post(request):\n    return str(len(request.body))\n")
    server = command(site.root, "--engine", engine, "--servlets", str(folder))
    body = bytes(4 << 20)
    before = memory_bytes(server.pid)
    with StageClient(server.port) as client:
        peak = before
        for _ in range(40):
            client.ask("/csp?size", method="POST", body=body)
            assert client.read().body == b"%d" % len(body)
            peak = max(peak, memory_bytes(server.pid))
    assert peak - before < 5 * len(body)


# --- the least rate -------------------------------------------------------------------------------------------

KEPT = "POST /csp?size"
THROWN_AWAY = "GET /page"
LONG = 200_000


def begin_slowly(server: Server, request: str, sent: bytes) -> StageClient:
    client = StageClient(server.port)
    client.send(f"{request} HTTP/1.1\r\nHost: test\r\nContent-Length: {LONG}\r\n\r\n".encode() + sent)
    return client


@pytest.mark.parametrize("request_line", [KEPT, THROWN_AWAY])
@pytest.mark.parametrize("first", [b"", b"x" * (LONG - 1000)], ids=["from the start", "nearly all at once, then"])
def test_a_body_that_trickles_ends(
    start: Callable[..., Server], wait_until: WaitUntil, request_line: str, first: bytes
) -> None:
    server = start(body_timeout_s=0.25, body_rate_min=1000, servlet_bodies_max=LONG)
    with begin_slowly(server, request_line, first) as client:
        for _ in range(400):  # for 32 times as long as it may, with less than one byte of 20 that are wanted
            client.send(b"x")
            if is_readable(client.socket, 0.02):
                break
        else:
            pytest.fail("a byte now and then keeps the body on its way")
        response = client.read()
        assert (response.status, response["Connection"]) == (408, b"close")
        assert held(server) == 0


def test_a_rest_between_chunks_does_not_set_the_clock_of_a_body_anew(start: Callable[..., Server]) -> None:
    server = start(body_timeout_s=0.25, body_rate_min=1000, pipeline_max=1)  # one chunk a turn: each piece has rests
    with StageClient(server.port) as client:
        client.send(f"{KEPT} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        for _ in range(250):
            client.send(b"1\r\nx\r\n" * 3)
            if is_readable(client.socket, 0.02):
                break
        else:
            pytest.fail("a few chunks now and then keep the body on its way")
        assert client.read().status == 408


@pytest.mark.parametrize("request_line", [KEPT, THROWN_AWAY])
def test_a_body_that_comes_fast_enough_may_take_its_time(start: Callable[..., Server], request_line: str) -> None:
    timeout_s = 0.5
    server = start(body_timeout_s=timeout_s, body_rate_min=1000, servlet_bodies_max=LONG)
    with begin_slowly(server, request_line, b"") as client:
        left, until = LONG, time.monotonic() + 2.5 * timeout_s
        while time.monotonic() < until:  # 20 times as fast as need be
            client.send(b"x" * 400)
            left -= 400
            assert not is_readable(client.socket, 0.02)
        client.send(b"x" * left)
        assert client.read().status == 200


@pytest.mark.parametrize("request_line", [KEPT, THROWN_AWAY])
def test_a_body_has_its_own_time_also_right_behind_another(
    start: Callable[..., Server], wait_until: WaitUntil, request_line: str
) -> None:
    server = start(body_timeout_s=NEVER, servlet_bodies_max=LONG)
    head = f"{request_line} HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\n".encode()
    with StageClient(server.port) as client:
        client.send(head + b"1")

        def due() -> float:
            (connection,) = connections_of(server.service)
            return connection.due()

        wait_until(lambda: server.service.connections and due())
        first = due()
        time.sleep(0.1)  # what is measured
        client.send(b"2" + head + b"1")
        assert client.read().status == 200
        wait_until(lambda: due() >= first + 0.1)
        client.send(b"2")
        assert client.read().status == 200
