"""What is told of failures, and failures where nobody looks for them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from servlets.connection_side import Side

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
        (http_error(404, None), 404, b"<p>None</p>"),
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


def test_where_no_thread_can_be_started_who_would_need_the_first_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
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
