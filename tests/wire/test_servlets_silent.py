"""Applications that do not come back, have nothing to say, or whose client has left; on both engines.

Others are served meanwhile, what waits is bounded in number and time, and when the client leaves it is over.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.servlets import results_of, servlets_of
from tests.support.site import Serve, Site
from tests.support.stage import EVENTS, JOURNAL, StageClient, write_servlets
from tests.support.waiting import WaitUntil
from zcserve import Server

SERVLETS = """
from tests.support.stage import wait_for

count = itertools.count(1)

@servlet("/fine", thread=True)
def fine(request):
    return "fine"

@servlet("/work", thread=True)
def work(request):
    JOURNAL.append("work")
    wait_for("go")
    return "worked"

@servlet("/kept", thread=True, ttl=60)
def kept(request):
    JOURNAL.append("kept")
    return "kept"

def silent(first=b""):
    try:
        yield first
        JOURNAL.append("silent")
        while not EVENTS["over"].is_set():
            yield b""
    finally:
        JOURNAL.append("closed")

@servlet("/loop/{first}")
def loop(request, first):
    return silent(first.encode() if first != "nothing" else b"")

@servlet("/thread/{first}", thread=True)
def thread(request, first):
    return silent(first.encode() if first != "nothing" else b"")

@servlet("/async/{first}")
async def asynchronous(request, first):
    pieces = silent(first.encode() if first != "nothing" else b"")
    try:
        for piece in pieces:
            yield piece
    finally:
        pieces.close()

@servlet("/hung-thread", thread=True, ttl=0.1)
def hung_thread(request):
    n = next(count)
    JOURNAL.append(str(n))
    if n > 1:
        wait_for("go")
    return str(n)

@servlet("/hung-async", ttl=0.1)
async def hung_async(request):
    n = next(count)
    JOURNAL.append(str(n))
    while n > 1 and not EVENTS["go"].is_set():
        await asyncio.sleep(0.005)
    return str(n)
"""

MOUNTED = """
from tests.support.stage import EVENTS, JOURNAL, wait_for

def silent(first):
    try:
        yield first
        JOURNAL.append("silent")
        while not EVENTS["over"].is_set():
            yield b""
    finally:
        JOURNAL.append("closed")

def wsgi(environ, start_response):
    path = environ["PATH_INFO"].rpartition("/")[2]
    write = start_response("200 OK", [])
    if path == "work":
        JOURNAL.append("work")
        wait_for("go")
        return [b"worked"]
    if path == "write":
        JOURNAL.append("silent")
        try:
            while not EVENTS["over"].is_set():
                write(b"")
        finally:
            JOURNAL.append("closed")
    return silent(b"" if path == "nothing" else path.encode())

async def asgi(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError
    first = scope["path"].rpartition("/")[2]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    try:
        for piece in silent(b"" if first == "nothing" else first.encode()):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
    finally:
        JOURNAL.append("closed")
"""


@pytest.fixture
def start(live: Serve, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Server]]:
    """`start(**config)`: a server with the servlets and the applications above."""
    site.write("page", b"a page")
    folder = write_servlets(tmp_path, silent=SERVLETS)
    (tmp_path / "silent_app.py").write_text(MOUNTED)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "silent_app", raising=False)
    mount = ("/wsgi=silent_app:wsgi", "/asgi=silent_app:asgi")
    yield lambda **config: live(site.root, servlets=str(folder), mount=mount, **config)
    EVENTS["over"].set()  # so that a server that cannot end them by itself can be ended


# --- empty pieces ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["nothing", "something"])
@pytest.mark.parametrize("where", ["loop", "thread", "async", "wsgi", "asgi"])
def test_one_that_never_says_anything_keeps_no_client_waiting_and_ends_with_its_client(
    start: Callable[..., Server], wait_until: WaitUntil, where: str, first: str
) -> None:
    server = start(servlet_threads=1)
    client = StageClient(server.port)
    client.ask(f"/{where}/{first}")
    if first == "something":
        client.read_head()
        assert client.read_chunk() == b"something"
    wait_until(lambda: JOURNAL == ["silent"])
    with StageClient(server.port) as other:
        for target, body in (("/page", b"a page"), ("/fine", b"fine")) * 3:  # the loop, and the only thread
            assert other.get(target).body == body
    assert JOURNAL == ["silent"]
    client.reset()
    wait_until(lambda: "closed" in JOURNAL)


def test_empty_writes_end_with_the_client(start: Callable[..., Server], wait_until: WaitUntil) -> None:
    server = start()
    client = StageClient(server.port)
    client.ask("/wsgi/write")
    wait_until(lambda: JOURNAL == ["silent"])
    client.reset()
    wait_until(lambda: JOURNAL == ["silent", "closed"])


# --- places in the queue --------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["/work", "/wsgi/work", "/kept"])
def test_a_queued_request_whose_client_has_left_gives_up_its_place(
    start: Callable[..., Server], wait_until: WaitUntil, target: str
) -> None:
    server = start(servlet_threads=1, servlet_queue_max=2)
    pool = servlets_of(server).context.pool
    with ExitStack() as stack:
        working = stack.enter_context(StageClient(server.port))
        working.ask("/work")
        wait_until(lambda: JOURNAL == ["work"])
        for _ in range(3):
            queued = [StageClient(server.port) for _ in range(2)]
            for number, client in enumerate(queued):
                client.ask(target if target != "/kept" else f"/kept?{number}")
            wait_until(lambda: pool.waiting == 2)
            with StageClient(server.port) as other:
                assert other.get("/fine").status == 503
            for client in queued:
                client.reset()
            wait_until(lambda: pool.waiting == 0)
        other = stack.enter_context(StageClient(server.port))
        other.ask("/fine")
        wait_until(lambda: pool.waiting == 1)
        EVENTS["go"].set()
        assert other.read().body == b"fine"
        assert working.read().body == b"worked"
    assert JOURNAL == ["work"]


# --- results that do not come ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["thread", "async"])
def test_a_result_whose_servlet_hangs_serves_its_time_and_then_requests_end_by_a_deadline(
    start: Callable[..., Server], wait_until: WaitUntil, kind: str
) -> None:
    server = start(servlet_result_timeout_s=0.3)
    results = results_of(server)
    with StageClient(server.port) as client:

        def asked() -> tuple[int, bytes]:
            response = client.get(f"/hung-{kind}")
            return response.status, response.body

        answers = [asked()]
        assert answers == [(200, b"1")]
        while answers[-1][0] == 200:
            answers.append(asked())
        assert set(answers[:-1]) == {(200, b"1")}
        assert len(answers) > 3
        assert len(JOURNAL) > 1  # it was made anew, and hung
        assert answers[-1][0] in (503, 504)
        for _ in range(3):
            assert asked()[0] in (503, 504)
        assert client.get("/page").body == b"a page"
        EVENTS["go"].set()
        wait_until(lambda: not results.making.hung)
        assert wait_until(lambda: (answer := asked())[0] == 200 and answer)[1] != b"1"
    assert servlets_of(server).context.pool.waiting == 0


def test_clients_that_wait_for_one_hung_result_are_bounded(start: Callable[..., Server], wait_until: WaitUntil) -> None:
    server = start(servlet_result_timeout_s=0.5, servlet_queue_max=3)
    JOURNAL.append("begin")
    EVENTS["go"].clear()
    with ExitStack() as stack:
        first = stack.enter_context(StageClient(server.port))
        assert first.get("/hung-thread").body == b"1"  # the first call returns
        clients = [stack.enter_context(StageClient(server.port)) for _ in range(6)]
        for client in clients:
            client.ask("/hung-thread?other")  # of another target
        statuses = sorted(client.read().status for client in clients)
        assert statuses == [503] * 3 + [504] * 3
    EVENTS["go"].set()
