"""Whether the body of a request comes fast enough.

The clock runs in windows of `body_timeout_s`. Each must bring `body_rate_min` bytes for each of its seconds, or the
body must be complete in it: a byte now and then is not enough, however much came before.
"""

from __future__ import annotations

from math import ceil

from zcserve.config.table import Config


class Pace:
    """Of one body. `since` is when the window at hand began, a time of the loop."""

    __slots__ = ("_counted", "_wanted", "_window_s", "since")

    def __init__(self, config: Config, now: float) -> None:
        self.since = now
        self._window_s = config.body_timeout_s
        self._wanted = max(1, ceil(config.body_rate_min * config.body_timeout_s))
        self._counted = 0  # how much had come when the window began

    def due(self) -> float:
        """When the window is over."""
        return self.since + self._window_s

    def suffices(self, taken: int, now: float) -> bool:
        """The window is over, and `taken` bytes have come since the beginning: another one begins, if that is
        enough."""
        if taken - self._counted < self._wanted:
            return False
        self.since, self._counted = now, taken
        return True
