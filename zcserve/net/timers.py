"""Deadlines, kept in order and re-armed lazily.

Whoever has a deadline says when it is due (`due()`), and may move it at any time without telling: a timer fires no
later than the deadline it was armed with, asks, and is armed anew when the answer lies in the future. So a busy
connection, whose idle deadline moves with every request, costs one re-arming per deadline and nothing per request.
Only a deadline that comes *earlier* than the armed one must be told (`arm`).
"""

from __future__ import annotations

from itertools import count
from math import inf
from typing import Protocol

from sortedcontainers import SortedList


class Timed(Protocol):
    """Something with a deadline. `armed` belongs to the timers."""

    armed: float

    def due(self) -> float:
        """The deadline on the monotonic clock, in seconds; inf for none."""

    def expire(self) -> None:
        """The deadline has passed."""


class Timers:
    """All deadlines of a loop."""

    def __init__(self) -> None:
        self._order: SortedList[tuple[float, int, Timed]] = SortedList()
        self._serial = count()

    def arm(self, timed: Timed) -> None:
        """Make sure that the timer fires at `timed.due()` at the latest."""
        due = timed.due()
        if due < timed.armed:
            timed.armed = due
            self._order.add((due, next(self._serial), timed))

    def timeout(self, now: float) -> float:
        """Seconds until the first timer fires, -1 for never; what `Poller.poll` takes."""
        return max(self._order[0][0] - now, 0.0) if self._order else -1

    def fire(self, now: float) -> None:
        """Expire what is due, re-arm what moved."""
        order = self._order
        while order and order[0][0] <= now:
            due, _, timed = order.pop(0)
            if timed.armed != due:
                continue  # was armed anew for an earlier time
            timed.armed = inf
            if timed.due() <= now:
                timed.expire()
            else:
                self.arm(timed)

    def nearest(self) -> list[Timed]:
        """Everything timed, the first armed deadline first."""
        return [timed for due, _, timed in self._order if timed.armed == due]
