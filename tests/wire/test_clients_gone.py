"""Clients that go away while an application owes them something; on both engines.

A client goes by closing its socket: a FIN, as every ordinary close is. While an application has not answered, or a
stream waits for its next piece, that means that the client is gone; what is complete is sent to a client that has
closed only its own side. `ROUNDS` (environment ZCSERVE_TEST_ROUNDS) is how often a soak is repeated.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client, accepted
from tests.support.command import Command, StartCommand
from tests.support.site import Serve, Site
from tests.support.stage import EVENTS, JOURNAL, StageClient, write_servlets
from tests.support.waiting import WaitUntil
from zcserve import Server

ROUNDS = int(os.environ.get("ZCSERVE_TEST_ROUNDS", "1"))
# The server is to notice within 0.1 s; on a busy machine a test is content with ten times that.
NOTICED_WITHIN_S = 1.0

WAITING = """
@servlet("/async")
async def in_task(request):
    JOURNAL.append("begun")
    try:
        await asyncio.sleep(WAIT_S)
    finally:
        JOURNAL.append("ended")

@servlet("/async-stream")
async def stream(request):
    try:
        yield b"first"
        JOURNAL.append("begun")
        await asyncio.sleep(WAIT_S)
        yield b"never"
    finally:
        JOURNAL.append("ended")

@servlet("/async-from-loop")
def stream_from_loop(request):
    return stream(request)

@servlet("/thread", thread=True)
def in_thread(request):
    JOURNAL.append("begun")
    assert EVENTS["go"].wait(WAIT_S)
    JOURNAL.append("done")
    return b"unwanted"

@servlet("/thread-stream", thread=True)
def thread_stream(request):
    try:
        yield b"first"
        JOURNAL.append("begun")
        while not EVENTS["go"].wait(0.01):
            yield b""
    finally:
        JOURNAL.append("ended")

@servlet("/fine")
def fine(request):
    return b"fine"

@servlet("/pieces")
def pieces(request):
    for n in range(50):
        yield b"%05d" % n * 2000
"""

APPLICATION = """
import asyncio
from tests.support.stage import JOURNAL, WAIT_S

async def asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"].endswith("shutdown"):
                return
    await receive()
    if scope["path"].endswith("stream"):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
    JOURNAL.append("begun")
    JOURNAL.append((await asyncio.wait_for(receive(), WAIT_S))["type"])
"""


@pytest.fixture
def start(live: Serve, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Server]:
    """`start(**config)`: servlets, an ASGI application at /asgi, files."""
    site.write("page", b"page")
    site.write("large", bytes(8 << 20))
    (tmp_path / "gone_application.py").write_text(APPLICATION)
    monkeypatch.syspath_prepend(str(tmp_path))
    folder = str(write_servlets(tmp_path, waiting=WAITING))
    return lambda **config: live(site.root, servlets=folder, mount=("/asgi=gone_application:asgi",), **config)


def noticed(wait_until: WaitUntil, ended: Callable[[], Any]) -> float:
    """Wait until it is noticed; how long that took."""
    began = time.monotonic()
    wait_until(ended)
    return time.monotonic() - began


REQUEST = b"GET %b HTTP/1.1\r\nHost: test\r\n\r\n"

# How a client goes, behind its request: closing, with other requests unread before the end, or its side only.
GOES: dict[str, Callable[[StageClient], None]] = {
    "closes": lambda client: client.close(),
    "pipelines and closes": lambda client: (client.send(REQUEST % b"/page" * 3), client.close())[1],
    "closes its side": lambda client: client.socket.shutdown(socket.SHUT_WR),
}


@pytest.mark.parametrize("how", GOES)
@pytest.mark.parametrize(
    ("target", "end"),
    [
        ("/async", "ended"),
        ("/async-stream", "ended"),
        ("/async-from-loop", "ended"),
        ("/thread-stream", "ended"),
        ("/asgi/x", "http.disconnect"),
        ("/asgi/stream", "http.disconnect"),
    ],
)
def test_a_client_that_goes_ends_what_works_for_it(
    start: Callable[..., Server],
    wait_until: WaitUntil,
    caplog: pytest.LogCaptureFixture,
    target: str,
    end: str,
    how: str,
) -> None:
    server = start()
    with StageClient(server.port) as client:
        client.ask(target)
        wait_until(lambda: JOURNAL == ["begun"])
        GOES[how](client)
        assert noticed(wait_until, lambda: JOURNAL[1:] == [end]) < NOTICED_WITHIN_S
        if how == "closes its side":
            client.read_to_end()
    wait_until(lambda: server.service.count() == 0)
    with StageClient(server.port) as client:
        assert client.get("/fine").body == b"fine"
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]


@pytest.mark.parametrize("target", ["/async", "/asgi/x", "/async-stream"])
def test_a_client_that_closes_with_its_request_is_gone(
    start: Callable[..., Server], wait_until: WaitUntil, target: str
) -> None:
    """The end comes in one packet with the request, or in the same turn."""
    server = start()
    for _ in range(10):
        JOURNAL.clear()
        with socket.create_connection(("127.0.0.1", server.port)) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
            sock.sendall(REQUEST % target.encode())
        assert noticed(wait_until, lambda: server.service.count() == 0) < NOTICED_WITHIN_S
        wait_until(lambda: not JOURNAL or JOURNAL[-1] != "begun")


def test_a_client_that_goes_while_an_earlier_answer_is_blocked_ends_the_next(
    start: Callable[..., Server], wait_until: WaitUntil
) -> None:
    """The file is complete, and sent to a client that has closed only its side."""
    server = start()
    with StageClient(server.port, receive_buffer=4096) as client:
        client.send(REQUEST % b"/large" + REQUEST % b"/asgi/x")
        client.read_head()
        client.read_exactly(1 << 20)
        client.socket.shutdown(socket.SHUT_WR)
        assert len(client.read_exactly(7 << 20)) == 7 << 20
        assert client.at_end()
    wait_until(lambda: JOURNAL in ([], ["begun", "http.disconnect"]))
    wait_until(lambda: server.service.count() == 0)


@pytest.mark.parametrize("target", [b"/page", b"/large", b"/fine", b"/pieces", b"/absent"])
@pytest.mark.parametrize("memory", ["64M", "4K"])
def test_what_is_complete_is_sent_to_a_client_that_has_closed_its_side(
    start: Callable[..., Server], site: Site, target: bytes, memory: str
) -> None:
    server = start(memory=memory)
    with StageClient(server.port, receive_buffer=8192) as client:
        client.send(REQUEST % target * 3)
        client.socket.shutdown(socket.SHUT_WR)
        bodies = [client.read().body for _ in range(3)]
        assert client.at_end()
    assert bodies[0] == bodies[1] == bodies[2]
    assert len(bodies[0]) == {b"/page": 4, b"/large": 8 << 20, b"/fine": 4, b"/pieces": 500_000}.get(
        target, len(bodies[0])
    )


# --- requests that wait for a thread ------------------------------------------------------------------------------


def test_a_request_that_has_not_begun_loses_its_place(start: Callable[..., Server], wait_until: WaitUntil) -> None:
    """One thread, a queue of two: clients that leave it make room for others, and are not worked for."""
    server = start(servlet_threads=1, servlet_queue_max=2)
    with StageClient(server.port) as first:
        first.ask("/thread")
        wait_until(lambda: JOURNAL == ["begun"])
        for _ in range(5):
            left = [StageClient(server.port) for _ in range(2)]
            for client in left:
                client.ask("/thread")
            wait_until(lambda: server.service.count() == 3)
            with StageClient(server.port) as refused:
                assert refused.get("/thread").status == 503
            for client in left:
                client.close()
            assert noticed(wait_until, lambda: server.service.count() == 1) < NOTICED_WITHIN_S
        with StageClient(server.port) as second:
            second.ask("/thread")
            EVENTS["go"].set()
            assert first.read().body == second.read().body == b"unwanted"
    assert JOURNAL == ["begun", "done"] * 2


# --- soaks --------------------------------------------------------------------------------------------------------


def descriptors(pid: int) -> int:
    """How many the process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def threads(pid: int) -> int:
    """How many the process has."""
    return len(os.listdir(f"/proc/{pid}/task"))


STREAMS = """
@servlet("/events")
async def events(request):
    yield b"data: first\\n\\n"
    await asyncio.sleep(3600)
    yield b"data: never\\n\\n"

@servlet("/event-source")
def event_source(request):
    return Response(events(request), content_type="text/event-stream")

@servlet("/slow")
async def slow(request):
    await asyncio.sleep(3600)

@servlet("/slow-thread", thread=True)
def slow_thread(request):
    while True:
        time.sleep(0.05)
        yield b"data: tick\\n\\n"

@servlet("/tasks")
async def tasks(request):
    return str(len(asyncio.all_tasks()))
"""


@pytest.fixture(params=["python", "native"])
def process(
    request: pytest.FixtureRequest, site: Site, command: StartCommand, tmp_path: Path
) -> Callable[..., Command]:
    """`process(*flags)`: a server of this engine, in a process of its own, with `STREAMS`."""
    if request.param == "native":
        pytest.importorskip("zcserve.net._lane")
    site.write("page", b"page")
    folder = str(write_servlets(tmp_path, streams=STREAMS))
    flags = ("--engine", request.param, "--servlets", folder, "--servlet-threads", "1")
    return lambda *more: command(site.root, *flags, *more)


def tasks(server: Any) -> bytes:
    """How many asyncio has, with the one that tells."""
    with Client(server.port) as client:
        return client.get("/tasks").body


def is_flat(server: Any, before: tuple[int, int]) -> bool:
    """Whether descriptors and threads are as they were, and no task is left but the one that tells."""
    return (descriptors(server.pid), threads(server.pid)) == before and tasks(server) == b"1"


def warm(server: Any) -> tuple[int, int]:
    """Descriptors and threads of a server that has been used."""
    for target in ("/slow-thread", "/tasks", "/page"):
        with StageClient(server.port) as client:
            client.ask(target)
            client.read_head()
    deadline = time.monotonic() + 20
    seen = [(0, 0)]
    while seen[-3:].count(seen[-1]) < 3 and time.monotonic() < deadline:
        time.sleep(0.2)  # its threads come and go
        seen.append((descriptors(server.pid), threads(server.pid)))
    return seen[-1]


def test_clients_that_gave_up_do_not_fill_the_connections(
    process: Callable[..., Command], wait_until: WaitUntil
) -> None:
    """As `timeout 1 curl -sN .../events &`, thirty times, where twenty connections are allowed."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not here")
    server = process("--connections-max", "20")
    before = warm(server)
    for round in range(ROUNDS):
        targets = ("/events", "/slow", "/slow-thread")
        curls = [
            subprocess.Popen(
                ["curl", "-sN", "--max-time", "1", f"http://127.0.0.1:{server.port}{targets[n % 3]}"],
                stdout=subprocess.DEVNULL,
            )
            for n in range(30)
        ]
        for number, curl in enumerate(curls):
            if number % 2:
                wait_until(lambda curl=curl: curl.poll() is not None)
            else:
                curl.kill()
                curl.wait()
        with Client(server.port) as client:
            assert client.get("/page").body == b"page", round
        wait_until(lambda: is_flat(server, before))
    began = time.monotonic()
    os.kill(server.pid, signal.SIGTERM)
    assert server.wait() == 0
    assert time.monotonic() - began < 10  # not the 30 s of grace


NODE = """
const [port, count] = process.argv.slice(1);
(async () => {
  for (let n = 0; n < count; n++) {
    const target = ["/events", "/slow", "/slow-thread"][n % 3];
    const gone = new AbortController();
    const asked = fetch(`http://127.0.0.1:${port}${target}`, {signal: gone.signal});
    if (target === "/slow") setTimeout(() => gone.abort(), 3);
    try {
      const answer = await asked;
      await answer.body.getReader().read();
      gone.abort();
    } catch (error) {
      if (error.name !== "AbortError") throw error;
    }
  }
  console.log("done");
})();
"""


def test_fetches_that_were_aborted_leave_nothing_behind(process: Callable[..., Command], wait_until: WaitUntil) -> None:
    if shutil.which("node") is None:
        pytest.skip("node is not here")
    server = process()
    before = warm(server)
    argv = ["node", "-e", NODE, str(server.port), str(30 * ROUNDS)]
    node = subprocess.run(argv, capture_output=True, timeout=20 + 10 * ROUNDS, check=True)
    assert node.stdout == b"done\n"
    wait_until(lambda: is_flat(server, before))  # an aborted fetch has sent its FIN long before


BROWSER = b"""<!doctype html><script>
const left = () => new Promise(done => {
    const source = new EventSource("/event-source");
    source.onmessage = () => { source.close(); done(); };
});
const kept = () => new Promise(done => { new EventSource("/event-source").onmessage = done; });
(async () => {
    for (let n = 0; n < COUNT; n++) await left();
    await Promise.all([kept(), kept(), kept()]);
    location = "/after.html";
})();
</script>"""


@pytest.mark.peer
def test_event_sources_that_a_browser_left_leave_nothing_behind(
    process: Callable[..., Command], site: Site, wait_until: WaitUntil, tmp_path: Path
) -> None:
    """Some are closed by their page, three by leaving the page."""
    site.write("after.html", b"another page")
    site.write("browser.html", BROWSER.replace(b"COUNT", b"%d" % (50 * ROUNDS)))
    log = tmp_path / "access.log"
    server = process("--access-log", str(log))
    before = warm(server)
    # A page that Chromium keeps for "back" keeps its streams.
    quiet = (
        "--disable-features=BackForwardCache",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
    )
    argv = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", *quiet]
    argv += [f"--user-data-dir={tmp_path}/profile", f"http://127.0.0.1:{server.port}/browser.html"]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, process_group=0) as browser:
        try:
            wait_until(lambda: "GET /after.html" in log.read_text(), 60 + 10 * ROUNDS)
            wait_until(lambda: tasks(server) == b"1")  # though the browser keeps idle connections
        finally:
            os.killpg(browser.pid, signal.SIGKILL)
    wait_until(lambda: is_flat(server, before))


# --- clients that vanish ------------------------------------------------------------------------------------------


def test_the_kernel_looks_for_clients_that_vanished(start: Callable[..., Server]) -> None:
    """Every accepted socket has inherited it. That a packet is lost cannot be shown on loopback."""
    server = start(engine="python", write_timeout_s=7.5)
    with Client(server.port) as client:
        assert client.get("/page").body == b"page"
        with accepted(client) as sock:
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 7500
            idle, every, probes = (
                sock.getsockopt(socket.IPPROTO_TCP, option)
                for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
            )
        assert idle + every * probes <= 120


# --- --app-timeout ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["/async", "/thread", "/asgi/x"])
def test_an_answer_that_takes_too_long_is_504_and_the_connection_goes_on(
    start: Callable[..., Server], wait_until: WaitUntil, target: str
) -> None:
    server = start(app_timeout_s=0.2)
    with StageClient(server.port) as client:
        client.send(REQUEST % target.encode() + REQUEST % b"/page")
        answer = client.read()
        assert (answer.status, answer["Connection"]) == (504, None)
        assert client.read().body == b"page"
        assert client.get("/fine").body == b"fine"
    EVENTS["go"].set()
    wait_until(lambda: len(JOURNAL) == 2)  # "ended", "done" or "http.disconnect": it was told, or went on to its end


@pytest.mark.parametrize("target", ["/async-stream", "/thread-stream", "/asgi/stream"])
def test_a_stream_whose_next_piece_takes_too_long_is_cut(
    start: Callable[..., Server], wait_until: WaitUntil, target: str
) -> None:
    server = start(app_timeout_s=0.2)
    with StageClient(server.port) as client:
        client.ask(target)
        client.read_head()
        assert client.read_chunk() == b"first"
        with pytest.raises(EOFError):
            client.read_chunk()
    wait_until(lambda: len(JOURNAL) == 2)


def test_a_stream_that_goes_on_outlives_its_timeout(
    start: Callable[..., Server], site: Site, tmp_path: Path, live: Serve
) -> None:
    source = """
    @servlet("/steady")
    async def steady(request):
        for n in range(10):
            await asyncio.sleep(0.05)
            yield b"%d" % n
    """
    server = live(site.root, servlets=str(write_servlets(tmp_path, steady=source)), app_timeout_s=0.4)
    with StageClient(server.port) as client:
        assert client.get("/steady").body == b"".join(b"%d" % n for n in range(10))
