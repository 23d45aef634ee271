"""Blocking is contained: threads, the asyncio thread, the pool's bound, and what holds the loop; on both engines."""

from __future__ import annotations

import json
import logging
import os
import signal
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.command import StartCommand
from tests.support.servlets import servlets_of
from tests.support.site import Serve, Site
from tests.support.stage import EVENTS, JOURNAL, StageClient, write_servlets
from tests.support.waiting import WaitUntil
from zcserve import Server

TIMES = 3

SLOW = """
from tests.support.stage import wait_for

@servlet("/thread", thread=True)
def in_thread(request):
    JOURNAL.append("begun")
    wait_for("go")
    return threading.current_thread().name

@servlet("/thread-stream", thread=True)
def thread_stream(request):
    yield b"first"
    JOURNAL.append("begun")
    wait_for("go")
    yield threading.current_thread().name

@servlet("/async")
async def in_task(request):
    JOURNAL.append("begun")
    while not EVENTS["go"].is_set():
        await asyncio.sleep(0.001)
    return threading.current_thread().name

@servlet("/async-blocked")
async def blocked(request):
    JOURNAL.append("begun")
    wait_for("go")
    return threading.current_thread().name

@servlet("/async-stream")
async def async_stream(request):
    yield b"first"
    JOURNAL.append("begun")
    while not EVENTS["go"].is_set():
        await asyncio.sleep(0.001)
    yield threading.current_thread().name

@servlet("/fine")
def fine(request):
    return threading.current_thread().name
"""

Start = Callable[..., Server]


@pytest.fixture
def start(live: Serve, site: Site, tmp_path: Path) -> Callable[..., Server]:
    """`start(source, **config)`."""
    site.write("page", b"page")
    return lambda source, **config: live(site.root, servlets=str(write_servlets(tmp_path, slow=source)), **config)


@pytest.mark.parametrize(
    ("target", "thread"),
    [
        ("/thread", b"zcserve-servlet-"),
        ("/thread-stream", b"zcserve-servlet-"),
        ("/async", b"zcserve-async"),
        ("/async-blocked", b"zcserve-async"),
        ("/async-stream", b"zcserve-async"),
    ],
)
def test_others_are_served_while_one_is_slow(start: Start, wait_until: WaitUntil, target: str, thread: bytes) -> None:
    server = start(SLOW)
    with StageClient(server.port) as slow, StageClient(server.port) as other:
        for _ in range(2):
            EVENTS["go"].clear()
            JOURNAL.clear()
            slow.ask(target)
            wait_until(lambda: JOURNAL == ["begun"])
            for _ in range(TIMES):
                assert other.get("/fine").body == b"zcserve"  # the server's own thread
                assert other.get("/page").body == b"page"
            EVENTS["go"].set()
            body = slow.read().body
            assert body.removeprefix(b"first").startswith(thread)


def test_coroutines_run_beside_each_other(start: Start) -> None:
    server = start("""
        waiting = {}

        @servlet("/meet/{name}")
        async def meet(request, name):
            mine = waiting[name] = asyncio.get_running_loop().create_future()
            while len(waiting) < 3:
                await asyncio.sleep(0.001)
            if name == "a":
                for other in "bc":
                    waiting[other].set_result(f"from a to {other}")
                return "a"
            return await asyncio.wait_for(mine, WAIT_S)
        """)
    with ExitStack() as stack:
        clients = {name: stack.enter_context(StageClient(server.port)) for name in "bca"}
        for name, client in clients.items():
            client.ask(f"/meet/{name}")
        assert {name: client.read().body for name, client in clients.items()} == {
            "a": b"a",
            "b": b"from a to b",
            "c": b"from a to c",
        }


def test_threads_run_beside_each_other(start: Start) -> None:
    server = start("""
        barrier = threading.Barrier(4)

        @servlet("/meet", thread=True)
        def meet(request):
            barrier.wait(WAIT_S)
            return threading.current_thread().name
        """)
    with ExitStack() as stack:
        clients = [stack.enter_context(StageClient(server.port)) for _ in range(4)]
        for client in clients:
            client.ask("/meet")
        assert len({client.read().body for client in clients}) == 4


# --- the bound ------------------------------------------------------------------------------------------------


def test_when_the_pool_is_full_the_rest_is_refused_at_once(start: Start, wait_until: WaitUntil) -> None:
    server = start(SLOW, servlet_threads=2, servlet_queue_max=3)
    with ExitStack() as stack:
        busy = [stack.enter_context(StageClient(server.port)) for _ in range(5)]
        for client in busy[:2]:
            client.ask("/thread")
        wait_until(lambda: JOURNAL == ["begun"] * 2)
        for client in busy[2:]:
            client.ask("/thread")
        other = stack.enter_context(StageClient(server.port))
        wait_until(lambda: servlets_of(server).context.pool.waiting == 3)
        for target in ("/thread", "/thread-stream") * TIMES:
            response = other.get(target)
            assert (response.status, response["Retry-After"], response["Connection"]) == (503, b"1", None)
            assert other.get("/fine").body == b"zcserve"
            assert other.get("/page").body == b"page"
        assert JOURNAL == ["begun"] * 2
        EVENTS["go"].set()
        names = {client.read().body for client in busy}
        assert names == {b"zcserve-servlet-1", b"zcserve-servlet-2"}
        assert other.get("/thread").body in names


def test_a_thread_that_failed_works_on(start: Start) -> None:
    server = start(
        """
        @servlet("/fail", thread=True)
        def fail(request):
            sys.exit(1)

        @servlet("/fine", thread=True)
        def fine(request):
            return b"fine"
        """,
        servlet_threads=1,
    )
    with StageClient(server.port) as client:
        for _ in range(TIMES):
            assert client.get("/fail").status == 500
            assert client.get("/fine").body == b"fine"


# --- what holds the loop --------------------------------------------------------------------------------------

HOLDING = """
from tests.support.stage import wait_for

def get(request):
    return hold()

def hold():
    wait_for("go")
    return b"done"

@servlet("/stream")
def stream(request):
    yield b"first"
    hold()

@servlet("/closing")
def closing(request):
    try:
        while True:
            yield b"." * 100_000
    finally:
        hold()

@servlet("/quick")
def quick(request):
    return b"quick"

@servlet("/thread", thread=True)
def in_thread(request):
    return hold()
"""


def held(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [text for text in map(logging.LogRecord.getMessage, caplog.records) if "has held the loop" in text]


@pytest.mark.parametrize(("target", "line"), [("/csp?slow", 8), ("/stream", 15), ("/closing", 20)])
def test_a_servlet_that_holds_the_loop_is_named_with_its_stack(
    start: Start, wait_until: WaitUntil, caplog: pytest.LogCaptureFixture, target: str, line: int
) -> None:
    server = start(HOLDING, servlet_slow_s=0.1)
    for n in range(2):  # by Python, then by the lane
        EVENTS["go"].clear()
        with StageClient(server.port) as client, StageClient(server.port) as other:
            assert client.get("/quick").body == b"quick"
            client.ask(target)
            if target == "/closing":
                client.read_head()
                client.read_chunk()
                client.reset()
            wait_until(lambda n=n: len(held(caplog)) == n + 1)
            told = held(caplog)[n]
            assert f"servlets/slow.py:{line} has held the loop for more than 0.1 s" in told
            assert "in hold" in told
            assert 'wait_for("go")' in told
            assert "zcserve/net" not in told
            other.ask("/quick")
            EVENTS["go"].set()
            if target != "/closing":
                assert client.read().body == (b"done" if target == "/csp?slow" else b"first")
            assert other.read().body == b"quick"
    wait_until(lambda: caplog.text.count("let go of the loop") == 2)
    assert len(held(caplog)) == 2  # once each


def test_a_wait_in_a_thread_holds_up_nothing(
    start: Start, wait_until: WaitUntil, caplog: pytest.LogCaptureFixture
) -> None:
    server = start(HOLDING, servlet_slow_s=0.2)
    with StageClient(server.port) as thread, StageClient(server.port) as loop:
        thread.ask("/thread")
        for _ in range(TIMES):
            assert loop.get("/quick").body == b"quick"
        loop.ask("/csp?slow")
        wait_until(lambda: held(caplog))
        EVENTS["go"].set()
        assert thread.read().body == loop.read().body == b"done"
    assert ["slow.py:8" in text for text in held(caplog)] == [True]


# --- the end --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["python", "native"])
def test_a_servlet_that_never_comes_back_does_not_keep_the_process(
    site: Site, tmp_path: Path, command: StartCommand, wait_until: WaitUntil, engine: str
) -> None:
    if engine == "native":
        pytest.importorskip("zcserve.net._lane")
    folder = tmp_path / "servlets"
    folder.mkdir()
    (folder / "stuck.py").write_text("""
import threading
from pathlib import Path
from zcserve import servlet

begun = Path(__file__).parent / "begun"

@servlet("/thread", thread=True)
def in_thread(request):
    begun.touch()
    threading.Event().wait()

@servlet("/async")
async def in_task(request):
    threading.Event().wait()
""")
    server = command(site.root, "--servlets", str(folder), "--engine", engine, "--grace", "0.1")
    with StageClient(server.port) as thread, StageClient(server.port) as task:
        task.ask("/async")
        thread.ask("/thread")
        wait_until((folder / "begun").exists)
        os.kill(server.pid, signal.SIGTERM)
        assert server.wait() == 0
        assert thread.read_to_end() == task.read_to_end() == b""
    assert json.dumps(server.lines).count("Traceback") == 0
