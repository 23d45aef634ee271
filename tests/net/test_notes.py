"""zcserve.net.notes: what is noted of a request, and what it waited for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from zcserve.config.table import Config
from zcserve.net import slow
from zcserve.net.counts import Tally
from zcserve.net.notes import Notes
from zcserve.net.output import Output

HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n%b\r\n"


class Log:
    """Keeps what would be a line."""

    def __init__(self) -> None:
        self.records: list[tuple[Any, ...]] = []

    def record(self, *facts: Any) -> None:
        self.records.append(facts)


class Slow:
    """Keeps what would be told."""

    limit_s = 0.0

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def note(self, *facts: Any) -> None:
        self.told.append(facts)


def notes_of(*fields: str, log: Any = None, slow_requests: Any = None) -> Notes:
    return Notes(Config(root=Path(), access_log_fields=fields), log, slow_requests)


def test_what_was_not_asked_for_is_nothing_behind_the_line() -> None:
    for fields in (("host",), ("request_id",), ("duration",)):
        log = Log()
        notes = notes_of(*fields, log=log)
        note = notes.begin(0.0)
        notes.read(note, HEAD % b"X-Request-Id: one\r\n")
        notes.answered(note, Output(Tally()), "::1", b"GET", b"/", None, 200, 1)
        ((*facts, behind),) = log.records
        assert facts == ["::1", b"GET", b"/", None, 200, 1]
        assert [
            name for name, value in zip(("host", "request_id", "duration"), behind, strict=True) if value is not None
        ] == [*fields]


def test_applications_see_the_id_that_the_log_has() -> None:
    notes = notes_of("request_id", log=Log())
    for lines, shown in ((b"X-Request-Id: one\r\n", None), (b"X-Request-Id: a b\r\n", b""), (b"", b"")):
        note = notes.begin(0.0)
        notes.read(note, HEAD % lines)
        expected = HEAD % (lines if shown is None else b"X-Request-Id: %b\r\n" % note.request_id)
        assert notes.shown(note, HEAD % lines) == expected
    note = notes.begin(0.0)
    notes.read(note, HEAD % b"", b"given")  # by the lane
    assert notes.shown(note, HEAD % b"") == HEAD % b"X-Request-Id: given\r\n"


@pytest.mark.parametrize(
    ("began", "complete", "answered", "sent", "expected"),
    [
        (9.0, 9.0, 0.0, True, slow.LOAD),
        (9.0, 0.1, 0.0, True, slow.BODY),
        (9.0, 8.9, 8.8, True, slow.READER),
        (9.0, 8.9, 8.8, False, slow.GONE),
    ],
)
def test_what_took_longest_was_waited_for(
    monkeypatch: pytest.MonkeyPatch, began: float, complete: float, answered: float, sent: bool, expected: str
) -> None:
    """Times are seconds before the end."""
    slow_requests = Slow()
    notes, output = notes_of(slow_requests=slow_requests), Output(Tally())
    note = notes.begin(100 - began)
    note.complete, note.waited_for = 100 - complete, slow.LOAD
    output.add((b"answer",))
    monkeypatch.setattr("zcserve.net.notes.time.monotonic", lambda: 100 - answered)
    notes.answered(note, output, "::1", b"GET", b"/a", None, 200, 1)
    assert slow_requests.told == []
    monkeypatch.setattr("zcserve.net.notes.time.monotonic", lambda: 100.0)
    output.tell_out(0, sent=sent)
    assert slow_requests.told == [("GET /a", 200, began, "::1", expected)]
