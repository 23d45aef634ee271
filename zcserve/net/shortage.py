"""Telling that there is no room: what was closed or turned away for it, in the log, and not for each client."""

from __future__ import annotations

from zcserve.log import Log
from zcserve.net.telling import Telling
from zcserve.net.timers import Timers

_log = Log(__name__)


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
        self._telling = Telling(timers, self._tell)

    def note(self, why: str, now: float, *, shed: int = 0, refused: int = 0) -> None:
        """Room was short, `why` says of what and what can be done. Neither shed nor refused: new clients wait."""
        self.shed += shed
        self.refused += refused
        self.waits += not (shed or refused)
        self._why = why
        self._telling.note(now)

    def _tell(self) -> None:
        shed, refused = self.shed - self._told_shed, self.refused - self._told_refused
        waited = self.waits != self._told_waits
        self._told_shed, self._told_refused, self._told_waits = self.shed, self.refused, self.waits
        told = "%s: %d idle connections were closed to make room, %d clients were refused with 503%s"
        _log.warning(told, self._why, shed, refused, ", new clients wait" if waited else "")
