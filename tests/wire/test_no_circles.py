"""Nothing of ours waits for the garbage collector: what is done with is gone at once, on both engines.

Each kind of traffic runs with the collector off. What the collector finds afterwards was in a circle of references;
none of it may be an object of zcserve's, nor a call of its functions. A body of 8 MB that hangs on such a circle stays
until the collector comes by, and it comes by the number of objects, not by their size.
"""

from __future__ import annotations

import gc
import logging
import os
import sys
import types
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.servlets import servlets_of
from tests.support.site import Serve, Site
from tests.support.stage import JOURNAL, StageClient, write_servlets
from tests.support.waiting import WaitUntil
from zcserve import Server

BODY = b"y" * 200_000
CHUNKED = b"".join(b"3e8\r\n%b\r\n" % (b"z" * 1000) for _ in range(30)) + b"0\r\n\r\n"
TIMES = 2

SERVLETS = """
def post(request):
    return str(len(request.body))

def get(request):
    return "hello"

@servlet("/loop/{what}", methods=["GET", "POST"])
def loop(request, what):
    return act(what, request)

@servlet("/thread/{what}", methods=["GET", "POST"], thread=True)
def thread(request, what):
    return act(what, request)

@servlet("/async/{what}", methods=["GET", "POST"])
async def asynchronous(request, what):
    await asyncio.sleep(0)
    if what == "hang":
        JOURNAL.append(what)
        await asyncio.sleep(WAIT_S)
    value = act(what, request)
    return each(value) if hasattr(value, "__next__") else value

async def each(values):
    for value in values:
        await asyncio.sleep(0)
        yield value

def act(what, request):
    JOURNAL.append(what)
    size = str(len(request.body))
    match what:
        case "raise":
            raise KeyError(what)
        case "refuse":
            raise HttpError(404, what)
        case "stream":
            return (size for _ in range(4))
        case "late":
            return late(size)
        case "empty":
            return itertools.repeat(b"")
        case "endless":
            return itertools.repeat(b"x" * 65536)
        case "file":
            return Response().send_file("/page")
    return size

def late(size):
    yield size
    raise KeyError(size)

@servlet("/ttl/loop/{what}", ttl=0.2)
def ttl_loop(request, what):
    return act(what, request)

@servlet("/ttl/thread/{what}", ttl=0.2, thread=True)
def ttl_thread(request, what):
    return act(what, request)

@servlet("/ttl/async/{what}", ttl=0.2)
async def ttl_async(request, what):
    return act(what, request)
"""

MOUNTED = """
from tests.support.stage import JOURNAL

def wsgi(environ, start_response):
    size = str(len(environ["wsgi.input"].read())).encode()
    what = environ["PATH_INFO"].rpartition("/")[2]
    JOURNAL.append(what)
    if what == "raise":
        raise KeyError(what)
    write = start_response("200 OK", [("Content-Type", "text/plain")])
    if what == "write":
        write(size)
        write(size)
        return []
    if what == "writelate":
        write(size)
        raise KeyError(what)
    if what == "late":
        return (b"x" * (10 // (3 - n)) for n in range(4))
    if what in ("stream", "empty", "endless"):
        piece, times = {"stream": (size, 4), "empty": (b"", 1 << 60), "endless": (bytes(65536), 1 << 60)}[what]
        return (piece for _ in range(times))
    if what == "file":
        return environ["wsgi.file_wrapper"](open(PAGE, "rb"))
    return [size]

async def asgi(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError
    size = str(len((await receive())["body"])).encode()
    what = scope["path"].rpartition("/")[2]
    JOURNAL.append(what)
    if what == "raise":
        raise KeyError(what)
    if what == "hang":
        await receive()
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if what == "late":
        await send({"type": "http.response.body", "body": size, "more_body": True})
        raise KeyError(what)
    if what in ("stream", "empty", "endless"):
        piece, times = {"stream": (size, 4), "empty": (b"", 1 << 60), "endless": (bytes(65536), 1 << 60)}[what]
        for _ in range(times):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
    if what == "file":
        await send({"type": "http.response.pathsend", "path": PAGE})
    else:
        await send({"type": "http.response.body", "body": size})
"""


# --- kinds of traffic -----------------------------------------------------------------------------------------

Traffic = Callable[[Server], None]


def asks(target: str, *lines: str, method: str = "GET", body: bytes = b"") -> Traffic:
    """Requests that are answered, on one connection."""

    def run(server: Server) -> None:
        with StageClient(server.port) as client:
            for _ in range(TIMES):
                client.ask(target, *lines, method=method, body=body)
                client.read(method=method)

    return run


def sends(data: bytes, answers: int = 1) -> Traffic:
    """Bytes, and the answers to them."""

    def run(server: Server) -> None:
        for _ in range(TIMES):
            with StageClient(server.port) as client:
                client.send(data)
                for _ in range(answers):
                    client.read()

    return run


def is_cut(target: str) -> Traffic:
    """Requests whose answer ends early."""

    def run(server: Server) -> None:
        for _ in range(TIMES):
            with StageClient(server.port) as client:
                client.ask(target)
                client.read_to_end()

    return run


def leaves(target: str, body: bytes = b"") -> Traffic:
    """Clients that are gone before they have their answer."""

    def run(server: Server) -> None:
        for _ in range(TIMES):
            begun = len(JOURNAL)
            client = StageClient(server.port, receive_buffer=4096)
            client.ask(target, method="POST" if body else "GET", body=body)
            if target in ("/large", "/cold"):
                client.socket.recv(1)
            else:
                wait_for(lambda begun=begun: len(JOURNAL) > begun)
            client.reset()

    return run


def half_a_body(server: Server) -> None:
    for _ in range(TIMES):
        client = StageClient(server.port)
        client.send(b"POST /csp?all HTTP/1.1\r\nHost: test\r\nContent-Length: 9000\r\n\r\n" + b"x" * 5000)
        wait_for(lambda: server.service.bodies.held == 9000)
        client.close()
        wait_for(lambda: server.service.bodies.held == 0)


def reloads(server: Server) -> None:
    page = Path(server.config.directory) / "page"
    with StageClient(server.port) as client:
        for n in range(TIMES):
            content = b"version %d" % n * 100
            (page.parent / ".new").write_bytes(content)
            os.rename(page.parent / ".new", page)
            wait_for(lambda content=content: client.get("/page").body == content)


def fetches(server: Server) -> None:
    """Files that were evicted."""
    with StageClient(server.port) as client:
        for _ in range(TIMES):
            entry: Any = server.site.live.resources[b"/page"]
            server.store.drop(entry)
            wait_for(lambda entry=entry: entry.body is None)
            assert client.get("/page").status == 200


HOST = b"Host: test\r\n"
PIPELINED = b"".join(b"GET %b HTTP/1.1\r\n%b\r\n" % (target, HOST) for target in (b"/page", b"/thread/x") * 3)
WHERES = ("/loop", "/thread", "/async", "/wsgi", "/asgi")

KINDS: dict[str, Traffic] = {
    "hits": asks("/page"),
    "large hits": asks("/large"),
    "HEAD": asks("/page", method="HEAD"),
    "OPTIONS": asks("/page", method="OPTIONS"),
    "404": asks("/nothing"),
    "a range": asks("/page", "Range: bytes=0-3"),
    "ranges": asks("/page", "Range: bytes=0-1,3-5"),
    "304": asks("/page", "If-None-Match: *"),
    "a body thrown away": asks("/page", method="POST", body=BODY),
    "a body thrown away, and 200": asks("/page", body=BODY),
    "a body kept": asks("/csp?all", method="POST", body=BODY),
    "a servlet called by the lane": asks("/csp?all"),
    "chunks thrown away": sends(b"GET /page HTTP/1.1\r\n%bTransfer-Encoding: chunked\r\n\r\n" % HOST + CHUNKED),
    "chunks kept": sends(b"POST /csp?all HTTP/1.1\r\n%bTransfer-Encoding: chunked\r\n\r\n" % HOST + CHUNKED),
    "bad chunks": sends(b"POST /csp?all HTTP/1.1\r\n%bTransfer-Encoding: chunked\r\n\r\nx\r\n" % HOST),
    "400": sends(b"nonsense\r\n\r\n"),
    "413": sends(b"POST /csp?all HTTP/1.1\r\n%bContent-Length: 999999999\r\n\r\n" % HOST),
    "417": sends(b"GET /page HTTP/1.1\r\n%bExpect: wonders\r\nContent-Length: 1\r\n\r\n" % HOST),
    "431": sends(b"GET /page HTTP/1.1\r\n%b%b\r\n" % (HOST, b"A: b\r\n" * 200)),
    "close": sends(b"GET /page HTTP/1.1\r\n%bConnection: close\r\n\r\n" % HOST),
    "HTTP/1.0": sends(b"GET /page HTTP/1.0\r\n\r\n"),
    "pipelined": sends(PIPELINED, 6),
    "half a body": half_a_body,
    "a large file is left": leaves("/large"),
    "a file that is not resident": asks("/cold"),
    "a file that is not resident is left": leaves("/cold"),
    "files that are fetched": fetches,
    "reloads of a file": reloads,
}
for where in WHERES:
    for what in ("bytes", "stream", "raise", "file"):
        KINDS[f"GET {where}/{what}"] = asks(f"{where}/{what}")
        KINDS[f"POST {where}/{what}"] = asks(f"{where}/{what}", method="POST", body=BODY)
    KINDS[f"{where}/late"] = is_cut(f"{where}/late")
    for what in ("empty", "endless"):
        KINDS[f"{where}/{what} is left"] = leaves(f"{where}/{what}", BODY)
for where in ("/loop", "/thread", "/async"):
    KINDS[f"{where}/refuse"] = asks(f"{where}/refuse")
    for what in ("bytes", "stream", "raise", "file"):
        KINDS[f"GET /ttl{where}/{what}"] = asks(f"/ttl{where}/{what}")
KINDS["/wsgi/write"] = asks("/wsgi/write", method="POST", body=BODY)
KINDS["/wsgi/writelate"] = is_cut("/wsgi/writelate")
KINDS["/async/hang is left"] = leaves("/async/hang", BODY)
KINDS["/asgi/hang is left"] = leaves("/asgi/hang", BODY)


# What is made for a request, and not once for many.
OF_A_REQUEST = {
    *(f"zcserve.site.{name}" for name in ("exchange.Exchange", "exchange.Stored", "reply.Reply")),
    *(f"zcserve.net.{name}" for name in ("connection.Connection", "head.SentHead", "framing.Outgoing", "bodies.Hold")),
    *(f"zcserve.net.{name}" for name in ("received.Discard", "received.Collect", "answering.Answering")),
    *(f"zcserve.net.{name}" for name in ("exchanges.Exchanges", "http1.Http1")),
    *(f"zcserve.net.{name}" for name in ("output.Output", "transport.SocketTransport")),
    *(f"zcserve.servlets.streams.{name}" for name in ("Begun", "LoopStream", "PoolStream", "AsyncStream")),
    *(f"zcserve.servlets.{name}" for name in ("request.Request", "making.Call", "results.Result", "wsgi._Call")),
    *(f"zcserve.servlets.{name}" for name in ("asgi._Call", "gateway.Asked", "gateway.Pushed")),
}


# --- what is left of them -------------------------------------------------------------------------------------

wait_for: Callable[..., Any]


@pytest.fixture(autouse=True)
def waiting(wait_until: WaitUntil) -> None:
    global wait_for
    wait_for = wait_until


def name_of(thing: object) -> str | None:
    """What an object of ours is called; None for one that is not."""
    kind = type(thing)
    if str(kind.__module__).startswith("zcserve"):
        return f"{kind.__module__}.{kind.__qualname__}"
    if isinstance(thing, types.FunctionType) and str(thing.__module__).startswith("zcserve"):
        return f"function {thing.__qualname__}"
    if isinstance(thing, types.FrameType) and "/zcserve/" in thing.f_code.co_filename:
        return f"call of {thing.f_code.co_name}"
    if isinstance(thing, types.CoroutineType) and "/zcserve/" in thing.cr_code.co_filename:
        return f"coroutine {thing.__qualname__}"
    return None


def circles() -> Counter[str]:
    """What of ours the collector finds."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        return Counter(filter(None, map(name_of, gc.garbage)))
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.collect()


@pytest.fixture
def server(live: Serve, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    gc.collect()
    gc.freeze()  # what was there before is not looked at; the server is, and goes
    site.write("page", b"a page" * 100)
    site.write("large", bytes(3_000_000))
    site.write("cold", bytes(9_000_000))  # more than half of the memory
    folder = write_servlets(tmp_path, all=SERVLETS)
    (tmp_path / "circles_app.py").write_text(f"PAGE = {str(site.root / 'page')!r}\n{MOUNTED}")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "circles_app", raising=False)
    logging.disable(logging.CRITICAL)  # pytest keeps what is logged, tracebacks with all their frames
    mount = ("/wsgi=circles_app:wsgi", "/asgi=circles_app:asgi")
    yield live(
        site.root,
        memory=16 << 20,
        servlets=str(folder),
        mount=mount,
        access_log=str(tmp_path / "log"),
        servlet_threads=2,
    )
    logging.disable(logging.NOTSET)


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def is_quiet(server: Server) -> bool:
    """Whether nothing is under way: no connection, job of a thread, or body."""
    service = server.service
    at_work = service.connections or service.fetcher.waiting or servlets_of(server).context.pool.waiting
    return not at_work and not service.count() and not service.bodies.held


def test_what_is_done_with_is_gone_at_once(server: Server, no_collector: None) -> None:
    found: dict[str, dict[str, int]] = {}
    for name, traffic in KINDS.items():
        traffic(server)
        wait_for(lambda: is_quiet(server))
        if left := circles():
            # What a thread or a task was about to let go of is no circle: it is not there a second time.
            traffic(server)
            wait_for(lambda: is_quiet(server))
            if again := circles():
                found[name] = dict(again & left)
    assert not {name: left for name, left in found.items() if left}


def test_no_object_stays_when_its_request_is_done_with(server: Server, no_collector: None) -> None:
    """Not in a circle, but held by something that lasts."""

    def count() -> Counter[str]:
        return Counter(filter(None, map(name_of, gc.get_objects())))

    def run() -> Counter[str]:
        for traffic in KINDS.values():
            traffic(server)
        wait_for(lambda: is_quiet(server))
        return count()

    before = run()  # with what is made once and stays
    run()
    wait_for(lambda: not OF_A_REQUEST & set(count() - before))


@pytest.mark.parametrize("target", ["/loop/file", "/thread/bytes", "/ttl/loop/bytes", "/nothing", "/async/stream"])
def test_an_idle_connection_keeps_nothing_of_its_last_request(server: Server, no_collector: None, target: str) -> None:
    kinds = {"Stored", "Servlet", "Exchange", "Request", "Reply", "Outgoing", "SentHead"}

    def left() -> set[int]:
        return {id(thing) for thing in gc.get_objects() if type(thing).__name__ in kinds and name_of(thing)}

    with StageClient(server.port) as client:
        client.ask(target)
        client.read()
    wait_for(lambda: is_quiet(server) and len(left()) <= 1)  # what the fast lane looks up once
    lasting = left()
    with StageClient(server.port) as client:
        client.ask(target)
        client.read()
        wait_for(lambda: left() <= lasting)
