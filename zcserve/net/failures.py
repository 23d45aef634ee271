"""Telling of answers that failed: 503, 504, and downloads that were cut, in the log, and not each of them.

There is a series (telling.py) for each reason; a line has the last request of it.
"""

from __future__ import annotations

import time

from zcserve.log import Log
from zcserve.net.telling import Telling
from zcserve.net.timers import Timers

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
        self._count = 0
        self._last = ""
        self._telling = Telling(timers, self._tell)

    def note(self, method: bytes, target: bytes) -> None:
        self._count += 1
        self._last = f"{(method or b'GET').decode('latin-1')} {target.decode('latin-1')}"
        self._telling.note(time.monotonic())

    def _tell(self) -> None:
        more = f" (the last of {self._count})" if self._count > 1 else ""
        _log.warning("%s: %s%s", self._last, self._what, more)
        self._count = 0
