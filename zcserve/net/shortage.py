"""Telling that there is no room: what was closed or turned away for it, in the log, and not for each client.

The first of a series is told at once, and what follows is counted and told together, at most every `TOLD_EVERY_S`: a
flood of clients must not become a flood of lines.
"""

from __future__ import annotations

from math import inf

from zcserve.log import Log
from zcserve.net.timers import Deadline, Timers

_log = Log(__name__)

# Often enough to be seen beside the flood, seldom enough for a log that is read by people.
TOLD_EVERY_S = 10.0


class Shortage:
    """Counts what was `shed` (idle connections that were closed to make room), what was `refused` (clients that were
    answered with 503), and the `waits` (how often new clients were left in the kernel's queue). All are totals since
    the start."""

    def __init__(self, timers: Timers) -> None:
        self.shed = 0
        self.refused = 0
        self.waits = 0
        self._told_shed = 0
        self._told_refused = 0
        self._told_waits = 0
        self._why = ""
        self._timers = timers
        self._telling = Deadline(self._tell_on)

    def note(self, why: str, now: float, *, shed: int = 0, refused: int = 0) -> None:
        """Room was short, `why` says of what and what can be done. Neither shed nor refused: new clients wait."""
        self.shed += shed
        self.refused += refused
        self.waits += not (shed or refused)
        self._why = why
        if self._telling.at == inf:
            self._tell(now)

    def _tell(self, now: float) -> None:
        shed, refused = self.shed - self._told_shed, self.refused - self._told_refused
        waited = self.waits != self._told_waits
        self._told_shed, self._told_refused, self._told_waits = self.shed, self.refused, self.waits
        told = "%s: %d idle connections were closed to make room, %d clients were refused with 503%s"
        _log.warning(told, self._why, shed, refused, ", new clients wait" if waited else "")
        self._telling.at = now + TOLD_EVERY_S
        self._timers.arm(self._telling)

    def _tell_on(self) -> None:
        """The time for another line has come, if there is something to tell."""
        last, self._telling.at = self._telling.at, inf
        if (self.shed, self.refused, self.waits) != (self._told_shed, self._told_refused, self._told_waits):
            self._tell(last)
