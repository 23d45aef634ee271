"""zcserve.net.shortage: what is told of clients that found no room, and how often."""

from __future__ import annotations

import pytest

from zcserve.net.shortage import CONNECTIONS, DESCRIPTORS, Shortage, Want
from zcserve.net.telling import TOLD_EVERY_S
from zcserve.net.timers import Timers

WHY = Want(CONNECTIONS, "--connections-max 10 is reached")


class Desk:
    """A shortage, and a clock."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog
        self.timers = Timers()
        self.shortage = Shortage(self.timers)
        self.now = 1000.0

    def told(self) -> list[str]:
        """What was told since the last call."""
        lines = [record.getMessage() for record in self._caplog.records]
        self._caplog.clear()
        return lines

    def later(self, seconds: float) -> None:
        self.now += seconds
        self.timers.fire(self.now)


def test_the_first_time_is_told_at_once_and_the_rest_together_with_totals_since(
    caplog: pytest.LogCaptureFixture,
) -> None:
    desk = Desk(caplog)
    desk.shortage.note(WHY, desk.now, shed=3)
    assert desk.told() == [f"{WHY.why}: closed 3 idle connections to make room, refused 0 clients with 503"]
    for _ in range(4):
        desk.shortage.note(WHY, desk.now, refused=2)
    desk.shortage.note(Want(DESCRIPTORS, "other words"), desk.now)
    assert desk.told() == []
    desk.later(TOLD_EVERY_S + 1)
    assert desk.told() == [
        "other words: closed 0 idle connections to make room, refused 8 clients with 503, new clients wait"
    ]
    desk.shortage.note(WHY, desk.now, shed=1)
    desk.later(TOLD_EVERY_S + 1)
    assert desk.told() == [f"{WHY.why}: closed 1 idle connection to make room, refused 0 clients with 503"]


def test_totals_count_by_reason_since_the_start_and_a_wait_is_what_neither_closes_nor_refuses(
    caplog: pytest.LogCaptureFixture,
) -> None:
    desk = Desk(caplog)
    shortage, other = desk.shortage, Want(DESCRIPTORS, "none is left")
    assert (shortage.shed, shortage.refused, shortage.waits) == ({}, {}, {})
    for want, shed, refused in ((WHY, 2, 0), (other, 0, 3), (WHY, 0, 0), (WHY, 1, 1), (other, 4, 0), (WHY, 0, 0)):
        shortage.note(want, desk.now, shed=shed, refused=refused)
    assert shortage.shed == {CONNECTIONS: 3, DESCRIPTORS: 4}
    assert shortage.refused == {CONNECTIONS: 1, DESCRIPTORS: 3}
    assert shortage.waits == {CONNECTIONS: 2}
