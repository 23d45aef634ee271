"""Telling in the log what may come in a flood: the first of a series at once, what follows counted and told together.

A flood of clients must not become a flood of lines.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from zcserve.net.timers import Deadline, Timers

# Often enough to be seen beside the flood, seldom enough for a log that is read by people.
TOLD_EVERY_S = 10.0


class Telling:
    """Calls `tell` when there is news, and at most every TOLD_EVERY_S, and for what is left when the loop ends. In the
    loop's thread."""

    def __init__(self, timers: Timers, tell: Callable[[], object]) -> None:
        """`tell` writes the line of all that has come since it was called last."""
        self._timers = timers
        self._tell = tell
        self._has_news = False
        self._again = Deadline(self._tell_on)
        timers.ended.subscribe(self._tell_left)

    def note(self, now: float) -> None:
        """There is news, at this time of the loop."""
        self._has_news = True
        if self._again.at == inf:
            self._tell_now(now)

    def _tell_now(self, now: float) -> None:
        self._has_news = False
        self._tell()
        self._again.at = now + TOLD_EVERY_S
        self._timers.arm(self._again)

    def _tell_on(self) -> None:
        """The time for another line has come, if there is something to tell."""
        last, self._again.at = self._again.at, inf
        if self._has_news:
            self._tell_now(last)

    def _tell_left(self) -> None:
        """The loop has ended: no time for another line will come."""
        if self._has_news:
            self._has_news = False
            self._tell()
