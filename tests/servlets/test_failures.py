"""What is told of failures, and failures where they are not looked for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.connection_side import Side
from zcserve.cache.heads import encode_fields
from zcserve.errors import HttpError
from zcserve.servlets.streams import AsyncStream
from zcserve.servlets.workers import BusyError, Pool


@pytest.fixture
def side(tmp_path: Path) -> Iterator[Side]:
    side = Side(tmp_path)
    yield side
    side.close()


class Mute(Exception):
    def __str__(self) -> str:
        raise SystemExit("no words")


class Bare(HttpError):
    """Whose author forgot super().__init__()."""

    def __init__(self) -> None:
        pass


def http_error(status: Any, reason: Any = "why") -> HttpError:
    return HttpError(status, reason)


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (http_error(404), 404, b"<p>why</p>"),
        (http_error(599), 599, b"<p>why</p>"),
        (http_error(400, "<b>"), 400, b"<p>&lt;b&gt;</p>"),
        (http_error(400, "\ud800"), 400, rb"<p>\ud800</p>"),
        (HttpError(404), 404, b"<h1>404 Not Found</h1><p>zcserve</p>"),
        (http_error(413, None), 413, b"<h1>413 Content Too Large</h1><p>zcserve</p>"),
        (HttpError(599), 599, b"<p>an error without a name</p>"),
        (HttpError(422, json={"a": "\xfc"}), 422, '{"a":"ü"}'.encode()),
        (HttpError(422, "why", json=[]), 422, b"[]"),
        (HttpError(422, json=0), 422, b"0"),
        (HttpError(422, json={1, 2}), 500, b"<p>error "),
        (HttpError(401, headers={"WWW-Authenticate": "Basic\r\nX-Split: yes"}), 500, b"<p>error "),
        (HttpError(401, headers={"Content-Length": "3"}), 500, b"<p>error "),
        (http_error(99), 500, b"<p>error "),
        (http_error(100), 500, b"<p>error "),  # a final answer would have to follow
        (http_error(303), 500, b"<p>error "),
        (http_error(600), 500, b"<p>error "),
        (http_error("404"), 500, b"<p>error "),
        (http_error("404 No\r\nX-Split: yes"), 500, b"<p>error "),
        (http_error(404.0), 500, b"<p>error "),
        (Bare(), 500, b"<p>error "),
        (Mute(), 500, b"<p>error "),
        (KeyboardInterrupt(), 500, b"<p>error "),
    ],
)
def test_what_an_error_is_answered_with(side: Side, error: BaseException, status: int, said: bytes) -> None:
    answer = side.context.fail("servlets/x.py:1", side.exchange().exchange, error)
    assert answer.status == status
    assert isinstance(answer.content, bytes)
    assert said in answer.content


def test_an_http_error_has_fields(side: Side) -> None:
    def fields_of(error: HttpError) -> list[bytes]:
        fields = side.context.fail("x", side.exchange().exchange, error).fields
        return encode_fields(fields).splitlines()

    html, json, nosniff = (
        b"Content-Type: text/html; charset=utf-8", b"Content-Type: application/json", b"X-Content-Type-Options: nosniff"
    )  # fmt: skip
    assert fields_of(HttpError(401, headers={"WWW-Authenticate": "Basic"})) == [
        html,
        nosniff,
        b"WWW-Authenticate: Basic",
    ]
    pairs = [("Retry-After", "30"), ("Link", "<a>"), ("Link", "<b>")]
    assert fields_of(HttpError(503, headers=pairs, json={})) == [
        json, b"Retry-After: 30", b"Link: <a>", b"Link: <b>", nosniff
    ]  # fmt: skip
    problem = {"Content-Type": "application/problem+json"}
    assert fields_of(HttpError(403, headers=problem, json={})) == [b"Content-Type: application/problem+json", nosniff]
    with pytest.raises(ValueError, match="goes with json="):
        HttpError(403, headers=problem)


def test_an_http_error_that_cannot_be_sent_is_told_with_its_line(side: Side, caplog: pytest.LogCaptureFixture) -> None:
    try:
        raise HttpError(401, headers={"X": "a\nb"})  # this line
    except HttpError as error:
        side.context.fail("x", side.exchange().exchange, error)
    assert "the value of X has a line end" in caplog.text
    assert "# this line" in caplog.text


def test_an_http_error_says_what_it_is() -> None:
    assert (str(HttpError(404)), HttpError(404).reason) == ("404: Not Found", "Not Found")
    assert (str(HttpError(410, "sold")), HttpError(410, "sold").headers) == ("410: sold", ())


class Closing:
    """An asynchronous iterator that fails when it is closed."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        return b"piece"

    async def aclose(self) -> None:
        raise self._error


async def generator(error: BaseException) -> AsyncIterator[bytes]:
    try:
        while True:
            yield b"piece"
    finally:
        raise error


@pytest.mark.parametrize("made", [Closing, generator])
@pytest.mark.parametrize("error", [ValueError("v"), RuntimeError("not: is running already"), SystemExit(1)])
def test_what_closing_an_asynchronous_iterator_raises_is_told_once(side: Side, made: Any, error: BaseException) -> None:
    failures: list[BaseException] = []
    given: list[object] = []
    stream = AsyncStream(made(error), side.context.tasks, side.context.call_soon, failures.append)
    stream.pull(given.append)
    side.turn_until(lambda: given)
    stream.close()
    side.turn_until(lambda: failures)
    assert failures == [error]
    assert side.context.tasks.start(asyncio.sleep(0, "goes on")).result(20) == "goes on"


def test_where_no_thread_can_be_started_the_job_that_needs_the_first_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    done: list[str] = []
    go, ended = threading.Event(), threading.Event()
    pool = Pool(2, 8)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(BusyError, match="can't start new thread"):
            pool.submit(lambda: done.append("never"))
    pool.submit(lambda: (done.append("first"), go.wait(20))[0])
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        pool.submit(lambda: done.append("second"))  # by the one that there is
    go.set()
    pool.submit(ended.set)
    assert ended.wait(20)
    pool.close()
    assert "never" not in done
    assert sorted(done) == ["first", "second"]
