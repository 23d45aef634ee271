"""Mounted applications over sockets, on both engines: frameworks as people use them, and what the specifications ask.

Applications run in the test's own process, so that a test sees what they saw. Each stands in a module that exists in
`sys.modules` alone.
"""

from __future__ import annotations

import gc
import os
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from wsgiref.validate import validator

import pytest

from tests.support.command import StartCommand
from tests.support.connections import connections_of
from tests.support.site import Serve, Site
from tests.support.stage import ConnectTo, Mounted, NameApplication, StageClient, asked, form
from tests.support.waiting import WaitUntil
from zcserve import Config, Server
from zcserve.errors import UsageError
from zcserve.net.states import State

TEXT = [("Content-Type", "text/plain")]
LARGE = bytes(range(256)) * 8192  # 2 MiB: more than a socket takes at once
PIECE = b"x" * 262144


# --- frameworks -------------------------------------------------------------------------------------------


@pytest.fixture
def flask_application(tmp_path: Path) -> Any:
    flask = pytest.importorskip("flask")
    application = flask.Flask("hello")
    (tmp_path / "large").write_bytes(LARGE)

    @application.get("/")
    def index() -> str:
        return "hello from flask"

    @application.get("/user/<name>")
    def user(name: str) -> Any:
        return {"name": name, "q": flask.request.args.getlist("q"), "url": flask.url_for("user", name="ü")}

    @application.post("/form")
    def take() -> Any:
        return flask.redirect(flask.url_for("user", name=flask.request.form["name"]), 303)

    @application.get("/stream")
    def stream() -> Any:
        def pieces() -> Iterator[str]:
            for n in range(5):
                yield f"{n} of {flask.request.args['of']}\n"

        return application.response_class(flask.stream_with_context(pieces()), mimetype="text/plain")

    @application.get("/file")
    def file() -> Any:
        return flask.send_file(tmp_path / "large", mimetype="application/x-large", conditional=True)

    @application.get("/cookie")
    def cookie() -> Any:
        response = flask.make_response(flask.request.cookies.get("a", "none"))
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")
        return response

    @application.get("/broken")
    def broken() -> str:
        raise ZeroDivisionError

    return application


def test_flask(flask_application: Any, mounted: Mounted, client_of: ConnectTo) -> None:
    client = client_of(mounted(flask_application))
    assert asked(client, "/app/").body == b"hello from flask"
    user = asked(client, "/app/user/J%C3%BCrgen?q=1&q=2")
    assert user["Content-Type"] == b"application/json"
    assert user.body.strip() == b'{"name":"J\\u00fcrgen","q":["1","2"],"url":"/app/user/%C3%BC"}'
    redirect = form(client, "/app/form", b"name=a+b&x=%C3%BC")
    assert (redirect.status, redirect["Location"]) == (303, b"/app/user/a%20b")
    cookie = asked(client, "/app/cookie", "Cookie: a=from-the-client")
    assert (cookie.body, cookie.all("Set-Cookie")) == (b"from-the-client", [b"a=1; Path=/", b"b=2; Path=/"])
    head = asked(client, "/app/", method="HEAD")
    assert (head.status, head["Content-Length"], head.body) == (200, b"16", b"")
    assert asked(client, "/app/nothing").status == 404
    assert asked(client, "/app/form").status == 405
    assert asked(client, "/app/broken").status == 500
    assert asked(client, "/app/").body == b"hello from flask"


def test_flask_streams_with_its_context(flask_application: Any, mounted: Mounted, client_of: ConnectTo) -> None:
    server = mounted(flask_application)
    for _ in range(3):
        stream = asked(client_of(server), "/app/stream?of=5")
        assert stream["Transfer-Encoding"] == b"chunked"
        assert stream.body == b"0 of 5\n1 of 5\n2 of 5\n3 of 5\n4 of 5\n"


def test_flask_sends_a_file(flask_application: Any, mounted: Mounted, client_of: ConnectTo) -> None:
    client = client_of(mounted(flask_application))
    whole = asked(client, "/app/file")
    assert (whole.status, whole["Content-Type"], whole.body == LARGE) == (200, b"application/x-large", True)
    part = asked(client, "/app/file", "Range: bytes=1000-1999")
    assert (part.status, part["Content-Range"]) == (206, b"bytes 1000-1999/%d" % len(LARGE))
    assert part.body == LARGE[1000:2000]
    same = asked(client, "/app/file", f"If-None-Match: {whole['ETag'].decode()}")
    assert (same.status, same.body) == (304, b"")
    assert asked(client, "/app/").status == 200


@pytest.mark.parametrize("gateway", ["wsgi", "asgi"])
def test_django(gateway: str, django_urls: Any, mounted: Mounted, client_of: ConnectTo, tmp_path: Path) -> None:
    if gateway == "wsgi":
        from django.core.wsgi import get_wsgi_application as application_of
    else:
        from django.core.asgi import get_asgi_application as application_of
    client = client_of(mounted(application_of()))
    assert asked(client, "/app/").body == b"hello from django"
    user = asked(client, "/app/user/J%C3%BCrgen?q=1&q=2")
    assert user.body == b'{"name": "J\\u00fcrgen", "q": ["1", "2"], "url": "/app/user/b"}'
    redirect = form(client, "/app/form", b"name=a+b")
    assert (redirect.status, redirect["Location"]) == (302, b"/app/user/a%20b")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Django's, of an iterator of the other kind
        assert asked(client, "/app/stream").body == b"0\n1\n2\n3\n4\n"
        assert asked(client, "/app/stream-async").body == b"0\n1\n2\n3\n4\n"
        (tmp_path / "large").write_bytes(LARGE)
        assert asked(client, f"/app/file?path={tmp_path}/large").body == LARGE
    assert asked(client, "/app/nothing").status == 404
    head = asked(client, "/app/", method="HEAD")
    assert (head.status, head["Content-Length"], head.body) == (200, b"17", b"")
    assert asked(client, "/app/form").status == 500  # POST["name"] is not there
    assert asked(client, "/app/").status == 200


class Journal:
    """What a Starlette application did beside answering."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.pathsends = 0


@pytest.fixture
def starlette_application(tmp_path: Path) -> Any:
    pytest.importorskip("starlette")
    from contextlib import asynccontextmanager
    from urllib.parse import parse_qs

    from starlette.applications import Starlette
    from starlette.background import BackgroundTask
    from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, RedirectResponse, StreamingResponse
    from starlette.routing import Route

    journal = Journal()
    (tmp_path / "large").write_bytes(LARGE)

    @asynccontextmanager
    async def lifespan(application: Any) -> Any:
        journal.lines.append("started")
        yield {"made": "at the start"}
        journal.lines.append("ended")

    async def index(request: Any) -> Any:
        return PlainTextResponse(f"hello from starlette, {request.state.made}")

    async def user(request: Any) -> Any:
        name = request.path_params["name"]
        return JSONResponse({"name": name, "q": request.query_params.getlist("q")})

    async def take(request: Any) -> Any:
        values = parse_qs((await request.body()).decode())
        return RedirectResponse(request.url_for("user", name=values["name"][0]), 303)

    async def stream(request: Any) -> Any:
        async def pieces() -> Any:
            for n in range(5):
                yield f"{n}\n"

        return StreamingResponse(pieces(), media_type="text/plain")

    async def file(request: Any) -> Any:
        return FileResponse(tmp_path / "large", media_type="application/x-large")

    async def background(request: Any) -> Any:
        return PlainTextResponse("soon", background=BackgroundTask(journal.lines.append, "background"))

    def in_thread(request: Any) -> Any:
        return PlainTextResponse(threading.current_thread().name)

    async def broken(request: Any) -> Any:
        raise ZeroDivisionError

    application = Starlette(
        routes=[
            Route("/", index),
            Route("/user/{name}", user, name="user"),
            Route("/form", take, methods=["POST"]),
            Route("/stream", stream),
            Route("/file", file),
            Route("/background", background),
            Route("/in-thread", in_thread),
            Route("/broken", broken),
        ],
        lifespan=lifespan,
    )

    async def listening(scope: Any, receive: Any, send: Any) -> None:
        async def told(message: Any) -> None:
            journal.pathsends += message["type"] == "http.response.pathsend"
            await send(message)

        await application(scope, receive, told)

    return listening, journal


def test_starlette(
    starlette_application: Any,
    mounted: Mounted,
    client_of: ConnectTo,
    wait_until: WaitUntil,
    caplog: pytest.LogCaptureFixture,
) -> None:
    application, journal = starlette_application
    client = client_of(mounted(application))
    assert journal.lines == ["started"]
    assert asked(client, "/app/").body == b"hello from starlette, at the start"
    user = asked(client, "/app/user/J%C3%BCrgen?q=1&q=2")
    assert user.body == '{"name":"Jürgen","q":["1","2"]}'.encode()
    redirect = form(client, "/app/form", b"name=a+b")
    assert (redirect.status, redirect["Location"]) == (303, b"http://test/app/user/a%20b")
    stream = asked(client, "/app/stream")
    assert (stream["Transfer-Encoding"], stream.body) == (b"chunked", b"0\n1\n2\n3\n4\n")
    assert asked(client, "/app/in-thread").status == 200
    assert asked(client, "/app/background").body == b"soon"
    wait_until(lambda: "background" in journal.lines)
    head = asked(client, "/app/", method="HEAD")
    assert (head.status, head["Content-Length"], head.body) == (200, b"34", b"")
    assert asked(client, "/app/nothing").status == 404
    assert asked(client, "/app/broken").status == 500
    assert asked(client, "/app/").status == 200
    wait_until(lambda: "ZeroDivisionError" in caplog.text)


@pytest.mark.parametrize("engine", ["python", "auto"])
def test_the_lifespan_of_starlette_ends_with_the_server(
    engine: Any, starlette_application: Any, site: Site, module: NameApplication
) -> None:
    application, journal = starlette_application
    with Server(Config(root=site.root, port=0, engine=engine, mount=(f"/app={module(application)}",))):
        assert journal.lines == ["started"]
    assert journal.lines == ["started", "ended"]


def test_starlette_sends_a_file_by_its_path(starlette_application: Any, mounted: Mounted, client_of: ConnectTo) -> None:
    application, journal = starlette_application
    client = client_of(mounted(application))
    whole = asked(client, "/app/file")
    assert (whole.status, whole["Content-Type"], whole.body == LARGE) == (200, b"application/x-large", True)
    assert journal.pathsends == 1
    part = asked(client, "/app/file", "Range: bytes=1000-1999")
    assert (part.status, part.body) == (206, LARGE[1000:2000])
    head = asked(client, "/app/file", method="HEAD")
    assert (head["Content-Length"], head.body) == (str(len(LARGE)).encode(), b"")
    assert asked(client, "/app/").status == 200


# --- WSGI, with the validator around ----------------------------------------------------------------------


def echo(environ: Any, start_response: Any) -> list[bytes]:
    body = environ["wsgi.input"].read(-1)
    told = f"{environ['REQUEST_METHOD']} {environ['SCRIPT_NAME']}|{environ['PATH_INFO']}?{environ['QUERY_STRING']} "
    start_response("200 OK", TEXT)
    return [told.encode("latin-1"), environ.get("CONTENT_LENGTH", "none").encode(), b" ", body]


def lazy(environ: Any, start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", TEXT)
    yield b""
    yield from (b"%d\n" % n for n in range(100))


def writing(environ: Any, start_response: Any) -> list[bytes]:
    write = start_response("200 OK", TEXT)
    write(b"written, ")
    write(LARGE)
    return [b"and returned"]


def nothing(environ: Any, start_response: Any) -> list[bytes]:
    start_response("204 No Content", [("X-A", "b")])
    return []


def lengthy(environ: Any, start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", [*TEXT, ("Content-Length", "6")])
    return iter([b"one", b"two"])


@pytest.mark.parametrize(
    ("application", "status", "body"),
    [
        (lazy, 200, b"".join(b"%d\n" % n for n in range(100))),
        (writing, 200, b"written, " + LARGE + b"and returned"),
        (nothing, 204, b""),
        (lengthy, 200, b"onetwo"),
    ],
    ids=["lazy", "writing", "nothing", "lengthy"],
)
def test_validated_applications(
    application: Any, status: int, body: bytes, mounted: Mounted, client_of: ConnectTo
) -> None:
    client = client_of(mounted(validator(application)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of an iterator that was not closed
        for _ in range(3):  # and the connection is kept
            answer = asked(client, "/app/")
            assert (answer.status, answer.body == body) == (status, True)
        head = asked(client, "/app/", method="HEAD")
        assert (head.status, head.body) == (status, b"")
        assert asked(client, "/app/").body == body
        gc.collect()


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_a_validated_echo_of_any_method(method: str, mounted: Mounted, client_of: ConnectTo) -> None:
    client = client_of(mounted(validator(echo)))
    answer = asked(client, "/app/a%20b/c?d=e", method=method, body=b"body")
    assert answer.body == b"%b /app|/a b/c?d=e 4 body" % method.encode()


def test_a_body_in_chunks_arrives_whole(mounted: Mounted, client_of: ConnectTo) -> None:
    client = client_of(mounted(validator(echo)))
    client.send(b"POST /app HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfour\r\n")
    client.send(b"5\r\n five\r\n0\r\n\r\n")
    assert client.read().body == b"POST /app|? 9 four five"


def test_a_body_larger_than_is_read_is_413(mounted: Mounted, client_of: ConnectTo) -> None:
    server = mounted(echo, servlet_body_bytes_max=1000)
    assert asked(client_of(server), "/app/", method="POST", body=b"x" * 1000).status == 200
    assert asked(client_of(server), "/app/", method="POST", body=b"x" * 1001).status == 413


def test_an_http_1_0_client_gets_a_stream_until_the_end(mounted: Mounted, client_of: ConnectTo) -> None:
    client = client_of(mounted(validator(lazy)))
    client.ask("/app/", version="1.0")
    answer = client.read()
    assert answer["Connection"] == b"close"
    assert answer.body == b"".join(b"%d\n" % n for n in range(100))


def test_pipelined_requests_are_answered_in_order(mounted: Mounted, client_of: ConnectTo, site: Site) -> None:
    site.write("static.txt", b"static")
    client = client_of(mounted(echo))
    targets = ["/app/1", "/static.txt", "/app/2", "/static.txt", "/nothing", "/app/3"]
    client.send(b"".join(b"GET %b HTTP/1.1\r\nHost: test\r\n\r\n" % target.encode() for target in targets))
    answers = [client.read() for _ in targets]
    assert [answer.status for answer in answers] == [200, 200, 200, 200, 404, 200]
    assert [answer.body[9:11] for answer in answers[::2]] == [b"/1", b"/2", answers[4].body[9:11]]
    assert answers[5].body == b"GET /app|/3? none "


def test_files_come_before_an_application(mounted: Mounted, client_of: ConnectTo, site: Site) -> None:
    site.write("app/file.txt", b"a file")
    client = client_of(mounted(echo))
    for _ in range(3):
        assert asked(client, "/app/file.txt").body == b"a file"
        assert asked(client, "/app/other.txt").body == b"GET /app|/other.txt? none "
    assert asked(client, "/app/file.txt", method="POST", body=b"x").body == b"POST /app|/file.txt? 1 x"


def test_a_unix_socket(live: Serve, site: Site, module: NameApplication, tmp_path: Path) -> None:
    seen: dict[str, Any] = {}

    def application(environ: Any, start_response: Any) -> list[bytes]:
        seen.update(environ)
        start_response("200 OK", TEXT)
        return [b"x"]

    path = str(tmp_path / "s")
    live(site.root, mount=(f"/app={module(validator(application))}",), listen=(f"unix:{path}",))
    with StageClient(path) as client:
        assert asked(client, "/app/").body == b"x"
    assert (seen["REMOTE_ADDR"], seen["SERVER_NAME"], seen["SERVER_PORT"]) == ("", "localhost", "80")


# --- files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["site", "elsewhere"])
@pytest.mark.parametrize("size", [0, 1000, 100_000, len(LARGE)])
def test_a_file_goes_out_by_every_extension(
    where: str,
    size: int,
    mounted: Mounted,
    client_of: ConnectTo,
    site: Site,
    tmp_path: Path,
    module: NameApplication,
    live: Serve,
) -> None:
    content = LARGE[:size]
    file = site.write("file", content) if where == "site" else tmp_path / "file"
    file.write_bytes(content)

    def wsgi(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", TEXT)
        return environ["wsgi.file_wrapper"](file.open("rb"))

    async def asgi(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise NotImplementedError
        await send({"type": "http.response.start", "status": 200})
        if scope["path"].endswith("path"):
            await send({"type": "http.response.pathsend", "path": str(file)})
            return
        with file.open("rb") as opened:
            for n in range(3):
                await send({"type": "http.response.zerocopysend", "file": opened, "offset": 0, "more_body": n < 2})

    server = live(site.root, mount=(f"/w={module(wsgi)}", f"/a={module(asgi)}"))
    client = client_of(server)
    for _ in range(2):
        for target, times in (("/w", 1), ("/a/path", 1), ("/a/descriptor", 3)):
            answer = asked(client, target)
            assert answer.body == content * times
            assert (answer["Content-Length"] is None) == (times == 3)


def test_a_file_that_gets_shorter_ends_the_connection(mounted: Mounted, client_of: ConnectTo, tmp_path: Path) -> None:
    file = tmp_path / "file"
    with file.open("wb") as opened:
        opened.truncate(64 << 20)

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.pathsend", "path": str(file)})

    client = client_of(mounted(application), receive_buffer=4096)
    client.ask("/app/")
    client.read_head()
    os.truncate(file, 1000)
    assert len(client.read_to_end()) < 64 << 20


# --- failures, clients that go, and their pace ------------------------------------------------------------


def failing(when: str) -> tuple[Any, Any]:
    """A WSGI and an ASGI application that fail at "start" or "later"."""

    def wsgi(environ: Any, start_response: Any) -> Iterator[bytes]:
        if when == "start":
            raise ZeroDivisionError
        start_response("200 OK", TEXT)
        yield b"begun"
        raise ZeroDivisionError

    async def asgi(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or when == "start":
            raise ZeroDivisionError
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        raise ZeroDivisionError

    return wsgi, asgi


@pytest.mark.parametrize("gateway", [0, 1], ids=["wsgi", "asgi"])
def test_a_failure_at_the_start_is_a_500_and_the_connection_goes_on(
    gateway: int, mounted: Mounted, client_of: ConnectTo, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.write("static.txt", b"static")
    client = client_of(mounted(failing("start")[gateway]))
    answer = asked(client, "/app/")
    number = answer.body.partition(b"error ")[2][:8].decode()
    assert answer.status == 500
    assert number
    assert number in caplog.text
    assert asked(client, "/static.txt").body == b"static"


@pytest.mark.parametrize("gateway", [0, 1], ids=["wsgi", "asgi"])
def test_a_failure_later_ends_the_connection_before_the_end_of_the_content(
    gateway: int,
    mounted: Mounted,
    client_of: ConnectTo,
    site: Site,
    wait_until: WaitUntil,
    caplog: pytest.LogCaptureFixture,
) -> None:
    site.write("static.txt", b"static")
    server = mounted(failing("later")[gateway])
    client = client_of(server)
    client.ask("/app/")
    assert b"200 OK" in client.read_head()
    assert client.read_chunk() == b"begun"
    with pytest.raises(EOFError):
        client.read_chunk()
    wait_until(lambda: "cut short" in caplog.text)
    assert asked(client_of(server), "/static.txt").body == b"static"


class Endless:
    """A WSGI and an ASGI application that give pieces without end: how many were asked for, and whether they ended."""

    def __init__(self) -> None:
        self.pieces = 0
        self.ended = threading.Event()
        self.told: list[str] = []

    def wsgi(self, environ: Any, start_response: Any) -> Any:
        start_response("200 OK", TEXT)
        return self

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        self.pieces += 1
        return PIECE

    def close(self) -> None:
        self.ended.set()

    def writing(self, environ: Any, start_response: Any) -> list[bytes]:
        write = start_response("200 OK", TEXT)
        try:
            while True:
                self.pieces += 1
                write(PIECE)
        finally:
            self.ended.set()

    async def asgi(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        await receive()
        await send({"type": "http.response.start", "status": 200})
        try:
            while True:
                self.pieces += 1
                await send({"type": "http.response.body", "body": PIECE, "more_body": True})
        except OSError:
            self.told.append((await receive())["type"])
            raise
        finally:
            self.ended.set()


@pytest.mark.parametrize("gateway", ["wsgi", "writing", "asgi"])
def test_for_a_client_that_does_not_read_the_application_is_not_asked_for(
    gateway: str, mounted: Mounted, client_of: ConnectTo, site: Site, wait_until: WaitUntil
) -> None:
    site.write("static.txt", b"static")
    endless = Endless()
    server = mounted(getattr(endless, gateway))
    reader = client_of(server, receive_buffer=4096)
    other = client_of(server)
    reader.ask("/app/")
    reader.read_head()

    def is_at_rest() -> bool:
        pieces = endless.pieces
        for _ in range(50):
            assert other.get("/static.txt").body == b"static"
        return pieces == endless.pieces

    wait_until(is_at_rest)
    assert 0 < endless.pieces * len(PIECE) < 64 << 20  # what sockets hold
    pieces = endless.pieces
    while endless.pieces == pieces:  # it goes on when the client does
        reader.read_exactly(len(PIECE))
    reader.reset()
    assert endless.ended.wait(20)
    assert endless.told == (["http.disconnect"] if gateway == "asgi" else [])


@pytest.mark.parametrize("gateway", ["wsgi", "writing", "asgi"])
def test_a_client_that_goes_ends_its_content_and_is_no_failure(
    gateway: str, mounted: Mounted, client_of: ConnectTo, wait_until: WaitUntil, caplog: pytest.LogCaptureFixture
) -> None:
    endless = Endless()
    server = mounted(getattr(endless, gateway))
    client = client_of(server)
    client.ask("/app/")
    client.read_exactly(1 << 20)
    client.reset()
    assert endless.ended.wait(20)
    wait_until(lambda: not server.service.connections)
    assert "ERROR" not in [record.levelname for record in caplog.records]


@pytest.mark.parametrize("gateway", ["wsgi", "writing", "asgi"])
def test_head_of_what_has_no_end_ends(gateway: str, mounted: Mounted, client_of: ConnectTo) -> None:
    endless = Endless()
    client = client_of(mounted(getattr(endless, gateway)))
    head = asked(client, "/app/", method="HEAD")
    assert (head.status, head.body) == (200, b"")
    assert endless.ended.wait(20)
    assert asked(client, "/nothing").status == 404


def test_a_client_that_goes_before_the_answer_is_told(
    mounted: Mounted, client_of: ConnectTo, wait_until: WaitUntil
) -> None:
    received: list[str] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            received.append((await receive())["type"])
            received.append((await receive())["type"])

    client = client_of(mounted(application))
    client.ask("/app/")
    wait_until(lambda: received)
    client.reset()
    wait_until(lambda: received == ["http.request", "http.disconnect"])


def test_more_requests_than_may_wait_are_503_and_others_are_served(
    mounted: Mounted, client_of: ConnectTo, site: Site, wait_until: WaitUntil
) -> None:
    site.write("static.txt", b"static")
    release, waiting = threading.Event(), []

    def application(environ: Any, start_response: Any) -> list[bytes]:
        waiting.append(1)
        assert release.wait(20)
        start_response("200 OK", TEXT)
        return [b"late"]

    server = mounted(application, servlet_threads=1, servlet_queue_max=1)
    first, second, third = (client_of(server) for _ in range(3))
    first.ask("/app/")
    wait_until(lambda: waiting)
    second.ask("/app/")
    wait_until(lambda: [one.clock.state for one in connections_of(server.service)].count(State.WAIT) == 2)
    busy = asked(third, "/app/")
    assert (busy.status, busy["Retry-After"]) == (503, b"1")
    assert asked(third, "/static.txt").body == b"static"
    release.set()
    assert (first.read().body, second.read().body) == (b"late", b"late")


# --- the command ------------------------------------------------------------------------------------------

COMMAND_APPLICATION = """
async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            kind = (await receive())["type"]
            print(kind, flush=True)
            await send({"type": kind + ".complete"})
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": scope["path"].encode()})
"""


def test_the_command_mounts_what_lies_in_the_working_directory(
    command: StartCommand, site: Site, tmp_path: Path, wait_until: WaitUntil
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (here / "mounted_by_command.py").write_text(COMMAND_APPLICATION)
    started = command(site.root, "--mount", "/app=mounted_by_command:application", cwd=here)
    with StageClient(started.port) as client:
        assert asked(client, "/app/x").body == b"/app/x"
    assert started.stdout.read_text() == "lifespan.startup\n"
    started.process.terminate()
    assert started.wait() == 0
    assert started.stdout.read_text() == "lifespan.startup\nlifespan.shutdown\n"


def test_what_cannot_be_imported_keeps_the_server_from_starting(live: Serve, site: Site) -> None:
    with pytest.raises(UsageError, match="mounted_nowhere cannot be imported"):
        live(site.root, mount=("/app=mounted_nowhere:application",))
