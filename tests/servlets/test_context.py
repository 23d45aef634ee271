"""zcserve.servlets.context: a failure is told twice, to the client and to the log, and by one id."""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.connection_side import Side
from zcserve.cache.heads import encode_fields
from zcserve.errors import HttpError
from zcserve.servlets.context import ID_BYTES
from zcserve.servlets.streams import SILENT_PAUSE_S, SILENT_TURNS_MAX
from zcserve.servlets.workers import BusyError


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


class Foreign(Exception):
    """What another library raises where a server that it asked said 404."""

    status = 404
    reason = "not of this server"


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
        (Foreign(), 500, b"<p>error "),
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


def test_an_http_error_that_cannot_be_sent_is_told_with_its_line(side: Side, caplog: pytest.LogCaptureFixture) -> None:
    try:
        raise HttpError(401, headers={"X": "a\nb"})  # this line
    except HttpError as error:
        side.context.fail("x", side.exchange().exchange, error)
    assert "the value of X has a line end" in caplog.text
    assert "# this line" in caplog.text


# --- failures ---------------------------------------------------------------------------------------------------


def raised(said: str) -> Exception:
    """An exception that has a traceback."""
    try:
        raise LookupError(said)  # by a servlet
    except LookupError as error:
        return error


def id_in(content: object) -> str:
    assert isinstance(content, bytes)
    (found,) = re.findall(rb"<p>error ([0-9a-f]+)</p>", content)
    return str(found, "ascii")


def test_the_client_and_the_log_have_the_same_id_and_no_two_failures_have(
    side: Side, caplog: pytest.LogCaptureFixture
) -> None:
    ids = []
    for _ in range(3):
        answer = side.context.fail("servlets/x.py:7", side.exchange("/x?k=v", method="PUT").exchange, raised("why"))
        assert answer.status == 500
        ids.append(id_in(answer.content))
        assert caplog.messages[-1] == f"servlets/x.py:7 failed, error {ids[-1]} at PUT /x?k=v:"
    assert len(set(ids)) == 3
    assert {len(each) for each in ids} == {2 * ID_BYTES}
    assert {record.levelname for record in caplog.records} == {"ERROR"}
    assert caplog.text.count("raise LookupError(said)  # by a servlet") == 3


def test_the_traceback_is_for_developers_and_cannot_be_markup(side: Side) -> None:
    shown = {}
    for dev in (False, True):
        config = dataclasses.replace(side.context.config, dev=dev)
        context = dataclasses.replace(side.context, config=config)
        content = context.fail("x", side.exchange().exchange, raised("<script>")).content
        assert isinstance(content, bytes)
        id_in(content)
        assert b"<script>" not in content
        shown[dev] = content
    assert b"raise LookupError(said)  # by a servlet" in shown[True]
    assert b"LookupError: &lt;script&gt;" in shown[True]
    assert b"<pre>" not in shown[False]
    assert b"LookupError" not in shown[False]


def test_a_page_of_a_failure_says_what_it_is_told_and_cannot_be_markup(side: Side) -> None:
    answer = side.context.failure_page("a < b", "its traceback", b"/")
    assert answer.status == 500
    assert isinstance(answer.content, bytes)
    assert b"<p>a &lt; b</p>" in answer.content
    assert b"its traceback" not in answer.content


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (HttpError(400, "bad"), []),
        (HttpError(499, "bad"), []),
        (HttpError(500, "worse"), ["x.py:1: 500: worse"]),
        (HttpError(503, "not\nnow"), ["x.py:1: 503: not\\nnow"]),
    ],
)
def test_an_http_error_is_a_line_where_it_says_that_the_server_is_at_fault(
    side: Side, caplog: pytest.LogCaptureFixture, error: HttpError, told: list[str]
) -> None:
    caplog.set_level(logging.INFO)
    assert side.context.fail("x.py:1", side.exchange().exchange, error).status == error.status
    assert caplog.messages == told
    assert all(record.levelname == "WARNING" and record.exc_info is None for record in caplog.records)


def test_an_http_error_without_a_reason_is_told_by_what_it_says(side: Side, caplog: pytest.LogCaptureFixture) -> None:
    class Wordless(HttpError):
        def __init__(self) -> None:
            super().__init__(502)
            self.reason = ""

        def __str__(self) -> str:
            return "the machine behind is away"

    assert side.context.fail("x", side.exchange().exchange, Wordless()).status == 502
    assert caplog.messages == ["x: 502: the machine behind is away"]


def test_what_cannot_be_sent_of_an_http_error_is_shown_to_developers_with_both_causes(side: Side) -> None:
    context = dataclasses.replace(side.context, config=dataclasses.replace(side.context.config, dev=True))
    content = context.fail("x", side.exchange().exchange, HttpError(401, headers={"X": "a\nb"})).content
    assert isinstance(content, bytes)
    assert b"HttpError: 401: Unauthorized" in content
    assert b"ValueError: the value of X has a line end" in content


def test_an_answer_that_is_cut_short_is_told_with_its_traceback(side: Side, caplog: pytest.LogCaptureFixture) -> None:
    side.context.cut_short("mount /app", side.exchange("/app/big", method="POST").exchange, raised("torn"))
    (record,) = caplog.records
    assert record.getMessage() == "mount /app failed at POST /app/big; its answer was cut short:"
    assert record.levelname == "ERROR"
    assert "LookupError: torn" in caplog.text


# --- no time, and no place ---------------------------------------------------------------------------------------


def test_busy_is_503_that_asks_to_come_again_and_a_line_that_says_why(
    side: Side, caplog: pytest.LogCaptureFixture
) -> None:
    answer = side.context.busy(side.exchange("/queue", method="POST").exchange, BusyError("no thread is free"))
    assert answer.status == 503
    assert [name for name, _ in answer.fields if name == b"Retry-After"]
    assert caplog.messages == ["POST /queue: answered 503, no thread is free"]
    for _ in range(3):
        assert side.context.busy(side.exchange("/queue").exchange, "no thread is free").status == 503
    assert len(caplog.messages) == 1, "a flood of requests is no flood of lines"


def test_an_iterator_that_stays_silent_is_asked_at_once_so_often_and_then_after_pauses(side: Side) -> None:
    later: list[tuple[float, object]] = []
    context = dataclasses.replace(side.context, call_later=lambda seconds, call: later.append((seconds, call)))

    def step() -> None:
        """A step of an iterator."""

    context.again(SILENT_TURNS_MAX - 1, step)
    assert side.calls.get_nowait() is step
    assert later == []
    context.again(SILENT_TURNS_MAX, step)
    assert side.calls.empty()
    assert later == [(SILENT_PAUSE_S, step)]
