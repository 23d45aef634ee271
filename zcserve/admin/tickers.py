"""Content that goes on: a piece now, and then one every so often, at the client's pace.

A piece is made when the one before is out and its time has come. A client that reads nothing has none made: what it
missed is not sent later. So a page that is left open in a machine that sleeps costs nothing until its connection ends.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from zcserve.net.loop import Loop
from zcserve.net.timers import Deadline
from zcserve.site.reply import Give


class Ticker:
    """A `Stream`. `make` gives the next piece, b"" at the end, and is called in the loop's thread."""

    def __init__(self, loop: Loop, every_s: float, make: Callable[[], bytes]) -> None:
        self._loop = loop
        self._every_s = every_s
        self._make = make
        self._give: Give | None = None
        self._deadline = Deadline(self._bring)
        self._last = -inf

    def pull(self, give: Give) -> None:
        """As `Stream.pull`."""
        self._give = give
        self._deadline.at = max(self._last + self._every_s, self._loop.now)
        self._loop.timers.arm(self._deadline)

    def close(self) -> None:
        """As `Stream.close`."""
        self._give = None
        self._deadline.at = inf
        self._loop.timers.disarm(self._deadline)

    def _bring(self) -> None:
        give, self._give = self._give, None
        self._deadline.at = inf
        if give is None:
            return
        self._last = self._loop.now
        try:
            piece = self._make()
        except Exception:
            give(None)  # the response is cut short
            raise
        give(piece)
