"""zcserve.net.shortage: what is told of clients that found no room, and how often."""

from __future__ import annotations

import pytest

from zcserve.net.shortage import Shortage
from zcserve.net.telling import TOLD_EVERY_S
from zcserve.net.timers import Timers

WHY = "--connections-max 10 is reached"


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
    assert desk.told() == [f"{WHY}: 3 idle connections were closed to make room, 0 clients were refused with 503"]
    for _ in range(4):
        desk.shortage.note(WHY, desk.now, refused=2)
    desk.shortage.note("other words", desk.now)
    assert desk.told() == []
    desk.later(TOLD_EVERY_S + 1)
    assert desk.told() == [
        "other words: 0 idle connections were closed to make room, 8 clients were refused with 503, new clients wait"
    ]
    desk.shortage.note(WHY, desk.now, shed=1)
    desk.later(TOLD_EVERY_S + 1)
    assert desk.told() == [f"{WHY}: 1 idle connections were closed to make room, 0 clients were refused with 503"]


def test_totals_count_since_the_start_and_a_wait_is_what_neither_closes_nor_refuses(
    caplog: pytest.LogCaptureFixture,
) -> None:
    desk = Desk(caplog)
    assert (desk.shortage.shed, desk.shortage.refused, desk.shortage.waits) == (0, 0, 0)
    for shed, refused in ((2, 0), (0, 3), (0, 0), (1, 1), (0, 0)):
        desk.shortage.note(WHY, desk.now, shed=shed, refused=refused)
    assert (desk.shortage.shed, desk.shortage.refused, desk.shortage.waits) == (3, 4, 2)
