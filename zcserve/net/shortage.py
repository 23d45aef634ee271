"""Telling that there is no room: what was closed or turned away for it, in the log, and not for each client."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from zcserve.config.units import counted
from zcserve.log import Log
from zcserve.net.telling import Telling
from zcserve.net.timers import Timers

_log = Log(__name__)

# What room can be short of. The last: questions of lanes to the first one (lane/asking.pxd), which lanes count.
CONNECTIONS, DESCRIPTORS, QUESTIONS = "connections_max", "descriptors", "questions"


class Want(NamedTuple):
    """What room is short of, by its name, and what the log says of it: why, and what can be done."""

    reason: str
    why: str


class Shortage:
    """Counts by reason what was `shed` (idle connections that were closed to make room), what was `refused` (clients
    that were answered with 503), and the `waits` (how often new clients were left in the kernel's queue). All are
    totals since the start."""

    def __init__(self, timers: Timers) -> None:
        self.shed: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.waits: Counter[str] = Counter()
        self._told_shed = 0
        self._told_refused = 0
        self._told_waits = 0
        self._why = ""
        self._telling = Telling(timers, self._tell)

    def note(self, want: Want, now: float, *, shed: int = 0, refused: int = 0) -> None:
        """Room was short. Neither shed nor refused: new clients wait."""
        if shed:
            self.shed[want.reason] += shed
        if refused:
            self.refused[want.reason] += refused
        if not (shed or refused):
            self.waits[want.reason] += 1
        self._why = want.why
        self._telling.note(now)

    def _tell(self) -> None:
        totals = self.shed.total(), self.refused.total(), self.waits.total()
        shed, refused = totals[0] - self._told_shed, totals[1] - self._told_refused
        waited = totals[2] != self._told_waits
        self._told_shed, self._told_refused, self._told_waits = totals
        idle, clients = counted(shed, "idle connection"), counted(refused, "client")
        told = "%s: closed %s to make room, refused %s with 503%s"
        _log.warning(told, self._why, idle, clients, ", new clients wait" if waited else "")
