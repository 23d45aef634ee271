"""zcserve.net.slow: requests that took long, from Python and from the lines of a lane."""

from __future__ import annotations

import pytest

from zcserve.net.slow import LOAD, SlowRequests
from zcserve.net.timers import Timers

COMBINED = b'127.0.0.1 - - [09/Sep/2001:01:46:40 +0000] "GET /a?b HTTP/1.1" 200 5 "-" "-"'
JSON = b'{"time": "2001-09-09T01:46:40Z", "peer": "unix:", "method": "PUT", "target": "/c", "status": 404, "bytes": 5}'


@pytest.fixture
def slow() -> SlowRequests:
    made = SlowRequests(1.0)
    made.begin(Timers())
    return made


def test_lines_that_are_marked_are_told_and_no_lines(slow: SlowRequests, caplog: pytest.LogCaptureFixture) -> None:
    lines = b"\x01a1.500000 %b\n%b\n\x01c2.000000 %b\n" % (COMBINED, COMBINED, JSON)
    assert slow.take_lines(lines) == COMBINED + b"\n"
    assert slow.take_lines(COMBINED) == COMBINED
    assert slow.count == 2
    assert caplog.messages == [
        "slow: GET /a?b: answered 200 after 1.500000 s to 127.0.0.1, waited for an application",
    ]


def test_the_first_is_told_at_once_and_then_the_slowest_of_all(
    slow: SlowRequests, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for took_s in (3.0, 1.0, 2.0):
        slow.note(f"GET /{took_s:g}", 200, took_s, "::1", LOAD)
    assert len(caplog.messages) == 1
    monkeypatch.setattr("zcserve.net.telling.TOLD_EVERY_S", 0.0)
    slow.tell()
    told = "slow: GET /2: answered 200 after 2.000000 s to ::1, waited for its file to be loaded (the slowest of 2)"
    assert caplog.messages[1:] == [told]


def test_what_a_client_says_is_printable_in_the_log(slow: SlowRequests, caplog: pytest.LogCaptureFixture) -> None:
    slow.note("GET /\n\x1b[31m\u202e", 200, 1.0, "::1", LOAD)
    assert caplog.messages[0].isprintable()
