"""Telling of answers that failed: 503, 504, and downloads that were cut, in the log, and not each of them.

Of each reason the first is told at once, with its request; what follows is counted, and told together with the last of
them, at most every `TOLD_EVERY_S` (as net/shortage.py does for clients that find no room).
"""

from __future__ import annotations

import time
from math import inf

from zcserve.log import Log
from zcserve.net.shortage import TOLD_EVERY_S
from zcserve.net.timers import Deadline, Timers

_log = Log(__name__)


class Failures:
    """All failed answers of a server, a series for each reason. In the loop's thread."""

    def __init__(self, timers: Timers) -> None:
        self._timers = timers
        self._series: dict[str, _Series] = {}

    def note(self, method: bytes, target: bytes, what: str) -> None:
        """An answer to this request failed; `what` was answered, and why. It names settings, and nothing of the
        request: there is a series for each."""
        if what not in self._series:
            self._series[what] = _Series(what, self._timers)
        self._series[what].note(method, target)


class _Series:
    """What failed for one reason, since that was told last."""

    def __init__(self, what: str, timers: Timers) -> None:
        self._what = what
        self._timers = timers
        self._count = 0
        self._last = ""
        self._telling = Deadline(self._tell_on)

    def note(self, method: bytes, target: bytes) -> None:
        self._count += 1
        self._last = f"{(method or b'GET').decode('latin-1')} {target.decode('latin-1')}"
        if self._telling.at == inf:
            self._tell(time.monotonic())

    def _tell(self, now: float) -> None:
        more = f" (the last of {self._count})" if self._count > 1 else ""
        _log.warning("%s: %s%s", self._last, self._what, more)
        self._count = 0
        self._telling.at = now + TOLD_EVERY_S
        self._timers.arm(self._telling)

    def _tell_on(self) -> None:
        """The time for another line has come, if there is something to tell."""
        last, self._telling.at = self._telling.at, inf
        if self._count:
            self._tell(last)
