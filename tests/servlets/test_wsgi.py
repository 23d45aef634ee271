"""WSGI applications (PEP 3333), driven from the connection's side."""

from __future__ import annotations

import gzip
import io
import logging
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from wsgiref.validate import validator

import pytest

from tests.support.connection_side import Side
from tests.support.waiting import Growth
from zcserve.cache.entry import ForeignSpan
from zcserve.servlets.workers import Pool
from zcserve.servlets.wsgi import Wsgi

PLAIN = [("Content-Type", "text/plain")]


@pytest.fixture
def side(tmp_path: Path) -> Iterator[Side]:
    side = Side(tmp_path, servlet_threads=1)  # so that all is shown to work where there is no other thread to help
    yield side
    side.finish_jobs()  # content is closed by one
    side.close()


def mounted(side: Side, application: Any, prefix: bytes = b"/app") -> Wsgi:
    return Wsgi(prefix, "mount /app=tests:application", application, side.context)


def answering(content: Any, *headers: tuple[str, str], status: str = "200 OK") -> Callable[..., Any]:
    """An application that answers everything alike."""

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        start_response(status, [*PLAIN, *headers] if status[:3] not in ("204", "304") else [*headers])
        return content() if callable(content) else content

    return application


class Content:
    """Pieces, and whether `close` was called."""

    def __init__(self, *pieces: Any) -> None:
        self._pieces = iter(pieces)
        self.closed = 0
        self.taken = 0

    def __iter__(self) -> Content:
        return self

    def __next__(self) -> Any:
        piece = next(self._pieces)
        self.taken += 1
        if isinstance(piece, BaseException):
            raise piece
        return piece

    def close(self) -> None:
        self.closed += 1


# --- answers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("validated", [False, True])
@pytest.mark.parametrize(
    "content",
    [[b"hello, world"], (b"hello, ", b"world"), [b"", b"hello, ", b"", b"world", b""]],
)
def test_a_list_is_answered_whole(side: Side, content: Any, validated: bool) -> None:
    application = answering(content)
    got = side.ask(mounted(side, validator(application) if validated else application), "/app/x?a=1")
    assert (got.status, got.content, got.whole) == (200, b"hello, world", True)
    assert got["Content-Type"] == ["text/plain"]
    if not validated:  # whose iterator hides that it is a list
        assert got.length == 12


def test_a_generator_is_asked_for_its_next_piece_when_the_one_before_is_out(side: Side) -> None:
    content = Content(b"", b"one", b"", b"two")
    asked = side.exchange().sent_to(mounted(side, answering(content)))
    assert asked.answer().length is None
    assert content.taken == 2
    assert asked.pull() == b"one"
    assert content.taken == 2
    assert asked.pull() == b"two"
    assert content.closed == 0
    assert asked.pull() == b""
    asked.stream().close()
    side.turn_until(lambda: content.closed == 1)


def test_what_is_known_to_be_all_there_is_no_stream(side: Side) -> None:
    content = Content(b"12345", b"")
    asked = side.exchange().sent_to(mounted(side, answering(content, ("Content-Length", "5"))))
    assert asked.answer().content == b"12345"
    assert asked.answer().length == 5
    side.turn_until(lambda: content.closed == 1)


def test_a_content_length_frames_a_stream_and_is_not_a_field(side: Side) -> None:
    content = Content(b"123", b"45")
    got = side.ask(mounted(side, answering(content, ("Content-Length", "5"))))
    assert (got.length, got.content, got["Content-Length"]) == (5, b"12345", [])
    side.turn_until(lambda: content.closed == 1)


def test_start_response_may_come_as_late_as_the_first_piece(side: Side) -> None:
    def application(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("201 Created", PLAIN)
        yield b"made"

    got = side.ask(mounted(side, application))
    assert (got.status, got.content) == (201, b"made")


@pytest.mark.parametrize(
    ("method", "status", "length"),
    [
        ("HEAD", "200 OK", 4),
        ("GET", "204 No Content", None),
        ("GET", "304 Not Modified", None),
        ("GET", "205 Reset", 0),
    ],
)
def test_where_no_content_is_sent_the_application_is_closed_after_its_first_piece(
    side: Side, method: str, status: str, length: int | None
) -> None:
    content = Content(b"1234", b"5678")
    headers = [("Content-Length", "4")] if method == "HEAD" else []
    got = side.ask(mounted(side, answering(content, *headers, status=status)), method=method)
    assert (got.status, got.length, got.content) == (int(status[:3]), length, b"")
    side.turn_until(lambda: content.closed == 1)
    assert content.taken == 1


def test_head_tells_the_length_of_content_that_is_all_there(side: Side) -> None:
    for content, length in (([b"12", b"34"], 4), ([b""], None), (iter([b"1234"]), None)):
        got = side.ask(mounted(side, answering(content)), method="HEAD")
        assert (got.length, got.content) == (length, b"")


def test_close_is_called_when_the_client_leaves_in_the_middle(side: Side) -> None:
    content = Content(*[b"piece"] * 1000)
    asked = side.exchange().sent_to(mounted(side, answering(content)))
    assert asked.pull() == b"piece"
    asked.stream().close()
    side.turn_until(lambda: content.closed == 1)
    assert content.taken == 1


def test_a_client_that_left_before_the_application_began_is_not_answered(side: Side) -> None:
    release, called = threading.Event(), []

    def application(environ: Any, start_response: Any) -> Any:
        called.append(environ["PATH_INFO"])
        assert release.wait(20)
        return answering([b"x"])(environ, start_response)

    resource = mounted(side, application)
    first = side.exchange("/app/first").sent_to(resource)
    gone = side.exchange("/app/gone").sent_to(resource)
    last = side.exchange("/app/last").sent_to(resource)
    assert gone.exchange.abandoned is not None
    gone.exchange.abandoned()
    release.set()
    assert (first.read().content, last.read().content) == (b"x", b"x")
    assert called == ["/first", "/last"]


def test_more_requests_than_may_wait_are_503(tmp_path: Path) -> None:
    release = threading.Event()

    def application(environ: Any, start_response: Any) -> Any:
        assert release.wait(20)
        return answering([b"x"])(environ, start_response)

    small = Side(tmp_path, servlet_threads=1, servlet_queue_max=2)
    resource = mounted(small, application)
    asked = [small.exchange().sent_to(resource) for _ in range(8)]
    refused = [one for one in asked if one.made is not None]
    assert refused
    for one in refused:
        got = one.read()
        assert (got.status, got["Retry-After"]) == (503, ["1"])
    release.set()
    for one in asked:
        if one not in refused:
            assert one.read().status == 200
    small.close()


# --- failures ---------------------------------------------------------------------------------------------


def raising(error: BaseException) -> Callable[..., Any]:
    def application(environ: Any, start_response: Any) -> Any:
        raise error

    return application


def never_starting(environ: Any, start_response: Any) -> list[bytes]:
    return [b"x"]


def starting_twice(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", PLAIN)
    start_response("200 OK", PLAIN)
    return [b"x"]


def writing_first(environ: Any, start_response: Any) -> list[bytes]:
    write = start_response("200 OK", PLAIN)
    write("text")
    return []


FAILURES = [
    (raising(ZeroDivisionError("nought")), "ZeroDivisionError"),
    (raising(SystemExit(3)), "SystemExit"),
    (never_starting, "without having called start_response"),
    (starting_twice, "without exc_info"),
    (writing_first, "must be bytes"),
    (answering(None), "NoneType"),
    (answering(["text"]), "str found"),
    (lambda environ, start_response: answering(Content("text"))(environ, start_response), "must be bytes"),
    (lambda environ, start_response: answering(Content(KeyError("first")))(environ, start_response), "KeyError"),
    (answering([b"x"], status="OK"), "is not a status"),
    (answering([b"x"], status="2000 Oh"), "is not a status"),
    (answering([b"x"], status="101 Switching Protocols"), "200 to 599"),
    (answering([b"x"], ("X-Split", "a\r\nSet-Cookie: b")), "control character"),
    (answering([b"x"], ("X Y", "z")), "no name of a header field"),
    (answering([b"x"], ("Content-Length", "-1")), "is not a Content-Length"),
    (answering([b"x"], ("Content-Length", "1"), ("Content-Length", "2")), "not the only one"),
    (answering([b"x"], ("Content-Length", "2")), "1 bytes less"),
    (answering([b"xyz"], ("Content-Length", "2")), "more content"),
    (answering([], ("Content-Length", "2")), "2 bytes less"),
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


@pytest.mark.parametrize(
    ("pieces", "headers", "got"),
    [
        ((b"one", ZeroDivisionError("nought")), [], b"one"),
        ((b"one", "text"), [], b"one"),
        ((b"one", b"two"), [("Content-Length", "5")], b"one"),
        ((b"one",), [("Content-Length", "5")], b"one"),
    ],
    ids=["raises", "no bytes", "too much", "too little"],
)
def test_what_fails_later_is_cut_short_and_closed(
    side: Side, caplog: pytest.LogCaptureFixture, pieces: Any, headers: Any, got: bytes
) -> None:
    content = Content(*pieces)
    answer = side.ask(mounted(side, answering(content, *headers)))
    assert (answer.status, answer.content, answer.whole) == (200, got, False)
    side.turn_until(lambda: content.closed == 1)
    assert "cut short" in caplog.text


def test_a_close_that_fails_is_told_and_nothing_else(side: Side, caplog: pytest.LogCaptureFixture) -> None:
    class Bad(Content):
        def close(self) -> None:
            super().close()
            raise ZeroDivisionError("at the end")

    content = Bad(b"x")
    assert side.ask(mounted(side, answering(content))).content == b"x"
    side.turn_until(lambda: content.closed == 1)
    side.finish_jobs()
    assert "at the end" in caplog.text


def test_exc_info_replaces_what_was_promised_before_it_is_out(side: Side) -> None:
    def application(environ: Any, start_response: Any) -> list[bytes]:
        import sys

        start_response("200 OK", [("Content-Type", "text/html")])
        try:
            raise KeyError("k")
        except KeyError:
            start_response("409 Conflict", PLAIN, sys.exc_info())
        return [b"sorry"]

    got = side.ask(mounted(side, validator(application)))
    assert (got.status, got["Content-Type"], got.content) == (409, ["text/plain"], b"sorry")


def test_exc_info_is_raised_again_when_the_head_is_out(side: Side, caplog: pytest.LogCaptureFixture) -> None:
    def application(environ: Any, start_response: Any) -> Iterator[bytes]:
        import sys

        start_response("200 OK", PLAIN)
        yield b"begun"
        try:
            raise KeyError("too late")
        except KeyError:
            start_response("500 Oh", PLAIN, sys.exc_info())
        yield b"never"

    got = side.ask(mounted(side, application))
    assert (got.content, got.whole) == (b"begun", False)
    assert "too late" in caplog.text


# --- write ------------------------------------------------------------------------------------------------


def test_write_waits_until_its_piece_is_out(side: Side) -> None:
    events: list[str] = []

    def application(environ: Any, start_response: Any) -> list[bytes]:
        write = start_response("200 OK", PLAIN)
        for piece in (b"one", b"", b"two"):
            write(piece)
            events.append(piece.decode())
        return [b"three"]

    asked = side.exchange().sent_to(mounted(side, validator(application)))
    assert asked.pull() == b"one"
    assert events == []
    assert asked.pull() == b"two"
    assert events == ["one", ""]
    assert asked.pull() == b"three"
    assert asked.pull() == b""


def test_write_holds_to_the_content_length(side: Side, caplog: pytest.LogCaptureFixture) -> None:
    def application(environ: Any, start_response: Any) -> list[bytes]:
        write = start_response("200 OK", [*PLAIN, ("Content-Length", environ["QUERY_STRING"])])
        write(b"one")
        write(b"two")
        return []

    assert side.ask(mounted(side, application), "/app/?6").content == b"onetwo"
    assert "failed" not in caplog.text
    assert not side.ask(mounted(side, application), "/app/?5").whole
    assert "more content" in caplog.text


def test_write_raises_when_the_client_is_gone_and_that_is_no_failure(
    side: Side, caplog: pytest.LogCaptureFixture
) -> None:
    ended = threading.Event()

    def application(environ: Any, start_response: Any) -> list[bytes]:
        write = start_response("200 OK", PLAIN)
        try:
            while True:
                write(b"more")
        finally:
            ended.set()

    asked = side.exchange().sent_to(mounted(side, application))
    assert asked.pull() == b"more"
    assert asked.pull() == b"more"
    asked.stream().close()
    assert ended.wait(20)
    side.finish_jobs()
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


# --- environ ----------------------------------------------------------------------------------------------


@pytest.fixture
def environ_of(side: Side) -> Callable[..., dict[str, Any]]:
    """`environ_of(target, *lines, prefix=b"/app", ...)`: what an application is told."""

    def ask(target: str, *lines: str, prefix: bytes = b"/app", **more: Any) -> dict[str, Any]:
        seen: dict[str, Any] = {}

        def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
            seen.update(environ)
            seen["body"] = environ["wsgi.input"].read(100)
            start_response("200 OK", PLAIN)
            return [b""]

        side.ask(mounted(side, validator(application), prefix), target, *lines, **more)
        return seen

    return ask


@pytest.mark.parametrize(
    ("target", "prefix", "script", "path", "query"),
    [
        ("/app", b"/app", "/app", "", ""),
        ("/app/", b"/app", "/app", "/", ""),
        ("/app/a/b?x=1&y=%20", b"/app", "/app", "/a/b", "x=1&y=%20"),
        ("/app/a%20b%3F?", b"/app", "/app", "/a b?", ""),
        ("/app/%C3%BC", b"/app", "/app", "/\xc3\xbc", ""),  # latin-1 of UTF-8: PEP 3333
        ("/%C3%BC/x", b"/%C3%BC", "/\xc3\xbc", "/x", ""),
        ("/app//a/../b", b"/app", "/app", "//a/../b", ""),
        ("http://host/app/x?q", b"/app", "/app", "/x", "q"),
        ("/x/y", b"", "", "/x/y", ""),
    ],
)
def test_paths_and_query(
    environ_of: Callable[..., dict[str, Any]], target: str, prefix: bytes, script: str, path: str, query: str
) -> None:
    environ = environ_of(target, prefix=prefix)
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"], environ["QUERY_STRING"]) == (script, path, query)
    assert environ["REQUEST_URI"] == target


def test_fields(environ_of: Callable[..., dict[str, Any]]) -> None:
    environ = environ_of(
        "/app/",
        "X-One:  a ",
        "x-one: b",
        "Cookie: a=1",
        "Cookie: b=2",
        "X_Forged: yes",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Length: 4",
        "X-Latin: \xe4",
        method="POST",
        body=b"body",
    )
    assert environ["HTTP_X_ONE"] == "a, b"
    assert environ["HTTP_COOKIE"] == "a=1; b=2"
    assert environ["HTTP_X_LATIN"] == "\xe4"
    assert "HTTP_X_FORGED" not in environ
    assert environ["CONTENT_TYPE"] == "text/plain; charset=utf-8"
    assert (environ["CONTENT_LENGTH"], environ["body"]) == ("4", b"body")
    assert environ["REQUEST_METHOD"] == "POST"
    assert environ["HTTP_HOST"] == "test"


def test_a_chunked_body_is_counted_and_not_chunked_any_more(environ_of: Callable[..., dict[str, Any]]) -> None:
    environ = environ_of("/app/", "Transfer-Encoding: chunked", method="POST", body=b"12345")
    assert (environ["CONTENT_LENGTH"], environ["body"]) == ("5", b"12345")
    assert "HTTP_TRANSFER_ENCODING" not in environ


@pytest.mark.parametrize(
    ("peer", "own", "remote", "server"),
    [
        (("127.0.0.1", 4711), ("127.0.0.2", 80), ("127.0.0.1", "4711"), ("127.0.0.2", "80")),
        (("::1", 4711, 0, 0), ("::ffff:10.0.0.1", 80, 0, 0), ("127.0.0.1", "4711"), ("10.0.0.1", "80")),
        ("", "/run/web.sock", ("", None), ("localhost", "80")),
        (None, None, ("", None), ("localhost", "80")),
    ],
)
def test_addresses(
    environ_of: Callable[..., dict[str, Any]], peer: object, own: object, remote: Any, server: Any
) -> None:
    environ = environ_of("/app/", peer=peer, own=own)
    assert (environ["REMOTE_ADDR"], environ.get("REMOTE_PORT")) == remote
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == server


def test_the_rest_of_what_pep_3333_asks_for(environ_of: Callable[..., dict[str, Any]]) -> None:
    environ = environ_of("/app/", version="HTTP/1.0")
    assert environ["SERVER_PROTOCOL"] == "HTTP/1.0"
    assert (environ["wsgi.version"], environ["wsgi.url_scheme"]) == ((1, 0), "http")
    assert (environ["wsgi.multithread"], environ["wsgi.run_once"]) == (True, False)


def test_errors_are_lines_of_the_log(side: Side, caplog: pytest.LogCaptureFixture) -> None:
    def application(environ: Any, start_response: Any) -> Any:
        errors = environ["wsgi.errors"]
        errors.write("half a ")
        errors.writelines(["line\nand another", "\n"])
        errors.write("no end")
        errors.flush()
        print("printed", file=errors)
        return answering([b"x"])(environ, start_response)

    side.ask(mounted(side, validator(application)))
    said = [record.getMessage().removeprefix("mount /app=tests:application: ") for record in caplog.records]
    assert said == ["half a line", "and another", "no end", "printed"]


def test_pieces_of_a_line_for_the_log_cost_what_they_are_long(
    environ_of: Callable[..., dict[str, Any]], growth: Growth, caplog: pytest.LogCaptureFixture
) -> None:
    errors = environ_of("/app")["wsgi.errors"]

    def print_one_line(size: int) -> None:
        for _ in range(size):
            errors.write("ten bytes.")
        errors.flush()

    caplog.set_level(logging.CRITICAL, "zcserve")
    assert growth(print_one_line, 20_000) < 8


class ThisThread(Pool):
    """Does what it is given at once."""

    def submit(self, job: Callable[[], None], *, begun: bool = False) -> None:
        job()


def test_lines_of_one_field_cost_what_they_are_long(
    side: Side, environ_of: Callable[..., dict[str, Any]], growth: Growth
) -> None:
    side.context = replace(side.context, pool=ThisThread(1, 1))

    def count(size: int) -> None:
        environ = environ_of("/app", *["X-Many: a value of some bytes"] * size)
        assert environ["HTTP_X_MANY"] == ", ".join(["a value of some bytes"] * size)

    assert growth(count, 10_000) < 8


def test_date_and_server_are_left_to_the_server(side: Side) -> None:
    got = side.ask(mounted(side, answering([b"x"], ("Date", "today"), ("Server", "me"), ("X-Kept", "1"))))
    assert (got["Date"], got["Server"], got["X-Kept"]) == ([], [], ["1"])


def test_a_response_that_several_threads_make_keeps_its_context_variables(tmp_path: Path) -> None:
    side = Side(tmp_path, servlet_threads=8)
    variable: ContextVar[str] = ContextVar("variable")
    threads = set()

    def application(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", PLAIN)
        token = variable.set(environ["PATH_INFO"])
        for _ in range(20):
            threads.add(threading.get_ident())
            yield variable.get().encode()
        variable.reset(token)  # raises in a context that is not the one of `set`
        assert not variable.get("")
        yield b"!"

    resource = mounted(side, application)
    several = [side.exchange(f"/app/{n}").sent_to(resource) for n in range(8)]
    for n, one in enumerate(several):
        assert one.read().content == f"/{n}".encode() * 20 + b"!"
    side.close()


# --- file_wrapper -----------------------------------------------------------------------------------------


def sending(open_file: Callable[[], Any], *headers: tuple[str, str]) -> Callable[..., Any]:
    def application(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [*PLAIN, *headers])
        return environ["wsgi.file_wrapper"](open_file(), 4)

    return application


def test_a_wrapped_file_goes_out_from_its_descriptor_and_from_its_position(side: Side, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"0123456789")
    opened = file.open("rb")
    assert opened.read(2) == b"01"  # the kernel's position is behind the buffer now
    asked = side.exchange().sent_to(mounted(side, sending(lambda: opened)))
    content = asked.answer().content
    assert isinstance(content, tuple)
    assert isinstance(content[0], ForeignSpan)
    side.turn_until(lambda: opened.closed)  # what is sent has a descriptor of its own
    got = asked.read()
    assert (got.length, got.content) == (8, b"23456789")


@pytest.mark.parametrize(("length", "content"), [("4", b"0123"), ("0", b""), ("10", b"0123456789")])
def test_a_wrapped_file_is_cut_at_the_content_length(side: Side, tmp_path: Path, length: str, content: bytes) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"0123456789")
    got = side.ask(mounted(side, sending(lambda: file.open("rb"), ("Content-Length", length))))
    assert (got.length, got.content) == (len(content), content)


def test_a_wrapped_file_that_is_shorter_than_promised_is_a_500(side: Side, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"0123456789")
    assert side.ask(mounted(side, sending(lambda: file.open("rb"), ("Content-Length", "11")))).status == 500


def test_what_has_a_descriptor_of_something_else_is_read(side: Side, tmp_path: Path) -> None:
    packed = tmp_path / "file.gz"
    packed.write_bytes(gzip.compress(b"unpacked"))
    for open_file in (partial(gzip.open, packed), partial(io.BytesIO, b"unpacked")):
        got = side.ask(mounted(side, sending(open_file)))
        assert (got.length, got.content) == (None, b"unpacked")


def test_a_wrapped_file_around_which_something_is_wrapped_is_read(side: Side, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"0123456789")
    got = side.ask(mounted(side, validator(sending(lambda: file.open("rb")))))
    assert got.content == b"0123456789"


def test_head_of_a_wrapped_file_has_its_length(side: Side, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"0123456789")
    application = sending(lambda: file.open("rb"), ("Content-Length", "10"))
    got = side.ask(mounted(side, application), method="HEAD")
    assert (got.length, got.content) == (10, b"")
