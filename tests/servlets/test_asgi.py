"""ASGI applications: the http scope, its extensions, and lifespan, driven from the connection's side."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Iterator
from copy import copy
from pathlib import Path
from typing import Any

import pytest

from tests.support.connection_side import Asked, Side
from zcserve.cache.entry import ForeignSpan
from zcserve.errors import UsageError
from zcserve.servlets import asgi
from zcserve.servlets.asgi import DISCARDED_MAX, Asgi
from zcserve.servlets.gateway import ClientGoneError, GatewayRequest

PLAIN = [(b"content-type", b"text/plain")]


@pytest.fixture
def side(tmp_path: Path) -> Iterator[Side]:
    side = Side(tmp_path)
    yield side
    side.close()


def mounted(side: Side, application: Any, prefix: bytes = b"/app") -> Asgi:
    return Asgi(prefix, "mount /app=tests:application", application, side.context)


def start(*headers: tuple[bytes, bytes], status: int = 200) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": [*PLAIN, *headers]}


def body(content: Any, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": content, "more_body": more}


def sending(*messages: Any) -> Callable[..., Any]:
    """An application that sends these, and raises what is an exception among them: a copy, since what is raised holds
    the frames that it went by, and a parameter lives as long as the run does."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            if isinstance(message, BaseException):
                raise copy(message)
            await send(message)

    return application


# --- responses --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"hello", bytearray(b"hello"), memoryview(b"hello")])
def test_a_response_of_one_body_is_answered_whole(side: Side, content: Any) -> None:
    got = side.ask(mounted(side, sending(start(), body(content))))
    assert (got.status, got.length, got.content) == (200, 5, b"hello")
    assert got["content-type"] == ["text/plain"]


def test_a_body_may_be_left_out(side: Side) -> None:
    got = side.ask(mounted(side, sending(start(), {"type": "http.response.body"})))
    assert (got.status, got.length, got.content) == (200, 0, b"")


def test_send_returns_when_its_piece_is_out(side: Side) -> None:
    out: list[bytes] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send(start())
        for piece in (b"", b"one", b"", b"two"):
            await send(body(piece, True))
            out.append(piece)
        await send(body(b"three"))
        out.append(b"three")

    asked = side.exchange().sent_to(mounted(side, application))
    assert asked.answer().length is None
    side.turn_until(lambda: out == [b""])  # the head alone does not wait
    assert asked.pull() == b"one"
    assert out == [b""]
    assert asked.pull() == b"two"
    assert out == [b"", b"one", b""]
    assert asked.pull() == b"three"
    assert out == [b"", b"one", b"", b"two"]
    assert asked.pull() == b""
    asked.stream().close()
    side.turn_until(lambda: out[-1] == b"three")


def test_a_content_length_frames_a_stream_and_is_not_a_field(side: Side, caplog: pytest.LogCaptureFixture) -> None:
    ended = threading.Event()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send(start((b"content-length", b"5")))
        for piece in (b"123", b"45", b""):
            await send(body(piece, True))
        await send(body(b""))
        ended.set()

    got = side.ask(mounted(side, application))
    assert (got.length, got.content, got.whole, got["content-length"]) == (5, b"12345", True, [])
    assert ended.wait(20)  # though the connection has ended the stream with its last byte
    assert not caplog.records


def test_fields_that_are_the_connections_business_are_left_out(side: Side) -> None:
    theirs = [(name, b"x") for name in (b"date", b"Server", b"connection", b"keep-alive", b"transfer-encoding")]
    got = side.ask(mounted(side, sending(start(*theirs, (b"set-cookie", b"a"), (b"set-cookie", b"b")), body(b""))))
    assert got.fields == ((b"content-type", b"text/plain"), (b"set-cookie", b"a"), (b"set-cookie", b"b"))


@pytest.mark.parametrize(
    ("method", "status", "length"), [("HEAD", 200, 4), ("GET", 204, None), ("GET", 304, None), ("GET", 205, 0)]
)
def test_where_no_content_is_sent_it_is_thrown_away(side: Side, method: str, status: int, length: int | None) -> None:
    messages = [start((b"content-length", b"4"), status=status), body(b"12", True), body(b"34")]
    ended = threading.Event()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await sending(*messages)(scope, receive, send)
        ended.set()

    got = side.ask(mounted(side, application), method=method)
    assert (got.status, got.length, got.content) == (status, length, b"")
    assert ended.wait(20)


def test_head_tells_the_length_of_content_that_is_all_there(side: Side) -> None:
    for messages, length in (([body(b"1234")], 4), ([body(b"")], None), ([body(b"12", True), body(b"34")], None)):
        got = side.ask(mounted(side, sending(start(), *messages)), method="HEAD")
        assert (got.length, got.content) == (length, b"")


def test_head_of_a_stream_without_end_ends(side: Side, caplog: pytest.LogCaptureFixture) -> None:
    sent: list[int] = []
    raised: list[BaseException] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send(start())
        try:
            for n in range(10_000_000):
                await send(body(b"x", True))
                sent.append(n)
        except OSError as error:
            raised.append(error)
            raise

    got = side.ask(mounted(side, application), method="HEAD")
    assert (got.status, got.length) == (200, None)
    side.turn_until(lambda: raised)
    assert len(sent) == DISCARDED_MAX
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


# --- failures ---------------------------------------------------------------------------------------------

FAILURES = [
    (sending(ZeroDivisionError("nought")), "ZeroDivisionError"),
    (sending(SystemExit(3)), "SystemExit"),
    (sending(KeyboardInterrupt()), "KeyboardInterrupt"),
    (sending(), "before its response was complete"),
    (sending(start()), "before its response was complete"),
    (sending(start(), ZeroDivisionError("later")), "later"),
    (sending(body(b"x")), "before http.response.start"),
    (sending(start(), start()), "sent twice"),
    (sending(start(), {"type": "http.response.push"}), "no message of a response"),
    (sending(start(), body("text")), "TypeError"),
    (sending(start(status=101)), "200 to 599"),
    (sending({"type": "http.response.start"}), "KeyError"),
    (sending(start((b"x", b"a\r\nb"))), "control character"),
    (sending(start((b"a b", b"c"))), "no name of a header field"),
    (sending(start((b"content-length", b"two")), body(b"x")), "is not a Content-Length"),
    (sending(start((b"content-length", b"2")), body(b"x")), "1 bytes less"),
    (sending(start((b"content-length", b"2")), body(b"xyz")), "more content"),
    (sending(start(), {"type": "http.response.pathsend", "path": "/nowhere/at/all"}), "FileNotFoundError"),
]


@pytest.mark.parametrize(("application", "said"), FAILURES, ids=[said for _, said in FAILURES])
def test_what_fails_before_its_head_is_out_is_a_500_with_an_id_that_the_log_repeats(
    side: Side, caplog: pytest.LogCaptureFixture, application: Any, said: str
) -> None:
    got = side.ask(mounted(side, application))
    assert got.status == 500
    assert said in caplog.text
    number = got.content.partition(b"error ")[2][:8].decode()
    assert number
    assert number in caplog.text
    # The asyncio thread is shared: it goes on.
    assert side.ask(mounted(side, sending(start(), body(b"next")))).content == b"next"


@pytest.mark.parametrize(
    "messages",
    [
        (start(), body(b"one", True), ZeroDivisionError("nought")),
        (start(), body(b"one", True)),
        (start(), body(b"one", True), {"type": "http.response.pathsend", "path": "/"}),
        (start((b"content-length", b"5")), body(b"one", True), body(b"two", True)),
        (start((b"content-length", b"5")), body(b"one", True), body(b"")),
    ],
    ids=["raises", "returns", "pathsend", "too much", "too little"],
)
def test_what_fails_later_is_cut_short(side: Side, caplog: pytest.LogCaptureFixture, messages: Any) -> None:
    got = side.ask(mounted(side, sending(*messages)))
    assert (got.status, got.content, got.whole) == (200, b"one", False)
    assert "cut short" in caplog.text


def test_what_is_sent_or_raised_when_all_is_complete_changes_nothing(
    side: Side, caplog: pytest.LogCaptureFixture
) -> None:
    application = sending(start(), body(b"all"), body(b"more"), start(), ZeroDivisionError("at the end"))
    asked = side.exchange().sent_to(mounted(side, application))
    assert asked.read().content == b"all"
    side.turn_until(lambda: "at the end" in caplog.text)


# --- the client goes --------------------------------------------------------------------------------------


def test_a_client_that_goes_before_the_answer_is_told_by_receive(side: Side) -> None:
    received: list[dict[str, Any]] = []
    raised: list[BaseException] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        received.append(await receive())
        received.append(await receive())
        try:
            await send(start())
        except OSError as error:
            raised.append(error)

    asked = side.exchange(method="POST", body=b"body").sent_to(mounted(side, application))
    side.turn_until(lambda: received)
    assert received == [{"type": "http.request", "body": b"body", "more_body": False}]
    assert asked.exchange.abandoned is not None
    asked.exchange.abandoned()
    side.turn_until(lambda: raised)
    assert received[1] == {"type": "http.disconnect"}
    assert isinstance(raised[0], ClientGoneError)


def test_a_client_that_goes_in_the_middle_is_told_by_send_and_receive(
    side: Side, caplog: pytest.LogCaptureFixture
) -> None:
    ended: list[object] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        waiting = asyncio.create_task(receive())
        await send(start())
        try:
            while True:
                await send(body(b"more", True))
        finally:
            ended.append(await waiting)

    asked = side.exchange().sent_to(mounted(side, application))
    assert asked.pull() == b"more"
    assert asked.pull() == b"more"
    asked.stream().close()
    side.turn_until(lambda: ended)
    assert ended == [{"type": "http.disconnect"}]
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_receive_says_disconnect_when_the_response_is_complete(side: Side) -> None:
    received: list[str] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        listening = asyncio.create_task(receive())
        received.append((await listening)["type"])
        listening = asyncio.create_task(receive())
        await send(start())
        await send(body(b"x"))
        received.append((await listening)["type"])

    assert side.ask(mounted(side, application)).content == b"x"
    side.turn_until(lambda: len(received) == 2)
    assert received == ["http.request", "http.disconnect"]


def test_what_runs_when_the_server_ends_is_cancelled(side: Side) -> None:
    begun, cancelled = threading.Event(), threading.Event()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        begun.set()
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    asked = side.exchange().sent_to(mounted(side, application))
    assert begun.wait(20)
    side.close()
    assert cancelled.is_set()
    assert asked.read().status == 503


# --- scope ------------------------------------------------------------------------------------------------


def scope_of(side: Side, *asked: Any, prefix: bytes = b"/app", **more: Any) -> dict[str, Any]:
    seen: dict[str, Any] = {}

    async def application(scope: Any, receive: Any, send: Any) -> None:
        seen.update(scope)
        await sending(start(), body(b""))(scope, receive, send)

    side.ask(mounted(side, application, prefix), *asked, **more)
    return seen


@pytest.mark.parametrize(
    ("target", "prefix", "path", "raw_path", "query"),
    [
        ("/app", b"/app", "/app", b"/app", b""),
        ("/app/a%20b?x=%20&y", b"/app", "/app/a b", b"/app/a%20b", b"x=%20&y"),
        ("/%C3%BC/%e2%82%ac", b"/%C3%BC", "/ü/€", b"/%C3%BC/%e2%82%ac", b""),
        ("http://host/app/x?q", b"/app", "/app/x", b"/app/x", b"q"),
        ("/x", b"", "/x", b"/x", b""),
    ],
)
def test_paths_and_query(side: Side, target: str, prefix: bytes, path: str, raw_path: bytes, query: bytes) -> None:
    scope = scope_of(side, target, prefix=prefix)
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == (path, raw_path, query)
    assert scope["path"].startswith(scope["root_path"])


def test_the_rest_of_the_scope(side: Side) -> None:
    scope = scope_of(side, "/app/", "X-One: a ", "x-one:b", version="HTTP/1.0", method="PUT")
    assert (scope["type"], scope["method"], scope["http_version"], scope["scheme"]) == ("http", "PUT", "1.0", "http")
    assert scope["asgi"] == {"version": "3.0", "spec_version": "2.4"}
    assert scope["headers"] == [(b"host", b"test"), (b"x-one", b"a"), (b"x-one", b"b")]
    assert (scope["client"], scope["server"]) == (("127.0.0.1", 40000), ("127.0.0.1", 8080))
    assert "state" not in scope
    scope = scope_of(side, peer="", own="/run/web.sock")
    assert (scope["client"], scope["server"]) == (None, None)


# --- files ------------------------------------------------------------------------------------------------

CONTENT = bytes(range(256)) * 100


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "file"
    file.write_bytes(CONTENT)
    return file


def pathsend(path: Path) -> dict[str, Any]:
    return {"type": "http.response.pathsend", "path": str(path)}


def zerocopysend(file: Any, more: bool = False, **more_keys: Any) -> dict[str, Any]:
    return {"type": "http.response.zerocopysend", "file": file, "more_body": more} | more_keys


def test_the_extensions_are_offered(side: Side) -> None:
    assert scope_of(side)["extensions"] == {"http.response.pathsend": {}, "http.response.zerocopysend": {}}


def test_the_user_is_an_extension_where_the_server_has_checked_a_password(side: Side) -> None:
    asgi = mounted(side, sending(start(), body(b"")))
    asked = side.exchange()
    asked.exchange.user = "josé".encode()
    scope = asgi.scope(GatewayRequest(asgi.prefix, asked.exchange))
    assert scope["extensions"]["zcserve.auth"] == {"type": "Basic", "user": "josé"}
    assert "user" not in scope


def test_pathsend_sends_a_file_and_its_length(side: Side, file: Path) -> None:
    asked = side.exchange().sent_to(mounted(side, sending(start(), pathsend(file))))
    content: Any = asked.answer().content
    assert [type(segment) for segment in content] == [ForeignSpan]
    got = asked.read()
    assert (got.length, got.content) == (len(CONTENT), CONTENT)


def test_pathsend_of_a_file_of_another_size_than_promised_is_a_500(side: Side, file: Path) -> None:
    for length in (b"25599", b"25601"):
        application = sending(start((b"content-length", length)), pathsend(file))
        assert side.ask(mounted(side, application)).status == 500


def test_pathsend_of_an_empty_file(side: Side, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    got = side.ask(mounted(side, sending(start(), pathsend(empty))))
    assert (got.status, got.length, got.content) == (200, 0, b"")


def test_head_by_pathsend_has_the_promised_length(side: Side, file: Path) -> None:
    application = sending(start((b"content-length", b"25600")), pathsend(file))
    got = side.ask(mounted(side, application), method="HEAD")
    assert (got.status, got.length, got.content) == (200, 25600, b"")


def test_zerocopysend_and_bodies_may_follow_each_other(side: Side, file: Path) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send(start())
        await send(body(b"<", True))
        with file.open("rb") as opened:
            opened.read(10)
            await send(zerocopysend(opened, True, count=5))
            await send(zerocopysend(opened, True, count=5))
            await send(zerocopysend(opened.fileno(), True, offset=0, count=3))
            await send(zerocopysend(opened, True, offset=10**9))
        await send(body(b">"))

    asked = side.exchange().sent_to(mounted(side, application))
    assert asked.pull() == b"<"
    assert isinstance(asked.pull(), ForeignSpan)
    got = side.ask(mounted(side, application))
    assert got.content == b"<" + CONTENT[10:20] + CONTENT[:3] + b">"


def test_zerocopysend_alone_is_answered_whole_and_the_file_may_be_closed_at_once(side: Side, file: Path) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send(start())
        fd = os.open(file, os.O_RDONLY)
        await send(zerocopysend(fd, offset=100))
        os.close(fd)

    got = side.ask(mounted(side, application))
    assert (got.length, got.content) == (len(CONTENT) - 100, CONTENT[100:])


# --- lifespan ---------------------------------------------------------------------------------------------


class Living:
    """An application with a lifespan that goes as it is told."""

    def __init__(self, starting: str = "complete", ending: str = "complete") -> None:
        self.seen: list[str] = []
        self._starting = starting
        self._ending = ending

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            self.seen.append(f"{scope.get('state')}")
            scope.get("state", {})["own"] = 1
            await sending(start(), body(b"x"))(scope, receive, send)
            return
        assert scope["type"] == "lifespan"
        for how in (self._starting, self._ending):
            try:
                message = await receive()
            except asyncio.CancelledError:
                self.seen.append("cancelled")
                raise
            self.seen.append(message["type"])
            if how == "raise":
                raise ZeroDivisionError(message["type"])
            if how == "return":
                return
            if how == "sleep":
                await asyncio.sleep(1000)
            scope["state"]["made"] = "here"
            await send({"type": f"{message['type']}.{how}", "message": "Traceback:\n  no database"})
        return


def test_an_application_lives_from_start_to_close(side: Side) -> None:
    application = Living()
    resource = mounted(side, application)
    resource.start()
    assert application.seen == ["lifespan.startup"]
    side.ask(resource)
    side.ask(resource)  # what a request puts into its state is its own
    assert application.seen[1:] == ["{'made': 'here'}"] * 2
    resource.close()
    assert application.seen[3:] == ["lifespan.shutdown"]
    resource.close()
    assert application.seen[4:] == []


@pytest.mark.parametrize("starting", ["raise", "return"])
def test_an_application_without_lifespan_is_served_without(
    side: Side, starting: str, caplog: pytest.LogCaptureFixture
) -> None:
    application = Living(starting)
    resource = mounted(side, application)
    resource.start()
    assert side.ask(resource).content == b"x"
    assert application.seen == ["lifespan.startup", "None"]
    resource.close()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_an_application_that_cannot_start_keeps_the_server_from_starting_and_is_not_left_waiting(
    side: Side, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asgi, "FAILED_WITHIN_S", 0.01)
    application = Living("failed")
    with pytest.raises(UsageError, match="could not start:   no database"):
        mounted(side, application).start()
    assert "Traceback:" in caplog.text
    side.turn_until(lambda: application.seen == ["lifespan.startup", "cancelled"])


@pytest.mark.parametrize(
    ("ending", "said"), [("failed", "no database"), ("raise", "ZeroDivisionError"), ("sleep", "did not end")]
)
def test_trouble_at_the_end_is_told(
    side: Side, ending: str, said: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    if ending == "sleep":
        monkeypatch.setattr(asgi, "SHUTDOWN_WITHIN_S", 0.01)
    resource = mounted(side, Living(ending=ending))
    resource.start()
    resource.close()
    side.turn_until(lambda: said in caplog.text)


def test_requests_of_one_thread_do_not_wait_for_each_other(side: Side) -> None:
    arrived: list[Any] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        arrived.append(asyncio.Event())
        if len(arrived) == 20:
            for event in arrived:
                event.set()
        await arrived[-1].wait()
        await sending(start(), body(scope["path"].encode()))(scope, receive, send)

    resource = mounted(side, application)
    several: list[Asked] = [side.exchange(f"/app/{n}").sent_to(resource) for n in range(20)]
    assert [one.read().content for one in several] == [f"/app/{n}".encode() for n in range(20)]
