"""Of each reason the first failed answer is told, and then how many there were."""

from __future__ import annotations

import time

import pytest

from zcserve.net.failures import Failures
from zcserve.net.telling import TOLD_EVERY_S
from zcserve.net.timers import Timers


def test_many_of_one_reason_are_told_together(caplog: pytest.LogCaptureFixture) -> None:
    timers = Timers()
    failures = Failures(timers)
    for number in range(4):
        failures.note(b"GET", b"/%d" % number, "answered 504, why")
    failures.note(b"POST", b"/a\x1b\xff", "answered 503, why")
    told = [record.getMessage() for record in caplog.records]
    assert told == ["GET /0: answered 504, why", "POST /a\\x1b\xff: answered 503, why"]
    now = time.monotonic()
    timers.fire(now + TOLD_EVERY_S - 1)
    assert len(caplog.records) == 2
    timers.fire(now + TOLD_EVERY_S + 1)
    assert [record.getMessage() for record in caplog.records[2:]] == ["GET /3: answered 504, why (the last of 3)"]
    timers.fire(now + 3 * TOLD_EVERY_S)  # nothing more has failed
    assert len(caplog.records) == 3
    failures.note(b"", b"/4", "answered 504, why")
    assert caplog.records[3].getMessage() == "GET /4: answered 504, why"
